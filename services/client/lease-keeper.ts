// Extends the leases of messages that are here and not settled, so that a handler may take its time. One for each
// subscription.ts; runs only while something is held. The ack deadline is asked for only when something is held for long.
import type { ConsumerStream } from './consumer-stream.ts';
import type { FanfareError } from './errors.ts';
import { rangesOf } from './frames.ts';
import type { HeldResponse } from './received-message.ts';

/** The shortest ack deadline is 1 s: what is older than this has to be looked after. */
const TICK_MS = 300;
/** Taken when the subscription's own can't be read: the default of a new subscription. */
const FALLBACK_DEADLINE_SECONDS = 10;

export interface LeaseKeeperOptions {
  /** Undefined: ask fetchDeadlineSeconds. */
  readonly ackDeadlineSeconds: number | undefined;
  readonly fetchDeadlineSeconds: () => Promise<number>;
  /** Leases of older messages are left to end. */
  readonly maxExtensionMs: number;
}

export class LeaseKeeper {
  readonly #stream: ConsumerStream;
  readonly #options: LeaseKeeperOptions;
  readonly #held = new Set<HeldResponse>();
  #timer: NodeJS.Timeout | undefined;
  #deadlineSeconds: number | undefined;
  #isAsking = false;
  #extendedMs = 0;

  constructor(stream: ConsumerStream, options: LeaseKeeperOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#deadlineSeconds = options.ackDeadlineSeconds;
  }

  add(held: HeldResponse): void {
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
    for (const held of this.#held) {
      const ageMs = nowMs - held.receivedMs;
      if (held.leases.gone || ageMs > this.#options.maxExtensionMs) this.#held.delete(held);
      else if (ageMs > TICK_MS / 2) old.push(held);
    }
    if (old.length === 0) return;
    if (this.#deadlineSeconds === undefined) {
      this.#askDeadline();
      return;
    }
    // Three times in a lease's life, all together.
    if (nowMs - this.#extendedMs < (this.#deadlineSeconds * 1000) / 3 - TICK_MS / 2) return;
    const isSent = this.#stream.extend(
      old.flatMap((held) => rangesOf(held.bytes)),
      this.#deadlineSeconds,
    );
    if (isSent) this.#extendedMs = nowMs;
  }

  #askDeadline(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    this.#options.fetchDeadlineSeconds().then(
      (seconds) => {
        this.#deadlineSeconds = seconds;
      },
      // May not be allowed to this client; extending by the default is then the best guess.
      (_error: FanfareError) => {
        this.#deadlineSeconds = FALLBACK_DEADLINE_SECONDS;
      },
    );
  }
}
