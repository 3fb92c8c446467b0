// The clocks of broker and operator, which share no code and keep the same promises: timers are never early,
// are due at once if their time is past, and may be longer than Node allows.
import { afterEach, describe, expect, test, vi } from 'vitest';
import { systemClock } from '../../operator/kube/clock.ts';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe.each([
  ['broker', nodeClock],
  ['operator', systemClock],
])('the clock of the %s', (_, clock) => {
  test('a timer never fires early', async () => {
    for (const delayMs of [0, 1.2, 3.7]) {
      const before = clock.monotonicMs();
      await new Promise<void>((resolve) => clock.setTimer(delayMs, resolve));
      expect(clock.monotonicMs() - before).toBeGreaterThanOrEqual(delayMs);
    }
  });

  test('a timer can be cancelled, and can be longer than Node allows', () => {
    vi.useFakeTimers();
    const fired: string[] = [];
    const day = 86_400_000;
    clock.setTimer(40 * day, () => fired.push('long'));
    clock.setTimer(day, () => fired.push('cancelled'))();
    vi.advanceTimersByTime(39 * day);
    expect(fired).toEqual([]);
    vi.advanceTimersByTime(1.1 * day);
    expect(fired).toEqual(['long']);
    expect(vi.getTimerCount()).toBe(0);
  });

  test('a timer whose time is past fires at once', async () => {
    vi.useFakeTimers();
    const fired: number[] = [];
    const set = vi.spyOn(globalThis, 'setTimeout');
    clock.setTimer(-5, () => fired.push(-5));
    expect(set.mock.calls.map(([, delayMs]) => delayMs)).toEqual([0]);
    vi.advanceTimersByTime(1);
    expect(fired).toEqual([-5]);
  });
});

test('deferred work comes after what is already due', async () => {
  const order: string[] = [];
  await new Promise<void>((resolve) => {
    nodeClock.defer(() => {
      order.push('deferred');
      resolve();
    });
    queueMicrotask(() => order.push('microtask'));
    process.nextTick(() => order.push('tick'));
  });
  expect(order.at(-1)).toBe('deferred');
});
