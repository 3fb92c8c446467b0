// Delivery of one subscription in one partition, run by the partition's owner: collects events, lets
// core/delivery decide, performs the effects. Invariant: effects are performed in one place, in the order in
// which they were decided.

import type { SubscriptionDefinition } from '../../core/definitions.ts';
import type { Delivery } from '../../core/delivery.ts';
import type { DeliveryEffect, DeliveryEvent } from '../../core/delivery-events.ts';
import { assertNever, BrokerError } from '../../core/errors.ts';
import { sleep } from '../../ports/clock.ts';
import { DamagedLog, type LogRange } from '../../ports/log-store.ts';
import type { EngineContext } from '../context.ts';
import type { CachedChunk } from '../log/chunk-cache.ts';
import type { CursorCommitter, CursorHolder } from '../log/cursor-committer.ts';
import { MISSING } from '../log/log-check.ts';
import type { LogFollower, PartitionOwner } from '../log/partition-owner.ts';
import { DeliveredMessages } from './delivered-messages.ts';
import type { EraGates } from './era-gates.ts';
import type { LeaseHolder, LeaseSweeper } from './lease-sweeper.ts';
import type { Session } from './session.ts';

/** What a dispatcher needs of its subscription. */
export interface DispatcherHost {
  readonly definition: SubscriptionDefinition;
  readonly incarnation: number;
  session(consumer: number): Session | undefined;
  /** The partition may have something to give out. */
  pump(dispatcher: Dispatcher): void;
  /** The partition had no backlog and has some now. */
  firstMessage(): void;
  /** A consumer that had no credit may have some now. */
  creditReturned(): void;
  /** Gives the dispatcher nothing more to do; see SubscriptionRuntime. */
  detach(dispatcher: Dispatcher): void;
}

const LOAD_RETRY_MS = 200;
/** The pause before damage is looked at again: it stays until somebody does something about it. */
const DAMAGE_RETRY_MS = 5_000;

export class Dispatcher implements LogFollower, CursorHolder, LeaseHolder {
  readonly owner: PartitionOwner;
  readonly delivery: Delivery;
  readonly host: DispatcherHost;
  readonly #context: EngineContext;
  readonly #committer: CursorCommitter;
  readonly #sweeper: LeaseSweeper;
  readonly #gates: EraGates;
  #loading = false;
  closed = false;
  /** How many of the partition's eras are open to it; changed by EraGates alone. */
  openEras = 0;

  constructor(
    owner: PartitionOwner,
    delivery: Delivery,
    host: DispatcherHost,
    context: EngineContext,
    committer: CursorCommitter,
    sweeper: LeaseSweeper,
    gates: EraGates,
  ) {
    this.owner = owner;
    this.delivery = delivery;
    this.host = host;
    this.#context = context;
    this.#committer = committer;
    this.#sweeper = sweeper;
    this.#gates = gates;
    owner.followers.add(this);
    gates.watch(this);
  }

  appended(endOffset: number): void {
    const idle = this.delivery.backlogMessages === 0;
    const wasHeld = this.delivery.isHeld;
    this.apply({ kind: 'append', endOffset });
    if (idle) this.host.firstMessage();
    this.host.pump(this);
    if (this.delivery.isHeld && !wasHeld) this.#gates.soon();
  }

  eraBegun(): void {
    this.#gates.watch(this);
  }

  restored(): void {
    this.#committer.soon(this);
  }

  trimmed(headOffset: number): void {
    this.apply({ kind: 'trim', headOffset });
    this.host.pump(this);
  }

  skipped({ firstOffset, endOffset }: LogRange): void {
    this.apply({ kind: 'skip', first: firstOffset, last: endOffset - 1 });
    this.host.pump(this);
  }

  /** Steps the state machine and performs its effects. */
  apply(event: DeliveryEvent): void {
    this.#perform(this.delivery.step(event, this.#context.clock.monotonicMs()), undefined);
  }

  /**
   * Gives the session what it may have of one chunk. False if there is nothing for it now; when a chunk must
   * be read first, the host is pumped again afterwards.
   */
  serve(session: Session, readySessions: number): boolean {
    const offset = this.delivery.peek(session.id);
    if (offset === undefined) return false;
    const chunk = this.owner.chunks.get(offset);
    if (chunk === undefined) {
      void this.#load(offset);
      return false;
    }
    const { limits } = session;
    const nowMs = this.#context.clock.monotonicMs();
    // One of several consumers gets its share of a chunk, not all of it; a share is not made too small to be
    // worth it.
    const share =
      readySessions > 1 ? Math.max(MIN_SHARE, Math.ceil(chunk.count / readySessions)) : chunk.count;
    const effects = this.delivery.step(
      {
        kind: 'lease',
        consumer: session.id,
        chunk,
        maxMessages: Math.min(limits.maxOutstandingMessages - session.outstandingMessages, share),
        maxBytes: limits.maxOutstandingBytes - session.outstandingBytes,
        idle: session.outstandingMessages === 0,
        deadlineMs: nowMs + limits.ackDeadlineMs,
      },
      nowMs,
    );
    // Even without an effect it may have got on, by looking ahead for keys.
    if (effects.length === 0) {
      const gotOn = this.delivery.peek(session.id) !== offset;
      if (!gotOn) session.fellShort();
      return gotOn;
    }
    this.#perform(effects, chunk);
    return true;
  }

