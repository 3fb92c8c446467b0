// The faulty store does what it says: faults that lie would make simulations prove nothing.
import { expect, test } from 'vitest';
import { chunksAfter, expectCode } from '../conformance/harness.ts';
import { withFaults } from '../support/faulty-store.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { seededRandom } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const P = { logEpoch: 1, partition: 0 };
const CHUNK = chunksAfter({ endOffset: 0, endByte: 0 }, [10]);
const endOf = async (inner: ReturnType<typeof createMemoryStore>) => (await inner.log.bounds(P)).endOffset;

test('down, full and failing before the write change nothing', async () => {
  const inner = createMemoryStore();
  const faulty = withFaults(inner, seededRandom(1), new VirtualClock());
  for (const [fault, code] of [
    [{ down: true }, 'UNAVAILABLE'],
    [{ full: true }, 'RESOURCE_EXHAUSTED'],
    [{ failBefore: 1 }, 'UNAVAILABLE'],
  ] as const) {
    Object.assign(faulty.faults, fault);
    await expectCode(faulty.log.append(P, 0, 0, CHUNK), code);
    expect(await endOf(inner)).toBe(0);
    Object.assign(faulty.faults, { down: false, full: false, failBefore: 0 });
  }
  await faulty.log.append(P, 0, 0, CHUNK);
  expect(await endOf(inner)).toBe(1);
  expect(faulty.struck).toEqual({ down: 1, full: 1, failBefore: 1, slow: 0, timeoutAfter: 0 });
});

test('a full store does what needs no room; one that is down does nothing', async () => {
  const faulty = withFaults(createMemoryStore(), seededRandom(1), new VirtualClock(), { full: true });
  expect(await faulty.log.bounds(P)).toMatchObject({ endOffset: 0 });
  await faulty.log.trim(P, 0, 0, 1);
  expect(await faulty.cursors.commit([])).toEqual([]);
  await expectCode(faulty.definitions.put('topic', 'new', '{}', 0), 'RESOURCE_EXHAUSTED');
  faulty.faults.down = true;
  await expectCode(faulty.log.bounds(P), 'UNAVAILABLE');
});

test('a time-out after the write has written', async () => {
  const inner = createMemoryStore();
  const faulty = withFaults(inner, seededRandom(1), new VirtualClock(), { timeoutAfter: 1 });
  await expectCode(faulty.log.append(P, 0, 0, CHUNK), 'UNAVAILABLE');
  expect(await endOf(inner)).toBe(1);
});

test('a slow call takes its time on the clock', async () => {
  const clock = new VirtualClock();
  const faulty = withFaults(createMemoryStore(), seededRandom(1), clock, { slow: 1, slowMs: 70 });
  let doneAtMs = -1;
  void faulty.log.append(P, 0, 0, CHUNK).then(() => {
    doneAtMs = clock.monotonicMs();
  });
  await clock.runUntil(() => doneAtMs >= 0);
  expect(doneAtMs).toBe(70);
});

test('the same seed gives the same faults', async () => {
  const run = async (seed: number) => {
    const faulty = withFaults(createMemoryStore(), seededRandom(seed), new VirtualClock(), {
      failBefore: 0.3,
    });
    const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => faulty.log.bounds(P)));
    return outcomes.map(({ status }) => status).join();
  };
  expect(await run(7)).toBe(await run(7));
  expect(await run(7)).not.toBe(await run(8));
});

test('the memory store on a clock takes effect after its latency, and outlives whoever called', async () => {
  const clock = new VirtualClock();
  const store = createMemoryStore({ clock, latencyMs: () => 5 });
  let acknowledged = false;
  void store.log.append(P, 0, 0, CHUNK).then(() => {
    acknowledged = true;
  });
  await clock.advance(4);
  expect(acknowledged).toBe(false);
  await clock.advance(1);
  expect(acknowledged).toBe(true);
});
