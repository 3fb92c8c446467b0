// The bound on what publishers have sent and the broker has not finished with: counted in bytes as they are
// held, not as they will be stored, over the whole broker. A batch is admitted as a whole or not at all.
// Invariant: nothing else counts them.
import { BrokerError } from '../core/errors.ts';
import type { PublishBatch } from '../core/publish-batch.ts';
import type { EngineContext } from './context.ts';
import type { Stats } from './stats.ts';

/** What a batch costs beside its request and its indexes: objects and closures. */
const OVERHEAD_BYTES = 512;

/**
 * Counts the batch and returns a function that ends the counting, to be called once. Throws
 * RESOURCE_EXHAUSTED if there is no room for it.
 */
export function admit({ stats, limits }: EngineContext, batch: PublishBatch): () => void {
  const { bytes, starts, ends, keyHashes } = batch;
  const held = bytes.length + starts.byteLength + ends.byteLength + keyHashes.byteLength + OVERHEAD_BYTES;
  if (stats.uncommittedBytes + held > limits.maxUncommittedBytes) {
    stats.refusedPublishes += 1;
    throw new BrokerError(
      'RESOURCE_EXHAUSTED',
      `the broker holds ${stats.uncommittedBytes} bytes that are not stored yet, at most ${limits.maxUncommittedBytes} are allowed: publish again a little later`,
    );
  }
  return hold(stats, held);
}

/**
 * Counts what is held of a publish after its publisher was answered: there is always room for it. Returns a
 * function that ends the counting, to be called once.
 */
export function hold(stats: Stats, bytes: number): () => void {
  stats.uncommittedBytes += bytes;
  return () => {
    stats.uncommittedBytes -= bytes;
  };
}
