// adapters/grpc/watch.ts: places of watchers, and waiting for the next change.
import { expect, test } from 'vitest';
import { ChangeFlag, WatchSlots } from '../../services/broker/adapters/grpc/watch.ts';
import {
  MAX_WATCHES,
  MAX_WATCHES_PER_PRINCIPAL,
  RESERVED_BACKLOG_WATCHES,
  WATCH_LIMITS,
} from '../../services/broker/limits.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const refused = expect.objectContaining({ code: 'RESOURCE_EXHAUSTED' });

test('slots are bounded and given back', () => {
  const slots = new WatchSlots({ max: 2, maxPerPrincipal: 2, reserved: 0 });
  slots.take('alice', 'backlog');
  {
    using _second = slots.take('alice', 'routes');
    expect(() => slots.take('bob', 'backlog')).toThrow(refused);
  }
  slots.take('bob', 'backlog');
});

test('so many streams may watch, so many of a principal, and so many are for backlogs', () => {
  const slots = new WatchSlots(WATCH_LIMITS);
  const take = (count: number, principal: string, what: 'backlog' | 'routes'): void => {
    for (let nth = 0; nth < count; nth += 1) slots.take(principal, what);
  };
  take(MAX_WATCHES_PER_PRINCIPAL, 'alice', 'routes');
  expect(() => slots.take('alice', 'backlog')).toThrow(
    expect.objectContaining({
      message: expect.stringMatching(/^alice has 1000 streams that watch, which is/),
    }),
  );
  take(MAX_WATCHES - RESERVED_BACKLOG_WATCHES - MAX_WATCHES_PER_PRINCIPAL, 'bob', 'routes');
  expect(() => slots.take('carol', 'routes')).toThrow(refused);
  take(RESERVED_BACKLOG_WATCHES, 'operator', 'backlog');
  expect(() => slots.take('carol', 'backlog')).toThrow(
    expect.objectContaining({ message: expect.stringMatching(/^2000 streams are watching, which is/) }),
  );
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
