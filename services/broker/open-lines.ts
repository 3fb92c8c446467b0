// The descriptors that lines go to: standard error, or a file. Invariant: a write never waits for a reader.
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { nodeClock } from './adapters/node/clock.ts';
import { BrokerError } from './core/errors.ts';
import { LOG_EXIT_MS, LOG_RETRY_MS, MAX_WAITING_LOG_BYTES } from './limits.ts';
import { LineWriter } from './line-writer.ts';

const STANDARD_ERROR = 2;

/** Lines for standard error. What waits when the process ends is given some time. */
export function openErrorLines(): LineWriter {
  return linesTo(withoutWaiting(STANDARD_ERROR));
}

/**
 * Lines appended to a file, which is made where it is missing, for its owner alone. FAILED_PRECONDITION: it
 * can't be opened.
 */
export function openFileLines(path: string): LineWriter {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NONBLOCK } = constants;
  try {
    return linesTo(openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new BrokerError('FAILED_PRECONDITION', `--audit-log ${path} can't be opened: ${why}`, { cause });
  }
}

function linesTo(fd: number): LineWriter {
  const lines = new LineWriter({
    target: { write: (bytes) => writeSync(fd, bytes) },
    // The process does not stay for lines that nobody takes.
    clock: { ...nodeClock, setTimer: unreferencedTimer },
    maxBytes: MAX_WAITING_LOG_BYTES,
    retryMs: LOG_RETRY_MS,
  });
  process.on('exit', () => lines.flush(LOG_EXIT_MS));
  return lines;
}

function unreferencedTimer(delayMs: number, fn: () => void): () => void {
  const timer = setTimeout(fn, delayMs).unref();
  return () => clearTimeout(timer);
}

/**
 * A descriptor for the same pipe, terminal or socket that does not block. A file never does.
 *
 * Opened again, a pipe or terminal has flags of its own, so that other processes that write to it notice
 * nothing. Where that can't be done (a socket; a pipe of root's; macOS) Node's own stream makes the one that
 * there is non-blocking and gives it back at the end as it was. That leaves terminals of macOS, which block.
 */
function withoutWaiting(fd: number): number {
  const kind = fstatSync(fd);
  if (kind.isFile()) return fd;
  if (kind.isFIFO() || kind.isCharacterDevice()) {
    try {
      return openSync(
        `/proc/self/fd/${fd}`,
        constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY,
      );
    } catch {
      // As for a socket, then.
    }
  }
  void process.stderr;
  return fd;
}
