// A process that opens the embedded store in the folder given and keeps it: prints "open" or "refused <message>".
// store-folder.test.ts starts several at once and kills them.
import { writeSync } from 'node:fs';
import { openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';

// Alive until it is killed: the store itself keeps no process running.
setInterval(() => {}, 1 << 30);
try {
  await openEmbeddedStore({ dir: process.argv[2] ?? '', journalBytes: 1 << 16 });
  writeSync(1, 'open\n');
} catch (error) {
  writeSync(1, `refused ${error instanceof Error ? error.message : String(error)}\n`);
}