  get subscription(): number {
    return this.host.incarnation;
  }

  get floor(): number {
    return this.delivery.floor;
  }

  get outstandingMessages(): number {
    return this.delivery.outstandingMessages;
  }

  get earliestDeadlineMs(): number {
    return this.delivery.earliestDeadlineMs;
  }

  expire(): void {
    this.apply({ kind: 'expire' });
  }

  snapshot(): Uint8Array {
    return this.delivery.snapshot();
  }

  committed(): void {
    if (this.closed) return;
    this.apply({ kind: 'persisted' });
    this.owner.dropSettled();
    this.host.pump(this);
    this.#gates.soon();
  }

  lost(): void {
    this.owner.lose();
    // A dispatcher that was detached is not among those that end with the owner.
    this.close();
  }

  close(): void {
    this.closed = true;
    this.owner.followers.delete(this);
  }

  /** The only place where effects become actions. */
  #perform(effects: readonly DeliveryEffect[], chunk: CachedChunk | undefined): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'deliver':
          this.#deliver(effect, chunk!);
          break;
        case 'credit': {
          const session = this.host.session(effect.consumer);
          if (session === undefined) break;
          const wasReady = session.ready;
          session.leaseEnded(effect.messages, effect.bytes);
          if (!wasReady && session.ready) this.host.creditReturned();
          break;
        }
        case 'moved':
          this.#committer.soon(this);
          break;
        case 'persist':
          this.#committer.now(this);
          break;
        default:
          assertNever(effect);
      }
    }
  }

  #deliver(effect: DeliveryEffect & { kind: 'deliver' }, chunk: CachedChunk): void {
    const { stats, tracing } = this.#context;
    const session = this.host.session(effect.consumer)!;
    session.leased(effect.messages, effect.bytes);
    stats.deliveredMessages += effect.messages;
    stats.deliveredBytes += effect.bytes;
    stats.deliveryWrites += 1;
    for (const { first, last, attempt } of effect.runs)
      if (attempt > 1) stats.redeliveredMessages += last - first + 1;
    this.#sweeper.watch(this);
    // The cursor counts what is outstanding.
    this.#committer.soon(this);
    const delivered = new DeliveredMessages(this.owner.id, chunk, effect.runs, effect.messages, effect.bytes);
    session.sink.deliver(delivered);
    if (tracing !== undefined) {
      const { name, topic } = this.host.definition;
      tracing.delivered({
        subscription: name,
        topic,
        partition: this.owner.id,
        messages: effect.messages,
        frames: delivered.frames,
      });
    }
  }

  async #load(offset: number): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    let waitMs = 0;
    try {
      const lack = await this.#lackAt(offset);
      // True: retention has been quicker, or the range was given up. Else an operator has to see to it.
      if (lack !== undefined && !(await this.owner.pass(lack.range, lack.reason))) waitMs = DAMAGE_RETRY_MS;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      this.#context.logger.warn({ reason: error.message, offset }, 'the log cannot be read: trying again');
      waitMs = LOAD_RETRY_MS;
    }
    if (waitMs > 0) await sleep(this.#context.clock, waitMs);
    this.#loading = false;
    if (!this.closed) this.host.pump(this);
  }

  /**
   * Brings the chunk with that offset into memory. Where there is none that is whole, returns from where to
   * where, and why.
   */
  async #lackAt(offset: number): Promise<{ range: LogRange; reason: string } | undefined> {
    const { endOffset } = this.owner.bounds;
    try {
      const chunk = await this.owner.chunks.load(offset);
      if (chunk !== undefined && chunk.firstOffset <= offset) return undefined;
      return { range: { firstOffset: offset, endOffset: chunk?.firstOffset ?? endOffset }, reason: MISSING };
    } catch (error) {
      if (error instanceof DamagedLog) return error;
      throw error;
    }
  }
}

/** A share of a chunk below this costs more in writes than it gains in balance. */
const MIN_SHARE = 16;
