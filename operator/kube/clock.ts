// Time and chance, so that tests own both. The operator shares no code with the broker, but a clock has the
// same shape here and there.

export interface Clock {
  /**
   * Wall clock, milliseconds since 1970. May jump. Only for timestamps that people and the API server see.
   */
  nowMs(): number;
  /** Never goes back; begins anywhere. For every deadline and duration. */
  monotonicMs(): number;
  /** Calls fn once, after at least delayMs. Returns a function that cancels it. */
  setTimer(delayMs: number, fn: () => void): () => void;
}

/** At least 0, below 1. */
export type Random = () => number;

/** A setTimeout of more than this fires at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(delayMs, fn) {
    const due = performance.now() + delayMs;
    let timeout: NodeJS.Timeout;
    // Node's timers can be up to a millisecond early: then the rest is waited for too.
    const arm = (): void => {
      const restMs = Math.max(0, Math.ceil(due - performance.now()));
      timeout = setTimeout(
        () => (performance.now() >= due ? fn() : arm()),
        Math.min(restMs, LONGEST_TIMEOUT_MS),
      );
    };
    arm();
    return () => clearTimeout(timeout);
  },
};

/** Waits delayMs, or less if aborted. Returns whether the time passed. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const aborted = (): void => {
      cancel();
      resolve(false);
    };
    const cancel = clock.setTimer(delayMs, () => {
      signal.removeEventListener('abort', aborted);
      resolve(true);
    });
    signal.addEventListener('abort', aborted, { once: true });
  });
}

/** An abort controller that follows another signal, until it is let go. */
export interface LinkedAbort extends Disposable {
  readonly signal: AbortSignal;
  abort(reason: unknown): void;
}

/**
 * Made by hand and not by AbortSignal.any, so that nothing of a short call stays behind on a signal that
 * lives for weeks.
 */
export function linkedAbort(parent: AbortSignal | undefined): LinkedAbort {
  const controller = new AbortController();
  const follow = (): void => controller.abort(parent?.reason);
  if (parent?.aborted) follow();
  else parent?.addEventListener('abort', follow, { once: true });
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    [Symbol.dispose]: () => parent?.removeEventListener('abort', follow),
  };
}
