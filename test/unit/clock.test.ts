// The clock of Node: timers are never early, and may be longer than Node allows.
import { afterEach, expect, test, vi } from 'vitest';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';

afterEach(() => vi.useRealTimers());

test('a timer never fires early', async () => {
  for (const delayMs of [0, 1.2, 3.7]) {
    const before = nodeClock.monotonicMs();
    await new Promise<void>((resolve) => nodeClock.setTimer(delayMs, resolve));
    expect(nodeClock.monotonicMs() - before).toBeGreaterThanOrEqual(delayMs);
  }
});

test('a timer can be cancelled, and can be longer than Node allows', () => {
  vi.useFakeTimers();
  const fired: string[] = [];
  const day = 86_400_000;
  nodeClock.setTimer(40 * day, () => fired.push('long'));
  nodeClock.setTimer(day, () => fired.push('cancelled'))();
  vi.advanceTimersByTime(39 * day);
  expect(fired).toEqual([]);
  vi.advanceTimersByTime(1.1 * day);
  expect(fired).toEqual(['long']);
  expect(vi.getTimerCount()).toBe(0);
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
