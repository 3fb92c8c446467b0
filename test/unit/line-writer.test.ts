// Lines for somebody who does not read them: nothing waits for him, memory is bounded, what is lost is
// counted and told, and what must not be lost goes first.
import { expect, test } from 'vitest';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import { LOG_EXIT_MS, LOG_RETRY_MS, MAX_WAITING_LOG_BYTES } from '../../services/broker/limits.ts';
import { LineWriter } from '../../services/broker/line-writer.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

/** A pipe that takes so many bytes until it is read. */
class FakePipe {
  room: number;
  written = '';
  failure = 'EAGAIN';
  writes = 0;

  constructor(room: number) {
    this.room = room;
  }

  write(bytes: Uint8Array): number {
    this.writes += 1;
    const taken = Math.min(this.room, bytes.length);
    if (taken === 0) throw Object.assign(new Error('full'), { code: this.failure });
    this.room -= taken;
    this.written += Buffer.from(bytes.subarray(0, taken)).toString();
    return taken;
  }

  get lines(): string[] {
    return this.written.split('\n').slice(0, -1);
  }
}

function rig({
  room = Number.POSITIVE_INFINITY,
  maxBytes = MAX_WAITING_LOG_BYTES,
  clock = new VirtualClock() as Clock,
} = {}) {
  const pipe = new FakePipe(room);
  const writer = new LineWriter({ target: pipe, clock, maxBytes, retryMs: LOG_RETRY_MS });
  const told: number[] = [];
  writer.onDropped((lines) => told.push(lines));
  return { pipe, writer, told };
}

test('a line is written before the call returns, and leaves no timer', () => {
  const clock = new VirtualClock();
  const { pipe, writer } = rig({ clock });
  writer.write('one\n');
  writer.write('two\n', 'kept');
  expect(pipe.lines).toEqual(['one', 'two']);
  expect(clock.timerCount).toBe(0);
});

test('what a full pipe does not take waits up to the bound, and goes out whole and in order', async () => {
  const clock = new VirtualClock();
  const { pipe, writer, told } = rig({ room: 7, clock });
  const line = (i: number): string => `${String(i).padStart(1023, '0')}\n`;
  for (let i = 0; i < 2_000; i += 1) writer.write(line(i));
  // The first one has begun. It waits beside the bound.
  const held = MAX_WAITING_LOG_BYTES / 1024 + 1;
  expect(writer.dropped).toEqual({ kept: 0, others: 2_000 - held });
  expect(pipe.written).toBe('0000000');
  // While the pipe is full a line costs no attempt of its own.
  expect(pipe.writes).toBe(2);

  pipe.room = 1024;
  await clock.advance(LOG_RETRY_MS);
  expect(told).toEqual([]);
  pipe.room = Number.POSITIVE_INFINITY;
  await clock.advance(LOG_RETRY_MS - 1);
  expect(pipe.lines).toHaveLength(1);
  await clock.advance(1);
  expect(pipe.lines).toEqual(Array.from({ length: held }, (_, i) => line(i).trimEnd()));
  expect(told).toEqual([2_000 - held]);
  writer.write('later\n');
  expect(pipe.lines.at(-1)).toBe('later');
  expect(told).toHaveLength(1);
  expect(clock.timerCount).toBe(0);
});

test('kept lines take the place of others, the newest first, and are dropped only for want of others', async () => {
  const clock = new VirtualClock();
  const { pipe, writer } = rig({ room: 0, maxBytes: 40, clock });
  // The first one has begun, and stays.
  for (const name of 'abcde') writer.write(`${name.repeat(9)}\n`);
  writer.write('kept 1---\n', 'kept');
  expect(writer.dropped).toEqual({ kept: 0, others: 1 });
  for (const n of [2, 3, 4]) writer.write(`kept ${n}---\n`, 'kept');
  expect(writer.dropped).toEqual({ kept: 0, others: 4 });
  writer.write('kept 5---\n', 'kept');
  writer.write('other----\n');
  expect(writer.dropped).toEqual({ kept: 1, others: 5 });
  pipe.room = 1_000;
  await clock.advance(LOG_RETRY_MS);
  expect(pipe.lines).toEqual(['aaaaaaaaa', 'kept 1---', 'kept 2---', 'kept 3---', 'kept 4---']);
});

test('kept and other lines stay in the order in which they came', async () => {
  const clock = new VirtualClock();
  const { pipe, writer } = rig({ room: 0, clock });
  for (let i = 0; i < 6; i += 1) writer.write(`${i}\n`, i % 3 === 0 ? 'kept' : 'other');
  pipe.room = 1_000;
  await clock.advance(LOG_RETRY_MS);
  expect(pipe.lines).toEqual(['0', '1', '2', '3', '4', '5']);
});

test('the loss is told as soon as there is room for the telling, by a line that is not lost', async () => {
  const clock = new VirtualClock();
  const { pipe, writer } = rig({ room: 0, maxBytes: 100, clock });
  writer.onDropped((lines) => writer.write(`lost ${lines}\n`));
  for (let i = 0; i < 15; i += 1) writer.write('123456789\n');
  pipe.room = 1_000;
  await clock.advance(LOG_RETRY_MS);
  expect(pipe.lines.at(-1)).toBe('lost 4');
});

test.each(['ENOSPC', 'EDQUOT', 'EINTR'])('%s is waited for like a full pipe', async (code) => {
  const clock = new VirtualClock();
  const { pipe, writer } = rig({ room: 0, clock });
  pipe.failure = code;
  writer.write('one\n');
  pipe.room = 100;
  await clock.advance(LOG_RETRY_MS);
  expect(pipe.lines).toEqual(['one']);
});

test('a reader that is gone takes nothing, costs nothing, and every line counts as dropped', () => {
  const clock = new VirtualClock();
  const { pipe, writer, told } = rig({ room: 0, clock });
  pipe.failure = 'EPIPE';
  for (let i = 0; i < 3; i += 1) writer.write('line\n');
  writer.write('change\n', 'kept');
  expect(writer.dropped).toEqual({ kept: 1, others: 3 });
  expect(told).toEqual([]);
  expect(clock.timerCount).toBe(0);
});

test('the end waits for the last lines: until they are taken, or its time is over', () => {
  let soon = 3;
  const { pipe, writer } = rig({ room: 0, clock: { ...nodeClock, setTimer: () => () => {} } });
  const write = pipe.write.bind(pipe);
  pipe.write = (bytes) => {
    soon -= 1;
    if (soon === 0) pipe.room = 1_000;
    return write(bytes);
  };
  writer.write('why it died\n', 'kept');
  writer.flush(60_000);
  expect(pipe.lines).toEqual(['why it died']);

  pipe.room = 0;
  writer.write('nobody reads\n');
  const beganMs = performance.now();
  writer.flush(LOG_EXIT_MS);
  expect(performance.now() - beganMs).toBeGreaterThanOrEqual(LOG_EXIT_MS);
  expect(performance.now() - beganMs).toBeLessThan(LOG_EXIT_MS * 10);
});
