// When a message that was written to a pipe counts as read, and how much a pipe is given at a time: with a
// clock and a pipe of our own, and readers that read slowly, or go away.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PipeLag } from '../../services/cli/pipe-lag.ts';
import { PipeRounds, ROUND_MS } from '../../services/cli/pipe-rounds.ts';
import { cases } from '../support/property.ts';

const REST_MS = 1_000;
const options = { capacityBytes: 1_000, leastBytes: 100, restMs: REST_MS };

/** Writes one item of this size, which the pipe takes at once. */
function write(lag: PipeLag<string>, item: string, bytes: number, nowMs: number): void {
  lag.writes(bytes, true, nowMs);
  lag.wrote([[item, bytes]], nowMs);
}

test('what is no pipe has everything as soon as it is written', () => {
  const lag = new PipeLag<string>({ ...options, capacityBytes: 0 });
  write(lag, 'a', 5, 0);
  expect(lag.read(0)).toEqual(['a']);
  expect(lag.size).toBe(0);
});

test('a message counts as read once the pipe has rested for a while', () => {
  const lag = new PipeLag<string>(options);
  write(lag, 'a', 5, 0);
  write(lag, 'b', 5, 400);
  expect(lag.nextMs).toBe(REST_MS);
  expect(lag.read(999)).toEqual([]);
  expect(lag.read(1_000)).toEqual(['a']);
  expect(lag.nextMs).toBe(1_400);
  expect(lag.read(1_400)).toEqual(['b']);
  expect(lag.nextMs).toBe(Number.POSITIVE_INFINITY);
});

test('at once when more than a pipe holds was written behind it', () => {
  const lag = new PipeLag<string>(options);
  write(lag, 'a', 10, 0);
  write(lag, 'b', 999, 0);
  expect(lag.read(0)).toEqual([]);
  write(lag, 'c', 1, 0);
  expect(lag.read(0)).toEqual(['a']);
  expect(lag.size).toBe(2);
});

test('while the pipe is full time says nothing, and bytes that it has not taken say nothing', () => {
  const lag = new PipeLag<string>(options);
  write(lag, 'a', 900, 0);
  lag.writes(5_000, false, 0);
  expect(lag.nextMs).toBe(Number.POSITIVE_INFINITY);
  expect(lag.read(1_000_000)).toEqual([]);
  expect(lag.takeAll()).toEqual(['a']);
});

test('a pipe that is full shows how much it holds, but for what others have written to it', () => {
  const lag = new PipeLag<string>(options);
  write(lag, 'a', 200, 0);
  lag.writes(100, false, 0);
  lag.wrote([['b', 100]], 10);
  expect(lag.read(10)).toEqual([]);
  write(lag, 'c', 200, 10);
  // 300 bytes lie behind it, and the pipe was full at 300.
  expect(lag.read(10)).toEqual(['a']);

  const shared = new PipeLag<string>(options);
  shared.writes(20, false, 0);
  shared.wrote([['a', 20]], 1);
  write(shared, 'b', 20, 1);
  expect(shared.read(1)).toEqual([]);
});

test('a slow reader is given the time for the rest that it took for the last pipeful', () => {
  const lag = new PipeLag<string>({ ...options, capacityBytes: 100 });
  let nowMs = 0;
  for (let n = 0; n < 20; n++) {
    lag.writes(10, false, nowMs);
    nowMs += 5_000;
    lag.wrote([[`${n}`, 10]], nowMs);
  }
  // Ten are in the pipe, at five seconds each.
  expect(lag.read(nowMs)).toHaveLength(10);
  expect(lag.read(nowMs + 4_000)).toEqual([]);
  expect(lag.read(nowMs + 20_000).length).toBeLessThanOrEqual(5);
  lag.read(nowMs + 50_000);
  expect(lag.size).toBe(0);
  // A later item meets a reader that has caught up.
  write(lag, 'z', 1, nowMs + 60_000);
  expect(lag.read(nowMs + 61_000)).toEqual(['z']);
});

/** A pipe with a reader that takes bytes at its own pace. */
class ModelPipe {
  readonly capacityBytes: number;
  written = 0;
  read = 0;

  constructor(capacityBytes: number) {
    this.capacityBytes = capacityBytes;
  }

  get room(): number {
    return this.capacityBytes - (this.written - this.read);
  }
}

test('however a reader reads that never rests for a second, nothing counts as read that it has not read', () => {
  const steps = fc.array(
    fc.record({ bytes: fc.integer({ min: 1, max: 60 }), reads: fc.nat(80), ms: fc.nat(300) }),
    { maxLength: 60 },
  );
  fc.assert(
    fc.property(steps, fc.constantFrom(100, 150, 1_000), (script, capacity) => {
      const pipe = new ModelPipe(capacity);
      const lag = new PipeLag<number>({ capacityBytes: 1_000, leastBytes: 100, restMs: Infinity });
      let nowMs = 0;
      const check = () => {
        for (const end of lag.read(nowMs)) expect(pipe.read).toBeGreaterThanOrEqual(end);
      };
      let end = 0;
      for (const { bytes, reads, ms } of script) {
        const isTakenAtOnce = pipe.room >= bytes;
        lag.writes(bytes, isTakenAtOnce, nowMs);
        check();
        // A full pipe takes the rest as its reader makes room.
        if (!isTakenAtOnce) pipe.read += bytes - pipe.room;
        nowMs += ms;
        pipe.written += bytes;
        end += bytes;
        lag.wrote([[end, bytes]], nowMs);
        check();
        pipe.read = Math.min(pipe.written, pipe.read + reads);
        check();
      }
    }),
    cases(2_000),
  );
});

/** The sizes of the rounds in which so many messages of one size are written, and how long they take. */
function roundsOf(messages: number, bytes: number): { sizes: number[]; ms: number } {
  const rounds = new PipeRounds();
  const sizes: number[] = [];
  let nowMs = 0;
  for (let left = messages; left > 0; ) {
    nowMs = Math.max(nowMs, rounds.nextMs(left));
    const count = rounds.begin(left, () => bytes, nowMs);
    sizes.push(count);
    left -= count;
  }
  return { sizes, ms: nowMs };
}

test('a pipe is given one message, then two, then four, and the last always by itself', () => {
  expect(roundsOf(1, 10)).toEqual({ sizes: [1], ms: 0 });
  expect(roundsOf(2, 10)).toEqual({ sizes: [1, 1], ms: ROUND_MS });
  expect(roundsOf(3, 10).sizes).toEqual([1, 1, 1]);
  expect(roundsOf(10, 10).sizes).toEqual([1, 2, 4, 2, 1]);
  expect(roundsOf(100, 10).sizes).toEqual([1, 2, 4, 8, 16, 32, 36, 1]);
});

test('in the long run rounds are as large as they may be, with nothing between them', () => {
  const { sizes, ms } = roundsOf(1_000_000, 10);
  expect(sizes.slice(0, 12)).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 6_554]);
  expect(sizes.at(-1)).toBe(1);
  expect(ms).toBeLessThan(15 * ROUND_MS);
  expect(roundsOf(1_000, 100_000).ms).toBeLessThan(5 * ROUND_MS);
});

test('after a rest it begins anew', () => {
  const rounds = new PipeRounds();
  for (let n = 0; n < 12; n++) rounds.begin(10_000, () => 10, 0);
  rounds.rest();
  expect(rounds.begin(10_000, () => 10, 0)).toBe(1);
});
