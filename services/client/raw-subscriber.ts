// A consumer that gets responses as bytes, for programs that pass them on and for load tests: frames.ts looks
// into them as far as needed. Leases are not extended, nothing is buffered and no order is kept here: what
// arrives is handed on in the same turn.
import type { Connection } from './connection.ts';
import { type ConsumerOptions, type ConsumerStream, type Leases, makeConsumer } from './consumer-stream.ts';
import { type FanfareError, toFanfareError } from './errors.ts';
import { type MessageRange, rangesOf } from './frames.ts';
import type { SubscriptionDefinition } from './message-source.ts';

export interface RawSubscribeOptions extends ConsumerOptions {
  /** Called with a response: a run of frames of one partition. The bytes may be kept. */
  readonly onChunk: (bytes: Buffer, settle: Settle) => void;
}

/** Settles one response or parts of it. */
export interface Settle {
  /** Acknowledges all of it, or one range of it. */
  ack(range?: MessageRange): void;
  /** Gives all of it back, or one range of it. */
  nack(range?: MessageRange): void;
}

export class RawSubscriber implements AsyncDisposable {
  /** Resolves after close() or an abort; rejects with what ended the subscription for good. */
  readonly closed: Promise<void>;
  readonly #stream: ConsumerStream;
  readonly #signal: AbortSignal | undefined;

  constructor(
    connection: Connection,
    subscription: string,
    options: RawSubscribeOptions,
    definitionOf: (subscription: string) => Promise<SubscriptionDefinition>,
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.closed = promise;
    // Somebody who doesn't ask for `closed` is not told of a failure; that must not end the process.
    promise.catch(() => {});
    const topicOf = async (name: string) => (await definitionOf(name)).topic;
    this.#stream = makeConsumer(connection, subscription, options, topicOf, {
      onProperties: () => {},
      onResponse: (bytes, leases) => {
        try {
          options.onChunk(bytes, settleOf(this.#stream, leases, bytes));
        } catch (error) {
          reject(toFanfareError(error));
          void this.close();
        }
      },
      onInterrupted: () => {},
      onEnd: (error: FanfareError | undefined) => (error === undefined ? resolve() : reject(error)),
    });
    this.#signal = options.signal;
    if (this.#signal?.aborted) {
      resolve();
      return;
    }
    this.#signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#stream.open();
  }

  /** Sends what was settled and ends, within 4 s whatever the broker does. Idempotent. */
  close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    return this.#stream.close();
  }

  readonly #onAbort = (): void => void this.close();

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function settleOf(stream: ConsumerStream, leases: Leases, bytes: Buffer): Settle {
  return {
    ack(range) {
      let unattributed = bytes.length;
      for (const { logEpoch, partition, firstOffset, lastOffset } of range ? [range] : rangesOf(bytes)) {
        stream.ack(leases, logEpoch, partition, firstOffset, lastOffset, unattributed);
        unattributed = 0;
      }
    },
    nack(range) {
      for (const given of range ? [range] : rangesOf(bytes)) stream.nack(leases, given);
    },
  };
}
