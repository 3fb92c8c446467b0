// The timers that the code under test has set and that are left.

export interface WatchedTimers extends Disposable {
  /** How many timers were set since. */
  readonly set: number;
  /** Timers that are neither over nor cleared, with where each was set. */
  readonly running: ReadonlyMap<unknown, string>;
}

/**
 * Watches, until it is disposed of, the timers that code in a folder sets itself:
 * watchTimers('/services/client/').
 */
export function watchTimers(folder: string): WatchedTimers {
  const { setTimeout, setInterval, clearTimeout, clearInterval } = globalThis;
  const running = new Map<unknown, string>();
  let set = 0;
  const watch = (timer: unknown): void => {
    const by = new Error('set').stack!.split('\n').find((line, at) => at > 0 && !line.includes(THIS_FILE));
    if (by === undefined || !by.includes(folder)) return;
    set++;
    running.set(timer, by.trim());
  };
  const forget = (timer: unknown): void => void running.delete(timer);
  Object.assign(globalThis, {
    setTimeout(callback: () => void, delayMs?: number) {
      const timer = setTimeout(() => {
        forget(timer);
        callback();
      }, delayMs);
      watch(timer);
      return timer;
    },
    setInterval(callback: () => void, delayMs?: number) {
      const timer = setInterval(callback, delayMs);
      watch(timer);
      return timer;
    },
    clearTimeout(timer: NodeJS.Timeout) {
      forget(timer);
      clearTimeout(timer);
    },
    clearInterval(timer: NodeJS.Timeout) {
      forget(timer);
      clearInterval(timer);
    },
  });
  return {
    get set() {
      return set;
    },
    running,
    [Symbol.dispose]() {
      Object.assign(globalThis, { setTimeout, setInterval, clearTimeout, clearInterval });
    },
  };
}

const THIS_FILE = 'test/support/timers.ts';
