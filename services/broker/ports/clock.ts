// Time and chance, so that a simulation can own both. The real clock is adapters/node/clock.ts.

export interface Clock {
  /** Wall clock, milliseconds since 1970. May jump. For timestamps that people and stores see. */
  nowMs(): number;
  /** Never goes back; begins anywhere. For deadlines and durations. */
  monotonicMs(): number;
  /** Calls fn once, after at least delayMs. Returns a function that cancels it. */
  setTimer(delayMs: number, fn: () => void): () => void;
  /** Calls fn after everything that is due in this turn of the event loop: to gather work into batches. */
  defer(fn: () => void): void;
}

/** At least 0, below 1. */
export type Random = () => number;

/** Resolves after at least `ms`. For what is not to be cancelled: the caller looks around when it wakes. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.setTimer(ms, resolve);
  });
}
