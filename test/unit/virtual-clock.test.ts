// The virtual clock: simulations are only as true as the order it gives.
import { expect, test } from 'vitest';
import { VirtualClock } from '../support/virtual-clock.ts';

test('fires timers in due order, those due together in the order they were set', async () => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  const note = (name: string) => () => fired.push(`${name}@${clock.monotonicMs()}`);
  clock.setTimer(20, note('c'));
  clock.setTimer(10, note('a'));
  clock.setTimer(10, note('b'));
  clock.setTimer(30, note('d'));
  await clock.advance(20);
  expect(fired).toEqual(['a@10', 'b@10', 'c@20']);
  expect(clock.monotonicMs()).toBe(20);
  expect(clock.timerCount).toBe(1);
});

test('a cancelled timer does not fire', async () => {
  const clock = new VirtualClock();
  let fired = 0;
  const cancel = clock.setTimer(10, () => fired++);
  clock.setTimer(10, () => fired++);
  cancel();
  cancel();
  await clock.advance(100);
  expect(fired).toBe(1);
});

test('deferred calls run in their instant, after promise reactions and before time moves', async () => {
  const clock = new VirtualClock();
  const seen: string[] = [];
  clock.setTimer(5, () => {
    clock.defer(() => seen.push(`deferred@${clock.monotonicMs()}`));
    void Promise.resolve()
      .then(() => Promise.resolve())
      .then(() => seen.push('reaction'));
  });
  clock.setTimer(6, () => seen.push('later'));
  await clock.advance(10);
  expect(seen).toEqual(['reaction', 'deferred@5', 'later']);
});

test('advance runs what its own events set in motion, up to the time', async () => {
  const clock = new VirtualClock();
  let ticks = 0;
  const tick = () => {
    ticks++;
    clock.setTimer(10, tick);
  };
  clock.setTimer(10, tick);
  await clock.advance(100);
  expect(ticks).toBe(10);
});

test('runUntil stops at the event that makes it true, and gives up at the limit', async () => {
  const clock = new VirtualClock();
  let ticks = 0;
  const tick = () => {
    ticks++;
    clock.setTimer(10, tick);
  };
  clock.setTimer(10, tick);
  await clock.runUntil(() => ticks === 3);
  expect(clock.monotonicMs()).toBe(30);
  await expect(clock.runUntil(() => false, 50)).rejects.toThrow('within 50 ms of virtual time');
});

test('a jump of the wall clock leaves timers alone', async () => {
  const clock = new VirtualClock();
  const before = clock.nowMs();
  let fired = false;
  clock.setTimer(10, () => {
    fired = true;
  });
  clock.jumpWallClock(-60_000);
  expect(clock.nowMs()).toBe(before - 60_000);
  await clock.advance(10);
  expect(fired).toBe(true);
});
