// The messages of one publish request, encoded as they come. The bytes of the messages are written once; only
// the few bytes before them are made for each sending.
//
// A batch keeps its request id, and so its place among others, until each of its messages is stored or has
// failed: what the broker refuses is taken out, and the rest is sent again. The broker says which message
// that is. An older one does not; then the message is looked for: the first half of the suspects is sent
// alone, and if that is stored the other half is suspected.
import { type FanfareError, keyStopped } from './errors.ts';
import { type MeasuredMessage, type PublishAnswer, writeMessage, writeText } from './message-codec.ts';
import { varintSize, writeVarint } from './wire.ts';

export interface PublishResult {
  /** "{log_epoch}.{partition}-{offset}", unique in a cluster. */
  readonly messageId: string;
}

/** A message in a batch, waiting for its answer. */
interface Entry {
  readonly orderingKey: string | undefined;
  /** Where its bytes end in the batch's buffer. */
  readonly end: number;
  readonly resolve: (result: PublishResult) => void;
  readonly reject: (error: FanfareError) => void;
}

/** Tag (2) and value (at most 8) of request_id, the tag of topic (1) and its length (at most 3). */
const HEADER_BYTES = 14;
const INITIAL_BYTES = 1024;
/** How often a message at fault is looked for when refusals don't say which it is: enough to find some. */
const MAX_SEARCHES = 64;

export class Batch {
  readonly requestId: number;
  /** When the batch was made, by performance.now(). */
  readonly openedAtMs = performance.now();
  /** The ordering keys that occur in it. */
  readonly keys = new Set<string>();
  /** When it is given up, by performance.now(); 0: it was not sent yet. */
  deadlineMs = 0;
  readonly #topic: string;
  readonly #topicBytes: number;
  #messagesStart: number;
  #entries: Entry[] = [];
  #buffer: Buffer;
  #end: number;
  /** One of this many messages, from the first, is at fault; 0: none is suspected. */
  #suspects = 0;
  #searches = 0;

  /** expectedBytes: how large its messages will probably be, together. */
  constructor(requestId: number, topic: string, expectedBytes = 0) {
    this.requestId = requestId;
    this.#topic = topic;
    this.#topicBytes = Buffer.byteLength(topic);
    this.#messagesStart = HEADER_BYTES + this.#topicBytes;
    this.#end = this.#messagesStart;
    // A little more than that, or a slightly larger batch than the last would have to grow at its end.
    this.#buffer = Buffer.allocUnsafe(INITIAL_BYTES + expectedBytes + (expectedBytes >> 4));
  }

  /** How many messages it ever took, those that are done included. */
  acceptedCount = 0;
  /** The bytes of all messages that it ever took. */
  acceptedBytes = 0;

  /** How many messages are not done: neither stored nor rejected. */
  get count(): number {
    return this.#entries.length;
  }

  /** How many of these the next request has, from the first. */
  get sentCount(): number {
    return this.#suspects === 0 ? this.#entries.length : Math.max(1, this.#suspects >> 1);
  }

  /** The length of the request at most. */
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

  /** The request's bytes, valid until they are asked for again. */
  toRequest(withTopic: boolean): Buffer {
    const idStart = this.#messagesStart - 2 - varintSize(this.requestId);
    this.#buffer[idStart] = 0x80;
    this.#buffer[idStart + 1] = 0x01;
    writeVarint(this.#buffer, idStart + 2, this.requestId);
    const end = this.#entries[this.sentCount - 1]?.end ?? this.#messagesStart;
    if (!withTopic) return this.#buffer.subarray(idStart, end);
    const topicStart = idStart - 1 - varintSize(this.#topicBytes) - this.#topicBytes;
    writeText(this.#buffer, topicStart, 0x0a, this.#topic, this.#topicBytes);
    return this.#buffer.subarray(topicStart, end);
  }

  /** Whether the answer fits the request: it has an id for each of its messages. */
  isAnsweredBy(answer: PublishAnswer): boolean {
    let covered = 0;
    for (const run of answer.runs) covered += run.count;
    return covered === this.sentCount;
  }

  /** Gives each message of the request its id. The others, if there are any, are still to be sent. */
  resolve(answer: PublishAnswer): void {
    const sent = this.sentCount;
    let index = 0;
    for (const run of answer.runs) {
      const prefix = `${answer.logEpoch}.${run.partition}-`;
      for (let nth = 0; nth < run.count; nth++) {
        this.#entries[index++]!.resolve({ messageId: prefix + (run.firstOffset + nth) });
      }
    }
    if (sent === this.#entries.length) {
      this.#entries = [];
      return;
    }
    this.#suspects -= sent;
    // The header of the next request overwrites the messages that are stored.
    this.#messagesStart = this.#entries[sent - 1]!.end;
    this.#entries = this.#entries.slice(sent);
    this.#findKeys();
  }

  reject(error: FanfareError): void {
    for (const entry of this.#entries) entry.reject(error);
    this.#entries = [];
  }

  /**
   * One message of the request was refused, and the broker does not say which: the next request has half of
   * them. False: the message was looked for long enough.
   */
  narrow(): boolean {
    this.#suspects = this.sentCount;
    return ++this.#searches <= MAX_SEARCHES;
  }

  /**
   * Takes out and rejects the message at `index` and those of its ordering key behind it, so that nothing of
   * a key overtakes its failure. Returns the key.
   */
  takeOut(index: number, error: FanfareError): string | undefined {
    const { orderingKey } = this.#entries[index]!;
    this.#suspects = 0;
    this.#keepOnly((entry, at) => {
      if (at === index) entry.reject(error);
      else if (at < index || orderingKey === undefined || entry.orderingKey !== orderingKey) return true;
      else entry.reject(keyStopped(orderingKey, error));
      return false;
    });
    return orderingKey;
  }

  /** Takes out and rejects the messages of keys that failed earlier. */
  rejectKeys(failed: ReadonlySet<string>, cause: FanfareError): void {
    if (!this.hasAnyOf(failed)) return;
    this.#suspects = 0;
    this.#keepOnly(({ orderingKey, reject }) => {
      if (orderingKey === undefined || !failed.has(orderingKey)) return true;
      reject(keyStopped(orderingKey, cause));
      return false;
    });
  }

  /** Drops the other messages, and moves together the bytes of those that are kept. */
  #keepOnly(isKept: (entry: Entry, index: number) => boolean): void {
    const entries = this.#entries;
    this.#entries = [];
    let start = this.#messagesStart;
    let end = this.#messagesStart;
    for (const [index, entry] of entries.entries()) {
      if (isKept(entry, index)) {
        this.#buffer.copyWithin(end, start, entry.end);
        end += entry.end - start;
        this.#entries.push({ ...entry, end });
      }
      start = entry.end;
    }
    this.#end = end;
    this.#findKeys();
  }

  #findKeys(): void {
    this.keys.clear();
    for (const { orderingKey } of this.#entries) if (orderingKey !== undefined) this.keys.add(orderingKey);
  }

  #reserve(bytes: number): void {
    const needed = this.#end + bytes;
    if (needed <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#end);
    this.#buffer = grown;
  }
}
