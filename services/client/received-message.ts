// A message as a subscriber sees it: a view on the bytes that arrived. Nothing is
// decoded before it is needed.
import type { Leases } from './consumer-stream.ts';
import { FanfareError } from './errors.ts';
import { type MessagePlace, type MessageRange, parseAckId } from './frames.ts';
import { ackDeadlineSeconds } from './option-rules.ts';
import { BYTES, WireReader } from './wire.ts';

/** A response with messages that are not settled yet. Times are performance.now()'s. */
export interface HeldResponse {
  readonly bytes: Buffer;
  readonly leases: Leases;
  readonly receivedMs: number;
  extendAtMs: number;
  /** When its leases end at the latest; Infinity: not known. */
  leaseEndsMs: number;
  /** How many of its messages are not settled. */
  unsettled: number;
  /** The messages that were handed out and are not settled, and some that are. */
  readonly inHand: ReceivedMessage[];
  readonly home: MessageHome;
}

/** The place that messages come from. It is told of each message once that it was acked or given back. */
export interface MessageHome {
  acked(message: ReceivedMessage): void;
  gaveBack(message: ReceivedMessage): void;
  extended(message: ReceivedMessage, seconds: number): void;
  /** All of its messages are settled. */
  released(held: HeldResponse): void;
}

const NO_BYTES = Buffer.alloc(0);
/** Reads the frame of each message as it is made, one after the other. */
const FRAMES = new WireReader(NO_BYTES);

export class ReceivedMessage implements MessagePlace {
  logEpoch = 0;
  partition = 0;
  offset = 0;
  /** How many times this subscription has been given the message, with this time: 1 on the first delivery. */
  deliveryAttempt = 1;
  /** The message's bytes as they count against the credit. */
  readonly byteLength: number;
  readonly #held: HeldResponse;
  /** When its lease ends if extend() was called; else what the response says holds. */
  #extendedUntilMs = 0;
  /** Where the encoded Message lies in the response. */
  #start = 0;
  #end = 0;
  #data: Buffer | undefined;
  #orderingKey = '';
  #publishTimeMs = 0;
  #decoded = false;
  #attributes: Readonly<Record<string, string>> | undefined;
  #settled = false;

  /** The frame's body lies between start and end of the held response. */
  constructor(held: HeldResponse, start: number, end: number) {
    this.#held = held;
    this.byteLength = end - start;
    const reader = FRAMES;
    reader.reset(held.bytes, start, end);
    let hasAckId = false;
    while (reader.next()) {
      if (reader.field === 1 && reader.wireType === BYTES) {
        const to = reader.lengthDelimitedEnd();
        parseAckId(held.bytes, reader.position, to, this);
        reader.position = to;
        hasAckId = true;
      } else if (reader.field === 2 && reader.wireType === BYTES) {
        this.#end = reader.lengthDelimitedEnd();
        this.#start = reader.position;
        reader.position = this.#end;
      } else if (reader.field === 3) this.deliveryAttempt = Math.max(1, reader.varint());
      else reader.skip();
    }
    if (!hasAckId) throw new FanfareError('INTERNAL', 'the broker sent a message without an ack id');
  }

  /** The payload: a view on the response that brought it. Copy it to keep it for long. */
  get data(): Buffer {
    this.#decode();
    return this.#data ?? NO_BYTES;
  }

  /** The payload as UTF-8. */
  get text(): string {
    return this.data.toString('utf8');
  }

  get attributes(): Readonly<Record<string, string>> {
    this.#attributes ??= this.#decodeAttributes();
    return this.#attributes;
  }

  /** Empty without one. */
  get orderingKey(): string {
    this.#decode();
    return this.#orderingKey;
  }

  /** "{log_epoch}.{partition}-{offset}", unique in a cluster. */
  get messageId(): string {
    return `${this.logEpoch}.${this.partition}-${this.offset}`;
  }

