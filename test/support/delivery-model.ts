// What core/delivery.ts promises, said message by message and without intervals: the model that its property
// test holds it against. It knows every message's state, follows the events by the rules of the design, and
// checks the effects.
//
// It decides nothing: which messages a lease event gives out is the machine's choice; the model says whether
// it may.
import { expect } from 'vitest';
import type { Cursor } from '../../services/broker/core/cursor.ts';
import type { DeliveryOptions } from '../../services/broker/core/delivery.ts';
import type { DeliveryEffect } from '../../services/broker/core/delivery-events.ts';
import type { Interval } from '../../services/broker/core/intervals.ts';
import { SLOTS } from '../../services/broker/core/key-slots.ts';

export interface ModelMessage {
  readonly offset: number;
  /** Hash of the ordering key; 0 without one, and for all if the subscription has no ordering. */
  readonly key: number;
  readonly bytes: number;
  state: 'waiting' | 'leased' | 'held' | 'settled';
  consumer: number;
  deadlineMs: number;
  /** Deliveries that ended in vain; below, how many of them are known to be durable. */
  failures: number;
  durableFailures: number;
  /** While held: whether the commit under way says so. */
  covered: boolean;
  /** Whether it was delivered since the last restart. */
  delivered: boolean;
}

/** What a commit would leave behind if it became durable. */
export interface ModelCursor {
  readonly settled: ReadonlySet<number>;
  /**
   * Attempts by message, with what is outstanding counted as delivered in vain: if the cursor is all that is
   * left, it was.
   */
  readonly failures: ReadonlyMap<number, number>;
  /** Attempts by message, without what is outstanding. */
  readonly ended: ReadonlyMap<number, number>;
}

/** What a lease event asked for. */
export interface Asked {
  readonly consumer: number;
  readonly chunk: Interval;
  readonly maxMessages: number;
  readonly maxBytes: number;
  readonly idle: boolean;
  readonly deadlineMs: number;
}

interface Book {
  messages: number;
  /** Bytes of frames that are leased. */
  bytes: number;
}

export class DeliveryModel {
  readonly #options: DeliveryOptions;
  readonly messages: ModelMessage[] = [];
  readonly #books = new Map<number, Book>();
  /** Keys whose run was broken by a give-back and has not ended. */
  readonly #broken = new Set<number>();
  /** The end of what was looked at while there were few enough holes. */
  #lookedAt = 0;
  #lastFloor = 0;
  readonly totals = { delivered: 0, redelivered: 0, acked: 0, expiredByRetention: 0 };

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  get floor(): number {
    const at = this.messages.findIndex(({ state }) => state !== 'settled');
    return at < 0 ? this.messages.length : at;
  }

  get backlog(): number {
    return this.messages.filter(({ state }) => state !== 'settled').length;
  }

  outstandingAt(consumer: number): ModelMessage[] {
    return this.messages.filter((message) => message.state === 'leased' && message.consumer === consumer);
  }

  get outstanding(): number {
    return this.messages.filter(({ state }) => state === 'leased').length;
  }

  /** How many were delivered at least once and are not settled. */
  get unsettled(): number {
    return this.messages.filter(({ state, delivered }) => state !== 'settled' && delivered).length;
  }

  /** How many settled intervals lie above the floor. */
  get holes(): number {
    let holes = 0;
    for (let at = this.floor + 1; at < this.messages.length; at += 1) {
      if (this.messages[at]!.state === 'settled' && this.messages[at - 1]!.state !== 'settled') holes += 1;
    }
    return holes;
  }

  append(keys: readonly number[], sizes: readonly number[]): void {
    for (const [i, bytes] of sizes.entries()) {
      this.messages.push({
        offset: this.messages.length,
        key: this.#options.ordering ? keys[i]! : 0,
        bytes,
        state: 'waiting',
        consumer: 0,
        deadlineMs: 0,
        failures: 0,
        durableFailures: 0,
        covered: false,
        delivered: false,
      });
    }
  }

