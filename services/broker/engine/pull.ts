// Pull without a stream: one consumer for each subscription that is pulled from, which has credit only while a Pull
// call waits. Made by broker.ts; leaves again when nobody has pulled for a while, so that ordering keys go to others.
import type { BrokerError } from '../core/errors.ts';
import type { EngineContext } from './context.ts';
import { type ConsumerSink, Session } from './session.ts';
import type { SubscriptionRuntime } from './subscription-runtime.ts';

interface PullCall {
  readonly maxMessages: number;
  readonly resolve: (frames: Buffer[]) => void;
  readonly reject: (error: BrokerError) => void;
  readonly frames: Buffer[];
  cancelTimer: () => void;
}

const IDLE_MS = 30_000;

/** A call asks once: leases that end while it waits give it no more than that. */
class PullSession extends Session {
  override leaseEnded(messages: number, bytes: number): void {
    super.leaseEnded(messages, bytes);
    const { maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs } = this.limits;
    this.limits = {
      maxOutstandingMessages: maxOutstandingMessages - messages,
      maxOutstandingBytes: maxOutstandingBytes - bytes,
      ackDeadlineMs,
    };
  }
}

export class PullConsumer implements ConsumerSink {
  readonly #subscription: SubscriptionRuntime;
  readonly #context: EngineContext;
  readonly #session: Session;
  readonly #maxBytes: number;
  readonly #onIdle: () => void;
  readonly #calls: PullCall[] = [];
  #idleSinceMs: number;
  #cancelIdleTimer: () => void = () => undefined;

  constructor(
    subscription: SubscriptionRuntime,
    context: EngineContext,
    sessionId: number,
    maxBytes: number,
    onIdle: () => void,
  ) {
    this.#subscription = subscription;
    this.#context = context;
    this.#maxBytes = maxBytes;
    this.#onIdle = onIdle;
    this.#idleSinceMs = context.clock.monotonicMs();
    const { ackDeadlineMs } = subscription.definition;
    this.#session = new PullSession(sessionId, sessionId, this, {
      maxOutstandingMessages: 0,
      maxOutstandingBytes: 0,
      ackDeadlineMs,
    });
    subscription.join(this.#session);
    this.#watchIdle();
  }

  /**
   * Resolves with frames as soon as there are any, or with none after waitMs. Calls are served one after another; one whose
   * caller has gone (`onGone` is given what to call then) leaves its place to the next.
   */
  pull(maxMessages: number, waitMs: number, onGone: (over: () => void) => void): Promise<Buffer[]> {
    return new Promise((resolve, reject) => {
      const call: PullCall = { maxMessages, resolve, reject, frames: [], cancelTimer: () => undefined };
      this.#calls.push(call);
      call.cancelTimer = this.#context.clock.setTimer(waitMs, () => this.#finish(call));
      onGone(() => this.#finish(call));
      if (this.#calls.length === 1) this.#grant();
    });
  }

  get writable(): boolean {
    return this.#calls.length > 0;
  }

  send(frames: Buffer): void {
    const call = this.#calls[0]!;
    call.frames.push(frames);
    if (call.frames.length > 1) return;
    // What else is at hand in this turn goes into the same answer.
    this.#context.clock.defer(() => this.#finish(call));
  }

  close(error: BrokerError): void {
    this.#cancelIdleTimer();
    for (const call of this.#calls.splice(0)) {
      call.cancelTimer();
      call.reject(error);
    }
  }

  /** Credit for the first call, on top of what is outstanding from earlier ones. */
  #grant(): void {
    const call = this.#calls[0];
    if (call === undefined) return;
    this.#session.limits = {
      maxOutstandingMessages: this.#session.outstandingMessages + call.maxMessages,
      maxOutstandingBytes: this.#session.outstandingBytes + this.#maxBytes,
      ackDeadlineMs: this.#subscription.definition.ackDeadlineMs,
    };
    this.#subscription.pumpAll();
  }

  #finish(call: PullCall): void {
    const at = this.#calls.indexOf(call);
    if (at === -1) return;
    call.cancelTimer();
    this.#calls.splice(at, 1);
    this.#idleSinceMs = this.#context.clock.monotonicMs();
    call.resolve(call.frames);
    if (at === 0) this.#grant();
  }

  #watchIdle(): void {
    this.#cancelIdleTimer = this.#context.clock.setTimer(IDLE_MS, () => {
      if (this.#session.closed) return;
      const idleMs = this.#context.clock.monotonicMs() - this.#idleSinceMs;
      if (this.#calls.length === 0 && this.#session.outstandingMessages === 0 && idleMs >= IDLE_MS) {
        this.#subscription.leave(this.#session);
        this.#onIdle();
      } else this.#watchIdle();
    });
  }
}
