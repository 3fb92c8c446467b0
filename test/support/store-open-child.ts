// A process that opens the embedded store in the folder given and keeps it: prints "open" or "refused
// <message>".
import { writeSync } from 'node:fs';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';

// Keeps the process alive until it is killed: the store itself keeps none running.
setInterval(() => {}, 1 << 30);
try {
  await openEmbeddedStore({ dir: process.argv[2] ?? '', journalBytes: 1 << 16 });
  writeSync(1, 'open\n');
} catch (error) {
  writeSync(1, `refused ${error instanceof Error ? error.message : String(error)}\n`);
}
