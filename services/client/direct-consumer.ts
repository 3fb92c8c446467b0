// A consumer with a stream to each broker that owns partitions of the topic, following the routing table.
// Each stream is a leg; the credit is shared among the legs by how many partitions their brokers own, so that
// together they ask for no more than the consumer may have.
//
// A partition that moves takes its leases with it, so what is settled goes to the leg that brought the
// message and, when the partition is another owner's by now, to that one's leg as well: twice does no harm.
// The leg of a broker that owns nothing any more stays for a while, since the table changes before the
// partitions do. While there is no table, while the credit is too small to be shared, or while an owner can't
// be reached from here, a leg to any broker delivers what that broker can get.
import { randomUUID } from 'node:crypto';
import type { Connection } from './connection.ts';
import type { ConsumerListener, ConsumerOptions, ConsumerStream, Leases } from './consumer-stream.ts';
import { type FanfareError, toFanfareError } from './errors.ts';
import type { MessagePlace, MessageRange } from './frames.ts';
import { RecentSettlements } from './recent-settlements.ts';
import { type RouteTable, RouteWatch } from './routes.ts';
import type { SubscriptionProperties } from './subscribe-codec.ts';
import { SubscribeStream } from './subscribe-stream.ts';

/** How long a table is waited for; without one by then, brokers are left to find the owners. */
const TABLE_WAIT_MS = 2_000;
const CHECK_MS = 1_000;
/** How long a leg stays whose broker owns nothing any more: longer than a hand-over or a failover takes. */
const LINGER_MS = 10_000;
/** An owner that can't be reached for so long is gone around by the leg to any broker. */
const UNREACHABLE_MS = 5_000;

interface Leg {
  readonly stream: SubscribeStream;
  /** When its broker was last an owner, by performance.now(). */
  ownedMs: number;
}

export class DirectConsumer implements ConsumerStream {
  readonly subscription: string;
  maxOutstandingMessages: number;
  readonly maxOutstandingBytes: number;
  readonly #connection: Connection;
  readonly #options: ConsumerOptions;
  readonly #topicOf: (subscription: string) => Promise<string>;
  readonly #listener: ConsumerListener;
  readonly #clientId: string;
  /** The legs, by the addresses of their owners; '': the leg to any broker. */
  readonly #legs = new Map<string, Leg>();
  readonly #legOf = new WeakMap<Leases, Leg>();
  readonly #recentAcks = new RecentSettlements();
  readonly #recentNacks = new RecentSettlements();
  /**
   * The incarnation that recent acks and nacks, and all legs that don't lag behind, are about; 0: not known.
   */
  #incarnation = 0;
  /** The table has changed: what was settled lately is told again at the next check, too. */
  #repeats = false;
  #table: RouteTable = [];
  #watch: RouteWatch | undefined;
  #timer: NodeJS.Timeout | undefined;
  #number = 0;
  #isPaused = false;
  #takesNoMore = false;
  #isOver = false;
  #closing: Promise<void> | undefined;

  constructor(
    connection: Connection,
    subscription: string,
    options: ConsumerOptions,
    topicOf: (subscription: string) => Promise<string>,
    listener: ConsumerListener,
  ) {
    this.subscription = connection.subscriptionName(subscription);
    this.maxOutstandingMessages = options.maxOutstandingMessages ?? 10_000;
    this.maxOutstandingBytes = options.maxOutstandingBytes ?? 16 * 1024 * 1024;
    this.#connection = connection;
    this.#options = options;
    this.#topicOf = topicOf;
    this.#listener = listener;
    this.#clientId = options.clientId ?? randomUUID();
  }

