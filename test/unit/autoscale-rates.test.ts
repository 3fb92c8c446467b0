// operator/core/rates.ts: rates from a broker's counters, and what is unknown.
import { describe, expect, test } from 'vitest';
import { type BacklogSample, foldBacklog, type RateState } from '../../operator/core/autoscale/rates.ts';

const sample = (second: number, more: Partial<BacklogSample> = {}): BacklogSample => ({
  messages: 10,
  outstandingMessages: 4,
  oldestUnackedAgeMs: 300,
  consumers: 2,
  appendedTotal: 0,
  ackedTotal: 0,
  redeliveredTotal: 0,
  measureTimeMs: second * 1000,
  ...more,
});

/** Folds in one sample a second, with so many messages appended and acked in each. */
function steady(seconds: number, appended: number, acked: number, from?: RateState): RateState {
  let state = from;
  for (let i = 0; i < seconds; i += 1) {
    const last = state?.sample ?? sample(-1);
    const second = last.measureTimeMs / 1000 + 1;
    const next = sample(second, {
      appendedTotal: last.appendedTotal + appended,
      ackedTotal: last.ackedTotal + acked,
    });
    state = foldBacklog(state, next, second * 1000);
  }
  return state!;
}

describe('rates from counters', () => {
  test('one measurement has none: unknown is not zero', () => {
    const { load } = foldBacklog(undefined, sample(0, { appendedTotal: 1_000_000 }), 5);
    expect(load).toMatchObject({ receivedAtMs: 5, messages: 10, outstanding: 4, consumers: 2 });
    expect(load.arrivalFast).toBeUndefined();
    expect(load.ackRate).toBeUndefined();
  });

  test('two have the mean of what lies between', () => {
    const { load } = steady(2, 100, 60);
    expect(load).toMatchObject({
      arrivalNow: 100,
      arrivalFast: 100,
      arrivalSlow: 100,
      ackRate: 60,
      settledTotal: 60,
    });
  });

  test('the fast rate follows in seconds, the slow one in minutes', () => {
    const { load } = steady(15, 1000, 0, steady(1200, 100, 0));
    expect(load.arrivalNow).toBe(1000);
    expect(load.arrivalFast).toBeCloseTo(100 + 900 * (1 - Math.exp(-1)), 0);
    expect(load.arrivalSlow).toBeCloseTo(100 + 900 * (1 - Math.exp(-1 / 8)), 0);
  });

  test('a counter that went down has started anew: that interval says nothing', () => {
    const before = steady(60, 100, 50);
    const after = foldBacklog(before, sample(60, { appendedTotal: 40, ackedTotal: 10 }), 60_000);
    expect(after.load).toMatchObject({ receivedAtMs: 60_000, arrivalFast: 100, ackRate: 50 });
    expect(after.load.settledTotal).toBe(before.load.settledTotal);
    const next = foldBacklog(after, sample(61, { appendedTotal: 140, ackedTotal: 60 }), 61_000);
    expect(next.load.arrivalFast).toBeCloseTo(100);
    expect(next.load.settledTotal).toBe(before.load.settledTotal + 50);
  });

  test('the same measurement again, or an older one, is no news', () => {
    const before = steady(3, 100, 50);
    expect(foldBacklog(before, sample(2, { messages: 99 }), 9000)).toBe(before);
    expect(foldBacklog(before, sample(1, { messages: 99 }), 9000)).toBe(before);
  });

  test('a clock that was set back far begins anew', () => {
    const { load } = foldBacklog(steady(600, 100, 50), sample(10), 600_000);
    expect(load).toMatchObject({ receivedAtMs: 600_000, messages: 10 });
    expect(load.arrivalFast).toBeUndefined();
  });

  test('after an outage the rate is the mean over it', () => {
    const before = steady(60, 100, 50);
    const { load } = foldBacklog(
      before,
      sample(659, { appendedTotal: 6000 + 300 * 600, ackedTotal: 50_000 }),
      0,
    );
    expect(load.arrivalFast).toBeCloseTo(300, 0);
  });
});