  /** Checks the effects of a lease event, and follows it. */
  lease(asked: Asked, effects: readonly DeliveryEffect[]): void {
    if (this.holes < this.#options.maxHoles) {
      this.#lookedAt = Math.max(this.#lookedAt, asked.chunk.last + 1);
    } else {
      // Deliveries that fill holes are always allowed: they close them.
      const settled = this.messages.findLastIndex(({ state }) => state === 'settled');
      const failed = this.messages.findLastIndex(
        ({ state, failures }) => state !== 'settled' && failures > 0,
      );
      this.#lookedAt = Math.max(this.#lookedAt, settled + 1, failed + 1);
    }
    if (effects.length === 0) return;
    expect(effects.length).toBe(1);
    const [deliver] = effects;
    if (deliver?.kind !== 'deliver') throw new Error(`a lease gave ${deliver?.kind}`);
    expect(deliver.consumer).toBe(asked.consumer);
    let bytes = 0;
    let messages = 0;
    for (const run of deliver.runs) {
      expect(run.first <= run.last && run.first >= asked.chunk.first && run.last <= asked.chunk.last).toBe(
        true,
      );
      for (let offset = run.first; offset <= run.last; offset += 1) {
        const message = this.messages[offset]!;
        this.#mayDeliver(message, run.attempt, asked.consumer);
        message.state = 'leased';
        message.consumer = asked.consumer;
        message.deadlineMs = asked.deadlineMs;
        message.delivered = true;
        bytes += message.bytes;
        messages += 1;
        if (run.attempt > 1) this.totals.redelivered += 1;
      }
    }
    this.totals.delivered += messages;
    expect(this.outstanding, 'outstanding').toBeLessThanOrEqual(this.#options.maxUnsettled);
    expect(messages).toBeGreaterThan(0);
    expect(deliver.messages).toBe(messages);
    expect(deliver.bytes).toBe(bytes);
    expect(messages).toBeLessThanOrEqual(asked.maxMessages);
    if (bytes > asked.maxBytes) {
      expect(asked.idle, 'more bytes than granted to a consumer that is not idle').toBe(true);
      expect(messages, 'an oversized delivery is one message').toBe(1);
    }
    const book = this.#books.get(asked.consumer) ?? { messages: 0, bytes: 0 };
    this.#books.set(asked.consumer, { messages: book.messages + messages, bytes: book.bytes + bytes });
  }

  #mayDeliver(message: ModelMessage, attempt: number, consumer: number): void {
    const broken = (rule: string): never => {
      throw new Error(`message ${message.offset} was given to consumer ${consumer}: ${rule}`);
    };
    if (message.state !== 'waiting') broken(`it is ${message.state}`);
    if (attempt !== message.failures + 1) broken(`as attempt ${attempt} after ${message.failures} failures`);
    if (message.durableFailures !== message.failures) broken('its attempt count is not durable');
    if (message.offset >= this.#lookedAt) broken('there are too many holes for new ones');
    if (message.key === 0) return;
    if (this.#broken.has(message.key)) broken('the run of its key is broken and has not ended');
    let run = 1;
    for (const other of this.messages) {
      if (other.key % SLOTS !== message.key % SLOTS) continue;
      const leased = other.state === 'leased';
      if (leased && other.consumer !== consumer)
        broken(`${other.offset} of its slot is at ${other.consumer}`);
      if (other.key !== message.key) continue;
      if (other.offset < message.offset && !leased && other.state !== 'settled')
        broken(`${other.offset} of its key comes first`);
      if (other.offset > message.offset && leased) broken(`${other.offset} of its key went out already`);
      if (other.state === 'held') broken('its key is held');
      if (leased) run += 1;
    }
    if (run > this.#options.maxRun) broken(`its run is ${run} long`);
  }

  ack(first: number, last: number, effects: readonly DeliveryEffect[]): void {
    const delivered = ({ state, failures }: ModelMessage): boolean => state === 'leased' || failures > 0;
    const settled = this.#settle(first, last, effects, delivered);
    this.totals.acked += settled;
  }

  trim(headOffset: number, effects: readonly DeliveryEffect[]): void {
    const settled = this.#settle(0, headOffset - 1, effects);
    this.totals.expiredByRetention += settled;
  }

  #settle(
    first: number,
    last: number,
    effects: readonly DeliveryEffect[],
    isMeant: (message: ModelMessage) => boolean = () => true,
  ): number {
    const unsettled = this.messages.filter(
      (message) =>
        message.offset >= first && message.offset <= last && message.state !== 'settled' && isMeant(message),
    );
    const ended = unsettled.filter(({ state }) => state === 'leased');
    this.#checkCredit(ended, effects);
    expect(effects.filter(({ kind }) => kind === 'moved').length).toBe(unsettled.length > 0 ? 1 : 0);
    expect(effects.some(({ kind }) => kind === 'persist' || kind === 'deliver')).toBe(false);
    for (const message of unsettled) message.state = 'settled';
    this.#endRuns();
    return unsettled.length;
  }

  extend(
    consumer: number,
    first: number,
    last: number,
    deadlineMs: number,
    effects: readonly DeliveryEffect[],
  ): void {
    expect(effects).toEqual([]);
    for (const message of this.messages) {
      const own = consumer === 0 || message.consumer === consumer;
      if (message.state === 'leased' && own && message.offset >= first && message.offset <= last)
        message.deadlineMs = deadlineMs;
    }
  }

  /**
   * Follows a nack, an expiry or a leave: those messages for which `ends` holds, and the outstanding ones of
   * their ordering keys behind them.
   */
  giveBack(ends: (message: ModelMessage) => boolean, effects: readonly DeliveryEffect[]): void {
    const lowest = new Map<number, number>();
    for (const message of this.messages) {
      if (message.state === 'leased' && ends(message) && message.key !== 0 && !lowest.has(message.key))
        lowest.set(message.key, message.offset);
    }
    const ended = this.messages.filter(
      (message) =>
        message.state === 'leased' &&
        (ends(message) || (message.key !== 0 && message.offset > (lowest.get(message.key) ?? Infinity))),
    );
    this.#checkCredit(ended, effects);
    expect(effects.some(({ kind }) => kind === 'persist')).toBe(ended.length > 0);
    expect(effects.some(({ kind }) => kind === 'moved' || kind === 'deliver')).toBe(false);
    for (const message of ended) {
      message.state = 'held';
      message.failures += 1;
      message.covered = false;
      if (message.key !== 0) this.#broken.add(message.key);
    }
    this.#endRuns();
  }

  #endRuns(): void {
    for (const key of this.#broken) {
      if (!this.messages.some((message) => message.state === 'leased' && message.key === key))
        this.#broken.delete(key);
    }
  }

  /**
   * Checks that the leases of exactly these messages have ended, and that their consumers have exactly that
   * credit back.
   */
  #checkCredit(ended: readonly ModelMessage[], effects: readonly DeliveryEffect[]): void {
    const given = new Map<number, Book>();
    for (const effect of effects) {
      if (effect.kind !== 'credit') continue;
      const book = given.get(effect.consumer) ?? { messages: 0, bytes: 0 };
      given.set(effect.consumer, {
        messages: book.messages + effect.messages,
        bytes: book.bytes + effect.bytes,
      });
    }
    const consumers = new Set([...given.keys(), ...ended.map(({ consumer }) => consumer)]);
    for (const consumer of consumers) {
      const credit = given.get(consumer) ?? { messages: 0, bytes: 0 };
      const own = ended.filter((message) => message.consumer === consumer);
      expect(credit.messages, `credit of consumer ${consumer}`).toBe(own.length);
      const book = this.#books.get(consumer)!;
      book.messages -= credit.messages;
      // A part of a lease gives its share of the bytes, so only the sum over whole leases is right.
      book.bytes -= credit.bytes;
      const left = this.outstandingAt(consumer).length - own.length;
      expect(book.messages).toBe(left);
      if (left === 0) expect(Math.abs(book.bytes), `bytes of consumer ${consumer}`).toBeLessThan(1e-6);
      else expect(book.bytes).toBeGreaterThan(-1e-6);
    }
  }