  /** When the broker appended it. */
  get publishTime(): Date {
    this.#decode();
    return new Date(this.#publishTimeMs);
  }

  /** The number of the stream that brought it among those of its consumer, counted from 1. */
  get generation(): number {
    return this.#held.leases.number;
  }

  /**
   * Whether its lease has ended, with its stream or by time: then it is delivered again unless acked soon.
   */
  get isStale(): boolean {
    return this.isStaleAt(performance.now());
  }

  /** @internal */
  isStaleAt(nowMs: number): boolean {
    const { leases, leaseEndsMs } = this.#held;
    return leases.gone || (nowMs > leaseEndsMs && nowMs > this.#extendedUntilMs);
  }

  /** Whether it was acked or given back. */
  get isSettled(): boolean {
    return this.#settled;
  }

  /** @internal */
  get leases(): Leases {
    return this.#held.leases;
  }

  /** @internal */
  get response(): HeldResponse {
    return this.#held;
  }

  /** @internal This delivery of the message. */
  get range(): MessageRange {
    const { logEpoch, partition, offset, deliveryAttempt } = this;
    return { logEpoch, partition, firstOffset: offset, lastOffset: offset, deliveryAttempt };
  }

  /** Says that it is processed: it is not delivered again. The broker is told within a few milliseconds. */
  ack(): void {
    if (this.discard()) this.#held.home.acked(this);
  }

  /**
   * Gives it back: it is delivered again at once, perhaps to another consumer. In a subscription with
   * ordering nothing later of its key is handed out before it.
   */
  nack(): void {
    if (this.discard()) this.#held.home.gaveBack(this);
  }

  /** Lets its lease end that many seconds (1 to 600) from now. */
  extend(seconds: number): void {
    ackDeadlineSeconds('seconds', seconds);
    if (this.#settled || this.isStale) return;
    this.#extendedUntilMs = performance.now() + seconds * 1000;
    this.#held.home.extended(this, seconds);
  }

  /** @internal Settles it without telling anybody. False: it was settled before. */
  discard(): boolean {
    if (this.#settled) return false;
    this.#settled = true;
    const held = this.#held;
    // Usually it is settled before the next one is handed out; then it need not live as long as its response.
    if (held.inHand.at(-1) === this) held.inHand.pop();
    if (--held.unsettled === 0) held.home.released(held);
    return true;
  }

  #decode(): void {
    if (this.#decoded) return;
    this.#decoded = true;
    const { bytes } = this.#held;
    const reader = new WireReader(bytes, this.#start, this.#end);
    while (reader.next()) {
      if (reader.wireType !== BYTES || reader.field === 2) {
        reader.skip();
        continue;
      }
      const to = reader.lengthDelimitedEnd();
      if (reader.field === 1) this.#data = bytes.subarray(reader.position, to);
      else if (reader.field === 4) this.#publishTimeMs = decodeTimestampMs(bytes, reader.position, to);
      else if (reader.field === 5) this.#orderingKey = bytes.toString('utf8', reader.position, to);
      reader.position = to;
    }
  }

  #decodeAttributes(): Record<string, string> {
    const attributes: Record<string, string> = {};
    const { bytes } = this.#held;
    const reader = new WireReader(bytes, this.#start, this.#end);
    while (reader.next()) {
      if (reader.field !== 2 || reader.wireType !== BYTES) {
        reader.skip();
        continue;
      }
      const to = reader.lengthDelimitedEnd();
      const [key, value] = decodeEntry(bytes, reader.position, to);
      // A key named __proto__ is a key like any other.
      Object.defineProperty(attributes, key, { value, enumerable: true, configurable: true, writable: true });
      reader.position = to;
    }
    return attributes;
  }
}

function decodeEntry(bytes: Buffer, start: number, end: number): [key: string, value: string] {
  let key = '';
  let value = '';
  const reader = new WireReader(bytes, start, end);
  while (reader.next()) {
    if (reader.wireType !== BYTES) {
      reader.skip();
      continue;
    }
    const to = reader.lengthDelimitedEnd();
    if (reader.field === 1) key = bytes.toString('utf8', reader.position, to);
    else if (reader.field === 2) value = bytes.toString('utf8', reader.position, to);
    reader.position = to;
  }
  return [key, value];
}

function decodeTimestampMs(bytes: Buffer, start: number, end: number): number {
  let seconds = 0;
  let nanos = 0;
  const reader = new WireReader(bytes, start, end);
  while (reader.next()) {
    if (reader.field === 1) seconds = reader.varint();
    else if (reader.field === 2) nanos = reader.varint();
    else reader.skip();
  }
  return seconds * 1000 + nanos / 1_000_000;
}
