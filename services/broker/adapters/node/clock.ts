// The Clock port on Node's own timers.
import type { Clock } from '../../ports/clock.ts';

/** The longest delay of setTimeout, which fires at once when asked for more. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

export const nodeClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(delayMs, fn) {
    const due = performance.now() + delayMs;
    let timeout: NodeJS.Timeout;
    // Node's timers run on a clock of whole milliseconds and can be up to one early: then the rest is waited
    // for, too.
    const arm = (): void => {
      const rest = Math.min(Math.ceil(due - performance.now()), LONGEST_TIMEOUT_MS);
      timeout = setTimeout(() => (performance.now() >= due ? fn() : arm()), Math.max(0, rest));
    };
    arm();
    return () => clearTimeout(timeout);
  },
  // Immediates run after all I/O that the turn has found.
  defer: (fn) => void setImmediate(fn),
};
