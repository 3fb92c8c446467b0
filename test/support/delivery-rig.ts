// A Delivery with everything around it that the engine would be: a log of chunks, consumers with credit, a
// clock, a cursor store. Every event goes to the machine and to the model, and the model checks what came of
// it.
import { expect } from 'vitest';
import type { ChunkView } from '../../services/broker/core/credit.ts';
import { decodeCursor } from '../../services/broker/core/cursor.ts';
import { Delivery, type DeliveryOptions } from '../../services/broker/core/delivery.ts';
import type { DeliveryEffect, DeliveryEvent } from '../../services/broker/core/delivery-events.ts';
import { DeliveryModel, type ModelCursor } from './delivery-model.ts';

/** A chunk of frames with the given sizes and key hashes. */
export function chunkView(
  firstOffset: number,
  sizes: readonly number[],
  keys: readonly number[] | undefined,
): ChunkView {
  let end = 0;
  const ends = Uint32Array.from(sizes, (size) => {
    end += size;
    return end;
  });
  return {
    firstOffset,
    count: sizes.length,
    byteLength: end,
    ends: () => ends,
    keyHashes: () => {
      if (keys === undefined)
        throw new Error('key hashes cost a walk: without ordering nobody asks for them');
      return Uint32Array.from(keys);
    },
  };
}

interface Written {
  readonly record: Uint8Array;
  readonly known: ModelCursor;
}

export class DeliveryRig {
  readonly options: DeliveryOptions;
  readonly model: DeliveryModel;
  delivery: Delivery;
  nowMs = 0;
  readonly consumers: number[] = [];
  readonly #chunks: ChunkView[] = [];
  #lastConsumer = 0;
  #durable: Written;
  #underWay: Written | undefined;
  #persistWanted = false;

  constructor(options: DeliveryOptions) {
    this.options = options;
    this.model = new DeliveryModel(options);
    this.delivery = new Delivery(options, { startOffset: 0 }, 0);
    this.#durable = { record: this.delivery.snapshot(), known: this.model.snapshot() };
  }

  get end(): number {
    return this.model.messages.length;
  }

