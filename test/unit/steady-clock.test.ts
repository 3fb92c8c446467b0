// Time that no step of a clock makes wrong for long, and what retention makes of it.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import { type EngineRig, SUBSCRIPTION, startEngine, TOPIC } from '../support/engine-rig.ts';
import { cases } from '../support/property.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const YEAR_MS = 365 * DAY_MS;
const STEPS = [-20 * YEAR_MS, -8 * DAY_MS, -HOUR_MS, -10_000, 10_000, HOUR_MS, 8 * DAY_MS, 50 * YEAR_MS];

function steady(): { clock: VirtualClock; steady: SteadyClock; said: string[] } {
  const clock = new VirtualClock();
  const said: string[] = [];
  const say = (_fields: object, message: string): void => void said.push(message);
  return { clock, said, steady: new SteadyClock(clock, { info: say, warn: say, error: say }) };
}

test('a step of a moment dates nothing wrongly, and is said', async () => {
  for (const byMs of STEPS) {
    const { clock, steady: time, said } = steady();
    const before = time.datedMs();
    clock.jumpWallClock(byMs);
    for (let seconds = 1; seconds <= 50; seconds += 1) {
      await clock.advance(1_000);
      expect(time.datedMs() - before).toBe(seconds * 1_000);
    }
    clock.jumpWallClock(-byMs);
    await clock.advance(1_000);
    expect(time.datedMs() - before).toBe(51_000);
    expect(said).toEqual([expect.stringContaining('was set')]);
  }
});

test('dates and ages are whole milliseconds, as messages and answers carry them', () => {
  let monotonicMs = 1_000.25;
  const clock = { nowMs: () => 1_700_000_000_000, monotonicMs: () => monotonicMs };
  const silent = (): void => {};
  const time = new SteadyClock(clock as Clock, { info: silent, warn: silent, error: silent });
  for (let turn = 0; turn < 100; turn += 1) {
    monotonicMs += 0.37;
    expect(Number.isInteger(time.datedMs())).toBe(true);
    expect(Number.isInteger(time.elapsedMs())).toBe(true);
  }
});

test('a step that lasts is followed by the dates a minute later, and never by elapsed time', async () => {
  for (const byMs of STEPS) {
    const { clock, steady: time } = steady();
    const before = time.elapsedMs();
    clock.jumpWallClock(byMs);
    for (let seconds = 0; seconds < 70; seconds += 1) {
      time.datedMs();
      await clock.advance(1_000);
    }
    expect(time.datedMs()).toBe(clock.nowMs());
    expect(time.elapsedMs() - before).toBe(70_000);
  }
});

test('property: elapsed time is what passes, within a hundredth, whatever the clock is set to', async () => {
  const event = fc.record({
    afterMs: fc.integer({ min: 1, max: 100_000 }),
    byMs: fc.constantFrom(...STEPS, 0, 500, -1_500),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 30 }), async (events) => {
      const { clock, steady: time } = steady();
      const before = time.elapsedMs();
      let passedMs = 0;
      for (const { afterMs, byMs } of events) {
        await clock.advance(afterMs);
        passedMs += afterMs;
        clock.jumpWallClock(byMs);
        time.datedMs();
        expect(Math.abs(time.elapsedMs() - before - passedMs)).toBeLessThanOrEqual(passedMs / 100 + 1);
      }
    }),
    cases(200),
  );
});

describe('guarantee 1: retention by time', () => {
  const run = <T>({ clock }: EngineRig, work: Promise<T>): Promise<T> => clock.finish(work);

  async function waiting(rig: EngineRig): Promise<number> {
    const [report] = await rig.broker.backlog.report('projects/p', [SUBSCRIPTION]);
    return report!.messages;
  }

  for (const byMs of STEPS) {
    test(`deletes nothing because the clock was set by ${byMs} ms, and goes on`, async () => {
      const rig = await startEngine({ retentionMs: 2 * HOUR_MS });
      await run(rig, rig.publish('a'));
      await rig.clock.advance(10_000);
      rig.clock.jumpWallClock(byMs);
      await rig.clock.advance(20_000);
      await run(rig, rig.publish('b'));
      // The step is for good: the dates follow.
      await rig.clock.advance(100_000);
      await run(rig, rig.publish('c'));
      await rig.clock.advance(HOUR_MS);
      expect(await waiting(rig)).toBe(3);
      await rig.clock.advance(1.1 * HOUR_MS);
      expect(await waiting(rig)).toBe(0);
      await run(rig, rig.publish('d'));
      await rig.clock.advance(1.9 * HOUR_MS);
      expect(await waiting(rig)).toBe(1);
      await rig.clock.advance(0.3 * HOUR_MS);
      expect(await waiting(rig)).toBe(0);
    });
  }

  test('waits for a clock that is wrong when the broker starts', async () => {
    const before = await startEngine({ retentionMs: 7 * DAY_MS });
    await run(before, before.publish('a'));
    await before.clock.advance(10_000);
    await run(before, before.broker.stop());
    before.clock.jumpWallClock(8 * DAY_MS);
    const rig = await startEngine({ after: before });
    await rig.clock.advance(120_000);
    rig.clock.jumpWallClock(-8 * DAY_MS);
    await rig.clock.advance(DAY_MS);
    expect(await waiting(rig)).toBe(1);
    await rig.clock.advance(6.2 * DAY_MS);
    expect(await waiting(rig)).toBe(0);
  });

  test('keeps what a clock that was far ahead has dated no longer than from the start of the next broker on', async () => {
    const before = await startEngine({ retentionMs: 2 * HOUR_MS });
    before.clock.jumpWallClock(YEAR_MS);
    await before.clock.advance(10_000);
    await before.clock.advance(100_000);
    await run(before, before.publish('a'));
    await run(before, before.broker.stop());
    before.clock.jumpWallClock(-YEAR_MS);
    const rig = await startEngine({ after: before });
    await rig.clock.advance(1.9 * HOUR_MS);
    expect(await waiting(rig)).toBe(1);
    await rig.clock.advance(0.2 * HOUR_MS);
    expect(await waiting(rig)).toBe(0);
  });

  test('counts the time in which the broker was not running', async () => {
    const before = await startEngine({ retentionMs: 2 * HOUR_MS });
    await run(before, before.publish('a'));
    await before.clock.advance(10_000);
    await run(before, before.broker.stop());
    await before.clock.advance(3 * HOUR_MS);
    const rig = await startEngine({ after: before });
    await rig.clock.advance(5_000);
    expect(await waiting(rig)).toBe(1);
    await rig.clock.advance(HOUR_MS / 4);
    expect(await waiting(rig)).toBe(0);
  });

  test('after a clock that was ahead was put right, messages are dated rightly again', async () => {
    const rig = await startEngine({ retentionMs: DAY_MS });
    rig.clock.jumpWallClock(8 * DAY_MS);
    await run(rig, rig.publish('a'));
    await rig.clock.advance(100_000);
    await run(rig, rig.publish('b'));
    rig.clock.jumpWallClock(-8 * DAY_MS);
    await rig.clock.advance(10_000);
    await run(rig, rig.publish('c'));
    await rig.clock.advance(100_000);
    await run(rig, rig.publish('d'));
    const id = { logEpoch: rig.definitions.getTopic(TOPIC).logEpoch, partition: 0 };
    const infos = await rig.stores.log.describe(id, 0, 10);
    const ages = infos.map(({ publishTimeMs }) => Math.round((rig.clock.nowMs() - publishTimeMs) / DAY_MS));
    // The first was dated before the step counted, the third before its end did.
    expect(ages).toEqual([0, -8, -8, 0]);
  });
});
