// Loaded into brokers (node --import): a suspended machine, whose monotonic clock stands still meanwhile. While there is a file named
// after the process in the folder CHAOS_SUSPENDED, time in which the process did nothing is left out of performance.now(). The
// runner makes the file, then stops the process (SIGSTOP), lets it go on, and deletes the file.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** More than a busy event loop is held up for. */
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
