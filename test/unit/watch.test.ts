// adapters/grpc/watch.ts: places of watchers, and waiting for the next change.
import { expect, test } from 'vitest';
import { ChangeFlag, WatchSlots } from '../../services/broker/adapters/grpc/watch.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

test('slots are bounded and given back', () => {
  const slots = new WatchSlots(2);
  slots.take();
  {
    using _second = slots.take();
    expect(() => slots.take()).toThrow(expect.objectContaining({ code: 'RESOURCE_EXHAUSTED' }));
  }
  slots.take();
});

test('a change is not lost between two waits, and several are one', async () => {
  const { signal } = new AbortController();
  const flag = new ChangeFlag();
  flag.raise();
  flag.raise();
  await flag.wait(signal);
  let woken = false;
  const waiting = flag.wait(signal).then(() => (woken = true));
  await Promise.resolve();
  expect(woken).toBe(false);
  flag.raise();
  await waiting;
});

test('waiting ends at the time, after a change and what follows it closely, or when aborted', async () => {
  const clock = new VirtualClock();
  const stream = new AbortController();
  const flag = new ChangeFlag();
  const ended: number[] = [];
  const wait = () =>
    flag.waitAtMost(1000, 25, clock, stream.signal).then(() => ended.push(clock.monotonicMs()));

  const first = wait();
  await clock.advance(1000);
  await first;
  const second = wait();
  await clock.advance(100);
  flag.raise();
  await clock.advance(10);
  flag.raise();
  await clock.advance(15);
  await second;
  const third = wait();
  await clock.advance(50);
  stream.abort();
  await third;
  expect(ended).toEqual([1000, 1125, 1175]);
  expect(clock.timerCount).toBe(0);
});
