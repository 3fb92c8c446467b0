// Plain JavaScript, since what is loaded before the cache is set up would not be cached.
import { enableCompileCache } from 'node:module';

// Stripped and compiled code is kept from one start to the next: half of the start-up time.
enableCompileCache();
if (process.argv[2] === 'serve') {
  const { heapFlag } = await import('../node/memory.ts');
  const flag = heapFlag();
  // The same process goes on with the flag, so that signals still find it.
  if (flag !== undefined) {
    process.execve(process.execPath, [process.execPath, flag, ...process.execArgv, ...process.argv.slice(1)]);
  }
}
await import('./main.ts');
