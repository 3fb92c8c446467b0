// A process for crash tests: opens the embedded store in the folder given, prints "ready", and appends and
// commits cursors without pause, printing each as it is acknowledged:
//
//   append <partition> <firstOffset> <count>       cursor <partition> <number>       trim <partition>
//                                                  <headOffset>
//
// What is written follows from its place, so the test knows every byte without being told.
import { writeSync } from 'node:fs';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';

export const CRASH_PARTITIONS = 4;

/** Sizes range from some bytes to some hundred KiB, so that every way a commit can take is taken. */
export function crashFrames(partition: number, firstOffset: number): Buffer {
  const size = firstOffset % 40 === 39 ? 200_000 + partition * 40_000 : 50 + ((firstOffset * 37) % 4_000);
  return Buffer.alloc(size, `${partition}:${firstOffset}/`);
}

if (import.meta.main) await run(process.argv[2] ?? '');

async function run(dir: string): Promise<void> {
  // Journal and merges are small and frequent, so that a kill hits every phase.
  const store = await openEmbeddedStore({ dir, journalBytes: 512 << 10, mergeIntervalMs: 3 });
  // Written synchronously: what is printed has happened, and is out when the kill comes.
  const say = (line: string): void => void writeSync(1, `${line}\n`);
  say('ready');
  await Promise.all(Array.from({ length: CRASH_PARTITIONS }, (_, partition) => work(partition)));

  async function work(partition: number): Promise<void> {
    const id = { logEpoch: 1, partition };
    const { ownerEpoch } = await store.ownership.acquire(id);
    for (;;) {
      const { headOffset, endOffset, endByte } = await store.log.bounds(id);
      const bytes = crashFrames(partition, endOffset);
      const chunk: Chunk = { firstOffset: endOffset, count: 1, publishTimeMs: 1, startByte: endByte, bytes };
      await store.log.append(id, ownerEpoch, endOffset, [chunk]);
      say(`append ${partition} ${endOffset} 1`);
      const record = Buffer.alloc(8);
      record.writeDoubleBE(endOffset);
      await store.cursors.commit([{ subscription: 9, partition: id, ownerEpoch, record }]);
      say(`cursor ${partition} ${endOffset}`);
      if (endOffset - headOffset < 300) continue;
      const trimmed = await store.log.trim(id, ownerEpoch, endOffset - 200, 50);
      say(`trim ${partition} ${trimmed.headOffset}`);
    }
  }
}