  open(): void {
    this.#timer = setTimeout(() => this.#check(), TABLE_WAIT_MS);
    this.#topicOf(this.subscription).then(
      (topic) => this.#watchRoutes(topic),
      // Without a topic there is no table; a leg to any broker says what is wrong with the subscription.
      (error) => this.#withoutTable(toFanfareError(error)),
    );
  }

  limitMessages(maxOutstandingMessages: number): void {
    if (this.maxOutstandingMessages === maxOutstandingMessages) return;
    this.maxOutstandingMessages = maxOutstandingMessages;
    this.#update();
  }

  takeNoMore(): void {
    this.#takesNoMore = true;
    for (const { stream } of this.#legs.values()) stream.takeNoMore();
  }

  ack(
    leases: Leases,
    logEpoch: number,
    partition: number,
    firstOffset: number,
    lastOffset: number,
    bytes: number,
  ): void {
    if (this.#isOfAnother(leases)) return;
    this.#recentAcks.add([{ logEpoch, partition, firstOffset, lastOffset }]);
    const origin = this.#legOf.get(leases);
    const owner = this.#ownerOf(partition);
    origin?.stream.ack(leases, logEpoch, partition, firstOffset, lastOffset, bytes);
    if (owner !== origin) owner?.stream.ack(leases, logEpoch, partition, firstOffset, lastOffset, 0);
  }

  nack(leases: Leases, range: MessageRange): void {
    if (this.#isOfAnother(leases) || leases.gone) return;
    // A nack that names no delivery is not told again: it would concern the next delivery.
    if (range.deliveryAttempt !== undefined) this.#recentNacks.add([range]);
    if (range.firstOffset === range.lastOffset)
      this.#recentAcks.remove(range.logEpoch, range.partition, range.firstOffset);
    const origin = this.#legOf.get(leases);
    const owner = this.#ownerOf(range.partition);
    origin?.stream.nack(leases, range);
    if (owner !== origin) owner?.stream.nack(leases, range);
  }

  flush(): void {
    for (const { stream } of this.#legs.values()) stream.flush();
  }

  wasAcked({ logEpoch, partition, offset }: MessagePlace): boolean {
    return this.#recentAcks.has(logEpoch, partition, offset);
  }

  extend(ranges: readonly MessageRange[], extendSeconds: number): boolean {
    let all = true;
    // A leg that does not hold a lease ignores its extension.
    for (const { stream } of this.#legs.values()) {
      const { owner } = stream;
      const own = ranges.filter(({ partition }) => owner === undefined || this.#table[partition] === owner);
      if (own.length > 0 && !stream.extend(own, extendSeconds)) all = false;
    }
    return all;
  }

  pause(): void {
    this.#isPaused = true;
    for (const { stream } of this.#legs.values()) stream.pause();
  }

  resume(): void {
    this.#isPaused = false;
    for (const { stream } of this.#legs.values()) stream.resume();
  }

  close(): Promise<void> {
    this.#closing ??= this.#end(undefined);
    return this.#closing;
  }

  #watchRoutes(topic: string): void {
    if (this.#isOver) return;
    this.#watch = new RouteWatch(this.#connection, topic, {
      onTable: (table) => this.#onTable(table),
      onNone: (error) => this.#withoutTable(error),
    });
  }

  #withoutTable(_error: FanfareError): void {
    this.#table = [];
    this.#update();
  }

  #onTable(table: RouteTable): void {
    this.#table = table;
    this.#repeats = true;
    this.#update();
    this.#repeat();
  }

  /** Opens, closes and limits legs as the table and their state demand. */
  #update(): void {
    if (this.#isOver) return;
    const nowMs = performance.now();
    const weights = new Map<string, number>();
    for (const address of this.#table) {
      if (address !== undefined) weights.set(address, (weights.get(address) ?? 0) + 1);
    }
    const fits = this.maxOutstandingMessages >= 2 * (weights.size + 1);
    if (!fits) weights.clear();
    for (const address of weights.keys()) this.#leg(address).ownedMs = nowMs;
    const unreachable = [...weights.keys()].some(
      (address) => this.#leg(address).stream.failingMs > UNREACHABLE_MS,
    );
    // The share of the leg to any broker is as large as an average owner's.
    if (weights.size === 0 || unreachable) {
      this.#leg('').ownedMs = nowMs;
      weights.set('', Math.max(1, Math.ceil(this.#table.length / Math.max(1, weights.size))));
    }
    for (const [address, leg] of this.#legs) {
      if (weights.has(address)) continue;
      const lingers = address !== '' && nowMs - leg.ownedMs < LINGER_MS && leg.stream.isOpen;
      if (!lingers) this.#drop(address, leg);
    }
    this.#share(weights);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), CHECK_MS);
  }

  #check(): void {
    this.#update();
    if (!this.#repeats) return;
    // The new owner may not have been one yet when the table changed.
    this.#repeats = false;
    this.#repeat();
  }

  #leg(address: string): Leg {
    let leg = this.#legs.get(address);
    if (leg === undefined) {
      const stream = new SubscribeStream(
        this.#connection,
        this.subscription,
        {
          ...this.#options,
          clientId: this.#clientId,
          // The limits of a leg that has not got its share yet.
          maxOutstandingMessages: 1,
          maxOutstandingBytes: 1,
          nextNumber: () => ++this.#number,
          ...(address !== '' && { owner: address }),
        },
        {
          onProperties: (properties) => this.#onProperties(properties),
          onResponse: (bytes, leases) => {
            this.#legOf.set(leases, made);
            this.#listener.onResponse(bytes, leases);
          },
          onInterrupted: (leases) => this.#listener.onInterrupted(leases),
          onEnd: (error) => this.#onLegEnd(address, made, error),
        },
      );
      const made: Leg = { stream, ownedMs: performance.now() };
      leg = made;
      this.#legs.set(address, leg);
      if (this.#isPaused) stream.pause();
      if (this.#takesNoMore) stream.takeNoMore();
      // The leg opens after it has got its share, at the end of #update.
      queueMicrotask(() => stream.open());
    }
    return leg;
  }

  #share(weights: ReadonlyMap<string, number>): void {
    let total = 0;
    for (const weight of weights.values()) total += weight;
    for (const [address, { stream }] of this.#legs) {
      const part = (weights.get(address) ?? 0) / total;
      // A leg that lingers is to bring nothing new.
      const messages = Math.max(1, Math.floor((this.maxOutstandingMessages - weights.size) * part));
      stream.setLimits(messages, Math.max(1, Math.floor(this.maxOutstandingBytes * part)));
    }
  }

  #drop(address: string, leg: Leg): void {
    this.#legs.delete(address);
    void leg.stream.close({ leasesMoved: true });
  }

  #repeat(): void {
    const leases: Leases = { number: 0, gone: false, incarnation: this.#incarnation };
    for (const { logEpoch, partition, firstOffset, lastOffset } of this.#recentAcks.ranges()) {
      this.#ownerOf(partition)?.stream.ack(leases, logEpoch, partition, firstOffset, lastOffset, 0);
    }
    for (const range of this.#recentNacks.ranges())
      this.#ownerOf(range.partition)?.stream.nack(leases, range);
  }

  #ownerOf(partition: number): Leg | undefined {
    return this.#legs.get(this.#table[partition] ?? '');
  }

  /**
   * A leg to a broker that has not heard of the new subscription yet is soon told that the old one is gone.
   */
  #onProperties(properties: SubscriptionProperties): void {
    if (properties.incarnation < this.#incarnation) return;
    if (properties.incarnation > this.#incarnation && this.#incarnation !== 0) {
      this.#recentAcks.clear();
      this.#recentNacks.clear();
    }
    this.#incarnation = properties.incarnation;
    this.#listener.onProperties(properties);
  }

  #isOfAnother({ incarnation }: Leases): boolean {
    return incarnation !== 0 && this.#incarnation !== 0 && incarnation !== this.#incarnation;
  }

  #onLegEnd(address: string, leg: Leg, error: FanfareError | undefined): void {
    if (this.#legs.get(address) !== leg) return;
    this.#legs.delete(address);
    if (error === undefined) return;
    if (error.code !== 'NOT_FOUND' || address === '') {
      void this.#end(error);
      return;
    }
    // An owner may be the last to hear of a new subscription; if there is one, the next
    // check opens a leg again.
    this.#topicOf(this.subscription).catch((confirmed) => {
      if (toFanfareError(confirmed).code === 'NOT_FOUND') void this.#end(error);
    });
  }

  async #end(error: FanfareError | undefined): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#watch?.close();
    const legs = [...this.#legs.values()];
    this.#legs.clear();
    await Promise.all(legs.map(({ stream }) => stream.close()));
    this.#listener.onEnd(error);
  }
}