  snapshot(): ModelCursor {
    const settled = new Set<number>();
    const failures = new Map<number, number>();
    const ended = new Map<number, number>();
    for (const message of this.messages) {
      if (message.state === 'held') message.covered = true;
      if (message.state === 'settled') {
        settled.add(message.offset);
        continue;
      }
      if (message.failures > 0) ended.set(message.offset, message.failures);
      const counted = message.failures + (message.state === 'leased' ? 1 : 0);
      if (counted > 0) failures.set(message.offset, counted);
    }
    return { settled, failures, ended };
  }

  persisted(cursor: ModelCursor, effects: readonly DeliveryEffect[]): void {
    expect(effects).toEqual([]);
    for (const [offset, failures] of cursor.ended) this.messages[offset]!.durableFailures = failures;
    for (const message of this.messages) {
      if (message.state === 'held' && message.covered) message.state = 'waiting';
    }
  }

  /** Checks that the record says what the model knew when it was written. */
  checkRecord(cursor: Cursor, known: ModelCursor, end: number): void {
    const settled = new Set<number>();
    for (let offset = 0; offset < cursor.floor; offset += 1) settled.add(offset);
    for (const { first, last } of cursor.settled)
      for (let offset = first; offset <= last; offset += 1) settled.add(offset);
    const failures = new Map<number, number>();
    for (const { first, last, value } of cursor.attempts)
      for (let offset = first; offset <= last; offset += 1) failures.set(offset, value);
    expect(settled).toEqual(known.settled);
    expect(failures).toEqual(known.failures);
    expect(Math.max(0, ...settled)).toBeLessThan(Math.max(1, end));
  }

  /** The broker died; only the cursor is left. */
  restart(cursor: ModelCursor): void {
    for (const message of this.messages) {
      message.state = cursor.settled.has(message.offset) ? 'settled' : 'waiting';
      message.failures = cursor.failures.get(message.offset) ?? 0;
      message.durableFailures = message.failures;
      message.consumer = 0;
      message.covered = false;
      message.delivered = false;
    }
    this.#books.clear();
    this.#broken.clear();
    this.#lookedAt = 0;
    this.#lastFloor = 0;
    Object.assign(this.totals, { delivered: 0, redelivered: 0, acked: 0, expiredByRetention: 0 });
  }

  /** Checks what can be read from the machine at any time. */
  checkReadings(read: { floor: number; backlogMessages: number; outstandingMessages: number }): void {
    expect(read.floor).toBe(this.floor);
    expect(read.floor).toBeGreaterThanOrEqual(this.#lastFloor);
    this.#lastFloor = read.floor;
    expect(read.backlogMessages).toBe(this.backlog);
    expect(read.outstandingMessages).toBe(this.outstanding);
  }
}
