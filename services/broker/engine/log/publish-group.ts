// Publishes on their way through the append: they gather while one is under way, and go together. Invariant:
// each is answered once, and the first answer counts.
import { cutChunk, type Slice, sliceBytes, sliceLength, splitSlice } from '../../core/chunk.ts';
import type { BrokerError } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { EngineContext } from '../context.ts';
import { CachedChunk } from './chunk-cache.ts';

/**
 * Exactly one of its functions is called, once. They are functions and no promise: a batch has one for each
 * partition, and all that became durable together is answered in order, within one turn.
 */
export interface PendingPublish {
  readonly slice: Slice;
  /** The count of partitions by which it was routed. Undefined: it came over a link, and nobody knows. */
  readonly partitions?: number | undefined;
  /** It came over a link on which something before it was refused, which it must not overtake. */
  readonly behindRefused?: boolean;
  /**
   * The slice's messages have consecutive offsets from firstOffset on and are as durable as the topic asks.
   */
  done(firstOffset: number): void;
  failed(error: BrokerError): void;
  /**
   * Nothing of it was stored: the topic has grown, and its keys may belong elsewhere. Whoever brought it
   * routes it anew.
   */
  misrouted(): void;
}

interface Waiting {
  readonly publish: PendingPublish;
  /** The bytes of its messages. */
  readonly bytes: number;
  answered: boolean;
  /** Its publisher has heard before it was stored. */
  toldEarly: boolean;
}

/** Where the next chunk begins in its log, and what it is dated. */
export interface ChunkStart {
  readonly partition: PartitionId;
  readonly firstOffset: number;
  readonly startByte: number;
  readonly publishTimeMs: number;
}

/** What waits for the next append. */
export class PublishQueue {
  readonly #context: EngineContext;
  #waiting: Waiting[] = [];

  constructor(context: EngineContext) {
    this.#context = context;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  add(publish: PendingPublish): void {
    this.#waiting.push({ publish, bytes: sliceBytes(publish.slice), answered: false, toldEarly: false });
  }

  /** Takes what goes into one append: at most maxAppendBytes, at least one publish. */
  takeGroup(): PublishGroup {
    const { maxAppendBytes } = this.#context.limits;
    let bytes = 0;
    let count = 0;
    for (const waiting of this.#waiting) {
      bytes += waiting.bytes;
      if (count > 0 && bytes > maxAppendBytes) break;
      count += 1;
    }
    if (count === this.#waiting.length) return this.takeAll();
    return new PublishGroup(this.#waiting.splice(0, count), this.#context);
  }

  takeAll(): PublishGroup {
    return new PublishGroup(this.#waiting.splice(0), this.#context);
  }
}

export class PublishGroup {
  readonly #waiting: readonly Waiting[];
  readonly #context: EngineContext;

  constructor(waiting: readonly Waiting[], context: EngineContext) {
    this.#waiting = waiting;
    this.#context = context;
  }

  answer(firstOffset: number): void {
    let offset = firstOffset;
    for (const waiting of this.#waiting) {
      const { publish } = waiting;
      if (markAnswered(waiting)) publish.done(offset);
      offset += sliceLength(publish.slice);
    }
  }

  /** Answers before the messages are stored. */
  answerEarly(firstOffset: number): void {
    this.answer(firstOffset);
    for (const waiting of this.#waiting) waiting.toldEarly = true;
  }

  fail(error: BrokerError): void {
    for (const waiting of this.#waiting) {
      if (!markAnswered(waiting)) continue;
      this.#context.stats.refusedPublishes += 1;
      waiting.publish.failed(error);
    }
  }

  /**
   * Gives away what was not stored. Of what may have been stored only that goes on whose publishers were told
   * that it is safe, which may then come twice.
   */
  move(
    perhapsStored: boolean,
    to: { moved(publish: PendingPublish): void; passedOn(publish: PendingPublish): void },
  ): void {
    for (const waiting of this.#waiting) {
      if (waiting.toldEarly) to.passedOn(waiting.publish);
      else if (!perhapsStored && markAnswered(waiting)) to.moved(waiting.publish);
    }
  }

  /** Cuts chunks of at most maxChunkBytes and maxChunkMessages, as far as the slices' bounds allow. */
  cut(start: ChunkStart): CachedChunk[] {
    const { maxChunkBytes, maxChunkMessages } = this.#context.limits;
    const { partition, publishTimeMs } = start;
    const chunks: CachedChunk[] = [];
    let { firstOffset, startByte } = start;
    let slices: Slice[] = [];
    let bytes = 0;
    let messages = 0;
    const cut = (): void => {
      const made = cutChunk(slices, partition, firstOffset, publishTimeMs, Buffer.allocUnsafeSlow);
      const chunk = { firstOffset, count: made.count, publishTimeMs, startByte };
      chunks.push(new CachedChunk({ ...chunk, bytes: made.bytes as Buffer }, made.ends, made.keyHashes));
      firstOffset += made.count;
      startByte += made.bytes.length;
      slices = [];
      bytes = 0;
      messages = 0;
    };
    for (const waiting of this.#waiting) {
      const { slice } = waiting.publish;
      const count = sliceLength(slice);
      const isFull = bytes + waiting.bytes > maxChunkBytes || messages + count > maxChunkMessages;
      if (slices.length > 0 && isFull) cut();
      if (waiting.bytes > maxChunkBytes) {
        const parts = splitSlice(slice, maxChunkBytes);
        for (const part of parts.slice(0, -1)) {
          slices.push(part);
          cut();
        }
        slices.push(parts.at(-1)!);
        bytes = sliceBytes(parts.at(-1)!);
        messages = sliceLength(parts.at(-1)!);
      } else {
        slices.push(slice);
        bytes += waiting.bytes;
        messages += count;
      }
    }
    cut();
    return chunks;
  }
}

/** False: its publisher has its answer already. */
function markAnswered(waiting: Waiting): boolean {
  if (waiting.answered) return false;
  waiting.answered = true;
  return true;
}
