// What an owner sends to a relay: each chunk once, then runs of it by number, for each consumer behind the
// relay no further ahead than it takes. A link has one window, a consumer one sink.
import { bytesOf } from '../../../core/credit.ts';
import type { BrokerError } from '../../../core/errors.ts';
import type { PeerAnswer } from '../../../ports/peer.ts';
import type { ConsumerSink } from '../../delivery/consumer.ts';
import type { DeliveredMessages } from '../../delivery/delivered-messages.ts';
import type { CachedChunk } from '../../log/chunk-cache.ts';

/** The most bytes sent for one consumer and not taken by its stream. Full: nothing is leased to it. */
export const PEER_WINDOW_BYTES = 1024 * 1024;
/** The most bytes of chunks that a relay keeps for what may follow of them. */
export const CHUNK_WINDOW_BYTES = 32 * 1024 * 1024;
/** What a chunk costs the relay beside its bytes. */
const CHUNK_OVERHEAD_BYTES = 512;

/** The link as sinks see it. */
export interface AnswerLink {
  readonly writable: boolean;
  send(answer: PeerAnswer): void;
}

/**
 * The chunks that the relay has, as the owner knows. It does not hold the bytes: they may leave this broker's
 * cache.
 */
export class ChunkWindow {
  readonly #link: AnswerLink;
  readonly #maxBytes: number;
  readonly #numbers = new WeakMap<CachedChunk, number>();
  /** The sizes of the chunks with the numbers from #keepFrom on. */
  readonly #sizes: number[] = [];
  #bytes = 0;
  #keepFrom = 1;
  #last = 0;

  constructor(link: AnswerLink, maxBytes = CHUNK_WINDOW_BYTES) {
    this.#link = link;
    this.#maxBytes = maxBytes;
  }

  deliver(consumer: number, { partition, chunk, runs, messages, bytes }: DeliveredMessages): void {
    let number = this.#numbers.get(chunk);
    if (number === undefined || number < this.#keepFrom) {
      const isRedelivery = runs.some(({ attempt }) => attempt > 1);
      const first = runs.reduce((lowest, run) => Math.min(lowest, run.first), chunk.endOffset);
      const last = runs.reduce((highest, run) => Math.max(highest, run.last), 0);
      // The rest of the chunk is wanted by nobody else: the others have had it.
      if (isRedelivery && 2 * bytesOf(chunk, first, last) < chunk.byteLength) {
        number = this.#send(partition, chunk.part(first, last, 'shared'));
      } else {
        number = this.#send(partition, chunk);
        this.#numbers.set(chunk, number);
      }
    }
    this.#link.send({ kind: 'deliver', consumer, chunk: number, runs, messages, bytes });
  }

  #send(partition: DeliveredMessages['partition'], chunk: CachedChunk): number {
    const { firstOffset, count, publishTimeMs, startByte, bytes } = chunk;
    this.#last += 1;
    this.#sizes.push(bytes.length + CHUNK_OVERHEAD_BYTES);
    this.#bytes += bytes.length + CHUNK_OVERHEAD_BYTES;
    // The newest stays, whatever its size.
    while (this.#bytes > this.#maxBytes && this.#keepFrom < this.#last) {
      this.#bytes -= this.#sizes.shift()!;
      this.#keepFrom += 1;
    }
    const numbers = { chunk: this.#last, keepFrom: this.#keepFrom };
    this.#link.send({
      kind: 'chunk',
      ...numbers,
      partition,
      firstOffset,
      count,
      publishTimeMs,
      startByte,
      bytes,
    });
    return this.#last;
  }
}

/** One consumer behind a relay. */
export class PeerSink implements ConsumerSink {
  readonly #consumer: number;
  readonly #link: AnswerLink;
  readonly #window: ChunkWindow;
  readonly #onClose: (error: BrokerError) => void;
  #sent = 0;
  #taken = 0;

  constructor(
    consumer: number,
    link: AnswerLink,
    window: ChunkWindow,
    onClose: (error: BrokerError) => void,
  ) {
    this.#consumer = consumer;
    this.#link = link;
    this.#window = window;
    this.#onClose = onClose;
  }

  get writable(): boolean {
    return this.#link.writable && this.#sent - this.#taken < PEER_WINDOW_BYTES;
  }

  deliver(messages: DeliveredMessages): void {
    this.#sent += messages.bytes;
    this.#window.deliver(this.#consumer, messages);
  }

  /** The stream behind the relay has taken so many bytes in all. */
  taken(bytes: number): void {
    this.#taken = Math.min(this.#sent, Math.max(this.#taken, bytes));
  }

  close(error: BrokerError): void {
    this.#link.send({ kind: 'ended', consumer: this.#consumer, code: error.code, message: error.message });
    this.#onClose(error);
  }
}
