// Extends the leases of messages that are here and not settled, so that a handler may take its time. Runs
// only while something is held. When a third of a lease is over it is extended, with all that are held; so
// code that keeps the event loop for less than two thirds of an ack deadline loses none.
import type { ConsumerStream } from './consumer-stream.ts';
import type { FanfareError } from './errors.ts';
import { rangesOf } from './frames.ts';
import type { HeldResponse } from './received-message.ts';

/**
 * How often leases are looked at. The shortest ack deadline is 1 s: what is older than this must be seen to.
 */
const TICK_MS = 300;
/** Taken when the subscription's own can't be read: the default of a new subscription. */
const FALLBACK_DEADLINE_SECONDS = 10;
/**
 * How long after a change of the deadline arrivals may be leased by the old one:
 * owners hear of it one by one.
 */
const CHANGING_MS = 5_000;

export interface LeaseKeeperOptions {
  /** The consumer's own deadline; undefined: the subscription's, as the broker says on the stream. */
  readonly ackDeadlineSeconds: number | undefined;
  /** Asked once something is held for long, if the broker (an older one) does not say the deadline. */
  readonly fetchDeadlineSeconds: () => Promise<number>;
  /** Leases of messages that have been here for longer are left to end. */
  readonly maxExtensionMs: number;
}

export class LeaseKeeper {
  readonly #stream: ConsumerStream;
  readonly #options: LeaseKeeperOptions;
  readonly #held = new Set<HeldResponse>();
  #timer: NodeJS.Timeout | undefined;
  #deadlineMs: number | undefined;
  #formerDeadlineMs = Number.POSITIVE_INFINITY;
  #changedMs = Number.NEGATIVE_INFINITY;
  #isAsking = false;

  constructor(stream: ConsumerStream, options: LeaseKeeperOptions) {
    this.#stream = stream;
    this.#options = options;
    if (options.ackDeadlineSeconds !== undefined) this.#deadlineMs = options.ackDeadlineSeconds * 1000;
  }

  /** Sets the subscription's deadline from now on. All that is held is extended by it soon. */
  set deadlineSeconds(seconds: number) {
    const deadlineMs = seconds * 1000;
    if (this.#options.ackDeadlineSeconds !== undefined || deadlineMs === this.#deadlineMs) return;
    this.#formerDeadlineMs = this.#deadlineMs ?? Number.POSITIVE_INFINITY;
    this.#changedMs = performance.now();
    this.#deadlineMs = deadlineMs;
    for (const held of this.#held) held.extendAtMs = this.#changedMs;
  }

  add(held: HeldResponse): void {
    if (this.#deadlineMs !== undefined) {
      const isChanging = held.receivedMs - this.#changedMs < CHANGING_MS;
      const shortestMs = isChanging ? Math.min(this.#deadlineMs, this.#formerDeadlineMs) : this.#deadlineMs;
      held.extendAtMs = held.receivedMs + shortestMs / 3;
      held.leaseEndsMs = held.receivedMs + this.#deadlineMs;
    }
    this.#held.add(held);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  remove(held: HeldResponse): void {
    this.#held.delete(held);
  }

  stop(): void {
    this.#held.clear();
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tick(): void {
    if (this.#held.size === 0) {
      this.stop();
      return;
    }
    const nowMs = performance.now();
    const old: HeldResponse[] = [];
    let isDue = false;
    for (const held of this.#held) {
      const ageMs = nowMs - held.receivedMs;
      // A lease that has run out can't be extended: the message is delivered again.
      const isOver = held.leases.gone || held.leaseEndsMs < nowMs;
      if (isOver || ageMs > this.#options.maxExtensionMs) this.#held.delete(held);
      else if (ageMs > TICK_MS / 2) {
        old.push(held);
        if (held.extendAtMs <= nowMs + TICK_MS / 2) isDue = true;
      }
    }
    if (!isDue) return;
    if (this.#deadlineMs === undefined) this.#askDeadline();
    else this.#extend(old, this.#deadlineMs, nowMs);
  }

  #extend(old: readonly HeldResponse[], deadlineMs: number, nowMs: number): void {
    const ranges = old.flatMap((held) => rangesOf(held.bytes));
    if (!this.#stream.extend(ranges, deadlineMs / 1000)) return;
    for (const held of old) {
      held.extendAtMs = nowMs + deadlineMs / 3;
      held.leaseEndsMs = nowMs + deadlineMs;
    }
  }

  #askDeadline(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#options.fetchDeadlineSeconds().then(
      (seconds) => {
        this.#deadlineMs ??= seconds * 1000;
      },
      // This client may not be allowed to read it; extending by the default is then the best guess.
      (_error: FanfareError) => {
        this.#deadlineMs ??= FALLBACK_DEADLINE_SECONDS * 1000;
      },
    );
  }
}
