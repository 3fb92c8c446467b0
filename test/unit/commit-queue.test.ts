// The queue before the disk is bounded, and a refused commit leaves the others alone.
import { expect, test } from 'vitest';
import { type Commit, CommitQueue } from '../../services/broker/adapters/embedded/commit.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { expectCode } from '../conformance/harness.ts';

function commitOf<T>(bytes: number, result: T): Commit<T> {
  return { bytes, plan: () => ({ ops: [{ table: 0, key: Buffer.of(1), value: Buffer.alloc(1) }], result }) };
}

test('refuses what would be too much, and takes it once there is room', async () => {
  const queue = new CommitQueue();
  const mebibyte = 1 << 20;
  const taken = queue.push(commitOf(256 * mebibyte, 'fits'));
  await expectCode(queue.push(commitOf(1, 'too much')), 'RESOURCE_EXHAUSTED');
  queue.takeBatch(() => {}).resolve();
  expect(await taken).toBe('fits');
  expect(queue.isEmpty).toBe(true);
  void queue.push(commitOf(1, 'fits again'));
  expect(queue.isEmpty).toBe(false);
});

test('a batch takes commits up to its size, in order, and at least one', async () => {
  const queue = new CommitQueue();
  const order: number[] = [];
  for (const [index, bytes] of [9 << 20, 3 << 20, 3 << 20].entries()) {
    const ops = [{ table: 0, key: Buffer.of(index), value: Buffer.alloc(bytes) }] as const;
    void queue.push({ bytes, plan: () => ({ ops, result: order.push(index) }) });
  }
  expect([queue.takeBatch(() => {}).size, queue.takeBatch(() => {}).size]).toEqual([1, 2]);
  expect(order).toEqual([0, 1, 2]);
});

test('a commit whose plan refuses is rejected alone', async () => {
  const queue = new CommitQueue();
  const refused = queue.push<void>({
    bytes: 1,
    plan: () => {
      throw new BrokerError('ABORTED', 'stale');
    },
  });
  const taken = queue.push(commitOf(1, 'taken'));
  const batch = queue.takeBatch(() => {});
  await expectCode(refused, 'ABORTED');
  expect(batch.size).toBe(1);
  batch.resolve();
  expect(await taken).toBe('taken');
});
