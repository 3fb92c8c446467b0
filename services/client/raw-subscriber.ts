// A consumer that gets responses as bytes, for relays and load tests: frames.ts looks into them as far as needed. Made by
// Client.subscribeRaw(). Leases are not extended and nothing is buffered: what arrives is handed on in the same turn.
import type { Connection } from './connection.ts';
import { type ConsumerOptions, type ConsumerStream, type Leases, makeConsumer } from './consumer-stream.ts';
import { type FanfareError, toFanfareError } from './errors.ts';
import { type MessageRange, rangesOf } from './frames.ts';

export interface RawSubscribeOptions extends ConsumerOptions {
  /** A response: a run of frames of one partition. The bytes may be kept. */
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

  constructor(
    connection: Connection,
    subscription: string,
    options: RawSubscribeOptions,
    topicOf: (subscription: string) => Promise<string>,
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.closed = promise;
    // Whoever doesn't ask for `closed` is told nothing; that must not end the process.
    promise.catch(() => {});
    this.#stream = makeConsumer(connection, subscription, options, topicOf, {
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
    if (options.signal?.aborted) {
      resolve();
      return;
    }
    options.signal?.addEventListener('abort', () => void this.close(), { once: true });
    this.#stream.open();
  }

  close(): Promise<void> {
    return this.#stream.close();
  }

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