  append(keys: readonly number[], sizes: readonly number[]): void {
    this.#chunks.push(chunkView(this.end, sizes, this.options.ordering ? keys : undefined));
    this.model.append(keys, sizes);
    expect(this.#step({ kind: 'append', endOffset: this.end })).toEqual([]);
    this.#check();
  }

  join(hash: number): void {
    this.#lastConsumer += 1;
    this.consumers.push(this.#lastConsumer);
    expect(this.#step({ kind: 'join', consumer: this.#lastConsumer, hash })).toEqual([]);
    this.#check();
  }

  leave(index: number): void {
    const [consumer] = this.consumers.splice(index, 1);
    if (consumer === undefined) return;
    const effects = this.#step({ kind: 'leave', consumer, leases: 'end' });
    this.model.giveBack((message) => message.consumer === consumer, effects);
    this.#check();
  }

  /**
   * The model does not know of draining: it checks the order of deliveries, not which consumer gets which
   * keys.
   */
  setDraining(consumer: number, draining: boolean): void {
    expect(this.#step({ kind: 'drain', consumer, draining })).toEqual([]);
    this.#check();
  }

  /**
   * One round of what a dispatcher does for a consumer with credit. Returns whether there was anything to
   * try.
   */
  lease(consumer: number, maxMessages: number, maxBytes: number, leaseMs: number): boolean {
    const offset = this.delivery.peek(consumer);
    if (offset === undefined) {
      this.#checkNothingToGive();
      return false;
    }
    const chunk = this.#chunks.find(
      ({ firstOffset, count }) => offset >= firstOffset && offset < firstOffset + count,
    )!;
    expect(chunk, `peek gave ${offset}`).toBeDefined();
    const idle = this.model.outstandingAt(consumer).length === 0;
    const deadlineMs = this.nowMs + leaseMs;
    const asked = { consumer, maxMessages, maxBytes, idle, deadlineMs };
    const effects = this.#step({ kind: 'lease', chunk, ...asked });
    const last = chunk.firstOffset + chunk.count - 1;
    this.model.lease({ ...asked, chunk: { first: chunk.firstOffset, last } }, effects);
    this.#check();
    // Otherwise a dispatcher with credit would ask for ever.
    if (effects.length === 0 && idle)
      expect(this.delivery.peek(consumer), 'peek led nowhere').not.toBe(offset);
    return true;
  }

  /** `consumer` need not have them, nor need anybody. */
  ack(consumer: number, first: number, last: number): void {
    this.model.ack(first, last, this.#step({ kind: 'ack', consumer, first, last }));
    this.#check();
  }

  nack(consumer: number, first: number, last: number): void {
    const effects = this.#step({ kind: 'nack', consumer, first, last });
    this.model.giveBack(
      (message) =>
        message.offset >= first &&
        message.offset <= last &&
        (consumer === 0 || message.consumer === consumer),
      effects,
    );
    this.#check();
  }

  extend(consumer: number, first: number, last: number, byMs: number): void {
    const deadlineMs = this.nowMs + byMs;
    this.model.extend(
      consumer,
      first,
      last,
      deadlineMs,
      this.#step({ kind: 'extend', consumer, first, last, deadlineMs }),
    );
    this.#check();
  }

  /** Time passes; leases end as a timer at earliestDeadlineMs would end them. */
  pass(ms: number): void {
    this.nowMs += ms;
    const due = this.model.messages.some(
      ({ state, deadlineMs }) => state === 'leased' && deadlineMs <= this.nowMs,
    );
    if (due) expect(this.delivery.earliestDeadlineMs).toBeLessThanOrEqual(this.nowMs);
    const effects = this.#step({ kind: 'expire' });
    this.model.giveBack(({ deadlineMs }) => deadlineMs <= this.nowMs, effects);
    this.#check();
  }

  trim(headOffset: number): void {
    if (headOffset > this.model.floor) {
      this.model.trim(headOffset, this.#step({ kind: 'trim', headOffset }));
    } else expect(this.#step({ kind: 'trim', headOffset })).toEqual([]);
    this.#check();
  }

  /** Begins a commit of the cursor if none is under way. */
  commit(): void {
    if (this.#underWay !== undefined) return;
    const record = this.delivery.snapshot();
    const known = this.model.snapshot();
    const cursor = decodeCursor(record);
    this.model.checkRecord(cursor, known, this.end);
    expect(cursor.settled.length, 'holes').toBeLessThanOrEqual(this.options.maxUnsettled + 1);
    this.#underWay = { record, known };
    this.#persistWanted = false;
    this.#check();
  }

  committed(): void {
    if (this.#underWay === undefined) return;
    this.#durable = this.#underWay;
    this.#underWay = undefined;
    this.model.persisted(this.#durable.known, this.#step({ kind: 'persisted' }));
    this.#check();
  }

  commitFailed(): void {
    if (this.#underWay === undefined) return;
    this.#underWay = undefined;
    this.#persistWanted = true;
  }

  /** The broker dies and comes back; with `written` a commit under way had become durable. */
  restart(written: boolean): void {
    if (written && this.#underWay !== undefined) this.#durable = this.#underWay;
    this.#underWay = undefined;
    this.#persistWanted = false;
    this.consumers.length = 0;
    this.delivery = new Delivery(this.options, { record: this.#durable.record }, this.end);
    this.model.restart(this.#durable.known);
    this.#check();
  }

  /** Consumers that acknowledge everything come to an end, whatever has happened before. */
  drain(): void {
    if (this.consumers.length === 0) this.join(7);
    this.pass(1_000_000);
    const rounds = 10 + 3 * this.end;
    for (let round = 0; this.model.backlog > 0; round += 1) {
      expect(round, `stuck with a backlog of ${this.model.backlog}`).toBeLessThan(rounds);
      for (const consumer of this.consumers) {
        while (this.lease(consumer, 5, 1_000, 10_000)) {
          const own = this.model.outstandingAt(consumer);
          for (const { offset } of own.reverse()) this.ack(consumer, offset, offset);
        }
      }
      this.committed();
      if (this.#persistWanted) this.commit();
    }
    expect(this.delivery.floor).toBe(this.end);
    expect(this.delivery.outstandingMessages).toBe(0);
    for (const consumer of this.consumers) expect(this.delivery.peek(consumer)).toBeUndefined();
  }

  #step(event: DeliveryEvent): DeliveryEffect[] {
    const effects = this.delivery.step(event, this.nowMs);
    if (effects.some(({ kind }) => kind === 'persist')) this.#persistWanted = true;
    return effects;
  }

  #check(): void {
    const { floor, backlogMessages, outstandingMessages } = this.delivery;
    this.model.checkReadings({ floor, backlogMessages, outstandingMessages });
    expect({
      delivered: this.delivery.deliveredTotal,
      redelivered: this.delivery.redeliveredTotal,
      acked: this.delivery.ackedTotal,
      expiredByRetention: this.delivery.expiredByRetentionTotal,
    }).toEqual(this.model.totals);
  }

  /** In a subscription without ordering any consumer can tell whether something waits. */
  #checkNothingToGive(): void {
    if (this.options.ordering) return;
    const waiting = this.model.messages.filter(({ state }) => state === 'waiting');
    if (waiting.length === 0) return;
    const failed = this.model.messages.filter(
      ({ state, failures }) => state !== 'settled' && failures > 0,
    ).length;
    const { maxHoles, maxUnsettled } = this.options;
    if (this.model.unsettled < maxUnsettled)
      expect(Math.max(this.model.holes, failed), 'peek gave nothing').toBeGreaterThanOrEqual(maxHoles);
    expect(
      waiting.some(({ delivered }) => delivered),
      'given-back messages wait and peek gave nothing',
    ).toBe(false);
  }
}
