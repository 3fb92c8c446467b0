// The messages of one publish request, encoded as they come. Filled by publisher.ts, sent (and sent again) by
// publish-stream.ts. The bytes of the messages are written once; only the few bytes before them are made for each sending.
import type { FanfareError } from './errors.ts';
import { type MeasuredMessage, type PublishAnswer, writeMessage, writeText } from './message-codec.ts';
import { varintSize, writeVarint } from './wire.ts';

export interface PublishResult {
  /** "{log_epoch}.{partition}-{offset}", unique in a cluster. */
  readonly messageId: string;
}

/** A message in a batch, waiting for its answer. */
interface Entry {
  readonly orderingKey: string | undefined;
  /** Where its bytes end. */
  readonly end: number;
  readonly resolve: (result: PublishResult) => void;
  readonly reject: (error: FanfareError) => void;
}

/** Tag (2) and value (at most 8) of request_id, the tag of topic (1) and its length (at most 3). */
const HEADER_BYTES = 14;
const INITIAL_BYTES = 1024;

export class Batch {
  readonly requestId: number;
  /** Ordering keys that occur in it. */
  readonly keys = new Set<string>();
  /** When its first sending was due to be answered: after that it is given up. Set by publish-stream.ts. */
  deadlineMs = 0;
  readonly #topic: string;
  readonly #topicBytes: number;
  readonly #messagesStart: number;
  #entries: Entry[] = [];
  #buffer: Buffer;
  #end: number;

  /** expectedBytes: how large its messages will probably be. */
  constructor(requestId: number, topic: string, expectedBytes = 0) {
    this.requestId = requestId;
    this.#topic = topic;
    this.#topicBytes = Buffer.byteLength(topic);
    this.#messagesStart = HEADER_BYTES + this.#topicBytes;
    this.#end = this.#messagesStart;
    // A little more than the last one had, or it would grow at its end time and again.
    this.#buffer = Buffer.allocUnsafe(INITIAL_BYTES + expectedBytes + (expectedBytes >> 4));
  }

  /** How many messages it ever took, also those taken out again by rejectKeys. */
  acceptedCount = 0;
  /** Their bytes. */
  acceptedBytes = 0;

  /** How many it has. */
  get count(): number {
    return this.#entries.length;
  }

  /** Of the request at most. */
  get byteLength(): number {
    return this.#end;
  }

  /** Whether one of these ordering keys occurs in it. */
  hasAnyOf(keys: ReadonlySet<string>): boolean {
    const [fewer, more] = keys.size < this.keys.size ? [keys, this.keys] : [this.keys, keys];
    for (const key of fewer) if (more.has(key)) return true;
    return false;
  }

  add(measured: MeasuredMessage, resolve: Entry['resolve'], reject: Entry['reject']): void {
    this.#reserve(measured.fieldBytes);
    this.#end = writeMessage(this.#buffer, this.#end, measured);
    const orderingKey = measured.message.orderingKey || undefined;
    if (orderingKey !== undefined) this.keys.add(orderingKey);
    this.#entries.push({ orderingKey, end: this.#end, resolve, reject });
    this.acceptedCount++;
    this.acceptedBytes += measured.fieldBytes;
  }

  /** The request's bytes, valid until they are asked for again. The first request of a stream names the topic. */
  toRequest(withTopic: boolean): Buffer {
    const idStart = this.#messagesStart - 2 - varintSize(this.requestId);
    this.#buffer[idStart] = 0x80;
    this.#buffer[idStart + 1] = 0x01;
    writeVarint(this.#buffer, idStart + 2, this.requestId);
    if (!withTopic) return this.#buffer.subarray(idStart, this.#end);
    const topicStart = idStart - 1 - varintSize(this.#topicBytes) - this.#topicBytes;
    writeText(this.#buffer, topicStart, 0x0a, this.#topic, this.#topicBytes);
    return this.#buffer.subarray(topicStart, this.#end);
  }

  /** Gives each message its id. False if the answer does not cover exactly the batch's messages. */
  resolve(answer: PublishAnswer): boolean {
    let covered = 0;
    for (const run of answer.runs) covered += run.count;
    if (covered !== this.#entries.length) return false;
    let index = 0;
    for (const run of answer.runs) {
      const prefix = `${answer.logEpoch}.${run.partition}-`;
      for (let nth = 0; nth < run.count; nth++) {
        this.#entries[index++]!.resolve({ messageId: prefix + (run.firstOffset + nth) });
      }
    }
    return true;
  }

  reject(error: FanfareError): void {
    for (const entry of this.#entries) entry.reject(error);
  }

  /** Takes out, and rejects, the messages of keys that failed earlier, so that nothing of a key overtakes its failure. */
  rejectKeys(failed: ReadonlySet<string>, error: () => FanfareError): void {
    if (!this.hasAnyOf(failed)) return;
    const entries = this.#entries;
    this.#entries = [];
    let start = this.#messagesStart;
    let end = this.#messagesStart;
    for (const entry of entries) {
      if (entry.orderingKey !== undefined && failed.has(entry.orderingKey)) {
        entry.reject(error());
      } else {
        this.#buffer.copyWithin(end, start, entry.end);
        end += entry.end - start;
        this.#entries.push({ ...entry, end });
      }
      start = entry.end;
    }
    this.#end = end;
    for (const key of failed) this.keys.delete(key);
  }

  #reserve(bytes: number): void {
    const needed = this.#end + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#end);
    this.#buffer = grown;
  }
}
