// Which timers are left, of those that the code under test has set.

export interface WatchedTimers extends Disposable {
  /** How many were set since. */
  readonly set: number;
  /** Neither over nor cleared, with where each was set. */
  readonly running: ReadonlyMap<unknown, string>;
}

/** Of timers that code in a folder sets itself, until it is disposed of: watchTimers('/services/client/'). */
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
