// The clock of a suspended machine, whose monotonic time stands still meanwhile, for a broker that loads this
// file (node --import). While the folder CHAOS_SUSPENDED has a file named after the process id, time in which
// the process did nothing is left out of performance.now(): the process is stopped (SIGSTOP) and let go on
// while the file is there.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Longer than a busy event loop is held up. */
const GAP_MS = 500;
const LOOK_MS = 20;

const mark = join(process.env.CHAOS_SUSPENDED!, String(process.pid));
const real = performance.now.bind(performance);
let latestMs = real();
let leftOutMs = 0;

function now(): number {
  const nowMs = real();
  if (nowMs - latestMs > GAP_MS && existsSync(mark)) leftOutMs += nowMs - latestMs;
  latestMs = nowMs;
  return nowMs - leftOutMs;
}

Object.defineProperty(performance, 'now', { value: now });
setInterval(now, LOOK_MS).unref();
