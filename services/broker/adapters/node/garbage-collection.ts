// How V8 decides when to collect: to be set before anything large is allocated. Decision 0003.
import { getHeapStatistics, setFlagsFromString } from 'node:v8';

/**
 * Makes buffers outside the heap count like the heap: a full collection comes when both together have grown
 * by a part, not after every 64 MB of them, which a busy broker goes through several times a second. A Node
 * that does not know the flag says so and goes on.
 *
 * Both together may then be at most twice the heap's limit. If `lastingBytes`, the buffers that live long,
 * were near that, V8 would collect all the time: nothing is changed then.
 */
export function countBuffersWithHeap(lastingBytes: number): void {
  if (lastingBytes > getHeapStatistics().heap_size_limit) return;
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
