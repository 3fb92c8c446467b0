// What a relay keeps of a consumer's settles until a partition has an owner again: the last settle of each
// message, and of which delivery it was.
import { expect, test } from 'vitest';
import { KeptSettles, MAX_KEPT_SETTLES } from '../../services/broker/core/kept-settles.ts';

const at = { logEpoch: 7, partition: 2 };

test('the last word counts, and says which delivery it is of', () => {
  const kept = new KeptSettles();
  const add = (kind: 'ack' | 'nack' | 'extend', first: number, last: number, more: object = {}) =>
    kept.add({ kind, ...at, first, last, seconds: 0, ...more }, 1_000);
  add('nack', 0, 9, { attempt: 1 });
  add('nack', 4, 5, { attempt: 2 });
  add('nack', 7, 7);
  add('extend', 8, 12, { attempt: 3, seconds: 20 });
  add('ack', 9, 10);
  add('nack', 10, 11);
  expect(kept.take(2, 11_000)).toEqual([
    { kind: 'ack', ...at, first: 9, last: 10, seconds: 0 },
    { kind: 'nack', ...at, first: 0, last: 3, seconds: 0, attempt: 1 },
    { kind: 'nack', ...at, first: 4, last: 5, seconds: 0, attempt: 2 },
    { kind: 'nack', ...at, first: 6, last: 6, seconds: 0, attempt: 1 },
    { kind: 'nack', ...at, first: 7, last: 7, seconds: 0 },
    { kind: 'nack', ...at, first: 8, last: 8, seconds: 0, attempt: 1 },
    { kind: 'nack', ...at, first: 11, last: 11, seconds: 0 },
    { kind: 'extend', ...at, first: 12, last: 12, seconds: 10, attempt: 3 },
  ]);
  expect(kept.empty).toBe(true);
});

test('so many intervals are kept; of more, what was said is dropped and counted', () => {
  const kept = new KeptSettles();
  for (let n = 0; n <= MAX_KEPT_SETTLES; n += 1)
    kept.add({ kind: 'ack', ...at, first: 2 * n, last: 2 * n, seconds: 0 }, 0);
  expect(kept.dropped).toBe(1);
  expect(kept.take(2, 0)).toHaveLength(MAX_KEPT_SETTLES);
});
