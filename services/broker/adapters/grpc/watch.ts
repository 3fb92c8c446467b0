// What the RPCs that watch something share: a bound on how many there are, and waiting for a change or a
// time, whichever comes first.
import { Counts } from '../../core/counts.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';

export interface WatchLimits {
  /** In the whole broker. */
  readonly max: number;
  readonly maxPerPrincipal: number;
  /** The part of `max` that is for watchers of backlogs alone: the autoscaler must not go blind. */
  readonly reserved: number;
}

export class WatchSlots {
  readonly #limits: WatchLimits;
  readonly #byPrincipal = new Counts();
  #taken = 0;

  constructor(limits: WatchLimits) {
    this.#limits = limits;
  }

  /** Takes a slot, which is given back when disposed. RESOURCE_EXHAUSTED if there is none left. */
  take(principal: string, what: 'backlog' | 'routes'): Disposable {
    const { max, maxPerPrincipal, reserved } = this.#limits;
    const own = this.#byPrincipal.of(principal);
    if (own >= maxPerPrincipal) throw tooMany(`${principal} has ${own} streams that watch`);
    const most = what === 'backlog' ? max : max - reserved;
    if (this.#taken >= most) throw tooMany(`${this.#taken} streams are watching`);
    this.#taken += 1;
    this.#byPrincipal.add(principal, 1);
    return { [Symbol.dispose]: () => this.#giveBack(principal) };
  }

  #giveBack(principal: string): void {
    this.#taken -= 1;
    this.#byPrincipal.add(principal, -1);
  }
}

function tooMany(what: string): BrokerError {
  return new BrokerError(
    'RESOURCE_EXHAUSTED',
    `${what}, which is the limit: watch several resources on one stream`,
  );
}

/**
 * Remembers that something changed until someone waits for it; any number of changes between two waits are
 * one.
 */
export class ChangeFlag {
  #changed = false;
  #wake: () => void = () => {};

  raise(): void {
    this.#changed = true;
    this.#wake();
  }

  /**
   * Resolves at once if there was a change since the last wait, else at the next one, or when the signal is
   * aborted.
   */
  async wait(signal: AbortSignal): Promise<void> {
    if (!this.#changed && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = () => {
          signal.removeEventListener('abort', this.#wake);
          resolve();
        };
        signal.addEventListener('abort', this.#wake);
      });
    }
    this.#changed = false;
  }

  /**
   * As wait, but at most for maxMs; after a change it lets gatherMs pass, in which further ones count as the
   * same.
   */
  async waitAtMost(maxMs: number, gatherMs: number, clock: Clock, signal: AbortSignal): Promise<void> {
    const timeUp = await within(clock, maxMs, signal, (either) => this.wait(either));
    if (!timeUp) await within(clock, gatherMs, signal, aborted);
    this.#changed = false;
  }
}

/**
 * Waits for what `waitFor` waits for, but no longer than until the time is up or the signal aborted. True if
 * the time was up.
 */
async function within(
  clock: Clock,
  delayMs: number,
  signal: AbortSignal,
  waitFor: (either: AbortSignal) => Promise<void>,
): Promise<boolean> {
  const either = new AbortController();
  let timeUp = false;
  const cancelTimer = clock.setTimer(delayMs, () => {
    timeUp = true;
    either.abort();
  });
  const onAbort = (): void => either.abort();
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  await waitFor(either.signal);
  signal.removeEventListener('abort', onAbort);
  cancelTimer();
  return timeUp;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
