// One subscription at work on this broker: its consumers (sessions) and its dispatchers, one for each
// partition owned here.
//
// Credit is shared fairly: sessions take turns, and so do partitions, a round of at most a chunk for each
// session at a time. A partition with a backlog never keeps the others from the credit that comes back.

import type { ConsumerClient } from '../../core/consumer-client.ts';
import type { SubscriptionDefinition } from '../../core/definitions.ts';
import type { LeasesOnLeave } from '../../core/delivery-events.ts';
import { BrokerError } from '../../core/errors.ts';
import type { SettleOperation, SettleRequest } from '../../core/settle-request.ts';
import type { EngineContext } from '../context.ts';
import type { Dispatcher, DispatcherHost } from './dispatcher.ts';
import type { Session } from './session.ts';

/** They are kept as u32 at places. */
const MAX_SESSION_ID = 0xffff_ffff;

/** Streams that have ended, the newest ones: what the note of a former owner says of them ends as well. */
const MAX_ENDED_STREAMS = 100;

const REPLACED = 'another stream was opened with the same client_id: give each consumer its own';

export class SubscriptionRuntime implements DispatcherHost {
  #definition: SubscriptionDefinition;
  readonly #logEpoch: number;
  readonly #context: EngineContext;
  /** By partition. */
  readonly dispatchers = new Map<number, Dispatcher>();
  /** The dispatchers in the order of their turns: whoever was served goes to the end. */
  readonly #turns = new Set<Dispatcher>();
  readonly #sessions = new Map<number, Session>();
  /** The sessions in the order in which they are served; rotated so that nobody is always first. */
  #order: Session[] = [];
  /** The sessions of clients that have an id, by kind and id. */
  readonly #named = new Map<string, Session>();
  /** The oldest first. */
  readonly #endedStreams = new Set<string>();
  #lastSessionId = 0;
  #pumpsSoon = false;
  closed = false;
  readonly #onFirstMessage: (name: string) => void;

  constructor(
    definition: SubscriptionDefinition,
    logEpoch: number,
    context: EngineContext,
    onFirstMessage: (name: string) => void,
  ) {
    this.#definition = definition;
    this.#logEpoch = logEpoch;
    this.#context = context;
    this.#onFirstMessage = onFirstMessage;
  }

  get definition(): SubscriptionDefinition {
    return this.#definition;
  }

  /** Consumers are told of the change. */
  set definition(definition: SubscriptionDefinition) {
    this.#definition = definition;
    for (const { sink } of [...this.#order]) sink.describe?.(definition);
  }

  get incarnation(): number {
    return this.definition.incarnation;
  }

  get consumers(): number {
    return this.#sessions.size;
  }

  /** The consumers whose streams end at this broker. */
  get connectedConsumers(): number {
    let count = 0;
    for (const session of this.#order) if (!session.relayed) count += 1;
    return count;
  }

  /** Messages that are outstanding at consumers which have not joined here yet. */
  get awaitedMessages(): number {
    let messages = 0;
    for (const { delivery } of this.dispatchers.values()) messages += delivery.awaitedMessages;
    return messages;
  }

  get consumersWithoutCredit(): number {
    let count = 0;
    for (const session of this.#order) if (session.withoutCredit) count += 1;
    return count;
  }

  /** A number for a new session of this subscription; 0 is nobody's. */
  nextSessionId(): number {
    do this.#lastSessionId = (this.#lastSessionId % MAX_SESSION_ID) + 1;
    while (this.#sessions.has(this.#lastSessionId));
    return this.#lastSessionId;
  }

  /** Whether the partition that the operation is about is at work here. */
  owns({ logEpoch, partition }: Pick<SettleOperation, 'logEpoch' | 'partition'>): boolean {
    return logEpoch === this.#logEpoch && this.dispatchers.has(partition);
  }

  session(consumer: number): Session | undefined {
    return this.#sessions.get(consumer);
  }

  get sessions(): Iterable<Session> {
    return this.#sessions.values();
  }

  addDispatcher(dispatcher: Dispatcher): void {
    this.dispatchers.set(dispatcher.owner.id.partition, dispatcher);
    this.#turns.add(dispatcher);
    for (const session of this.#order) joinAt(dispatcher, session);
    if (dispatcher.delivery.awaitedMessages > 0)
      for (const stream of this.#endedStreams) dispatcher.apply({ kind: 'streamEnded', stream });
    this.pump(dispatcher);
  }

  removeDispatcher(dispatcher: Dispatcher): void {
    this.detach(dispatcher);
    dispatcher.close();
  }

  /**
   * Delivers nothing of the partition any more: it goes to another broker. Consumers get their credit back;
   * what is outstanding stays leased in the dispatcher, which can still commit its cursor.
   */
  detach(dispatcher: Dispatcher): void {
    this.dispatchers.delete(dispatcher.owner.id.partition);
    this.#turns.delete(dispatcher);
    for (const session of this.#order)
      dispatcher.apply({ kind: 'leave', consumer: session.id, leases: 'stay' });
  }

  /**
   * Adds a session. If its client has one of the same kind already, that one ends: its stream may be dead
   * without anybody having noticed.
   */
  join(session: Session): void {
    this.#takePlace(session);
    this.#sessions.set(session.id, session);
    this.#order.push(session);
    if (!session.relayed) this.#context.stats.consumers += 1;
    session.sink.describe?.(this.#definition);
    for (const dispatcher of this.dispatchers.values()) joinAt(dispatcher, session);
    // What comes later, with another partition, may be a newer stream's.
    session.fresh = false;
    this.pumpFor(session);
  }

  /**
   * While it drains, the session gets nothing new, and its ordering keys go to others once nothing of them is
   * outstanding.
   */
  drain(session: Session, draining: boolean): void {
    if (session.draining === draining) return;
    session.draining = draining;
    if (!this.#sessions.has(session.id)) return;
    for (const dispatcher of this.dispatchers.values())
      dispatcher.apply({ kind: 'drain', consumer: session.id, draining });
    this.#pumpSoon();
  }

  /** Removes a session, whose stream ends. Idempotent. */
  leave(session: Session, leases: LeasesOnLeave = 'end'): void {
    if (leases === 'end') this.#streamEnded(session.client);
    this.#remove(session, leases);
  }

  /** Removes a session, the way to whose stream is gone: it ends here, and may go on elsewhere. */
  lose(session: Session): void {
    this.#remove(session, 'end');
  }

  #streamEnded({ stream }: ConsumerClient): void {
    if (stream === '') return;
    this.#endedStreams.add(stream);
    if (this.#endedStreams.size <= MAX_ENDED_STREAMS) return;
    const [oldest] = this.#endedStreams;
    this.#endedStreams.delete(oldest!);
  }

  #remove(session: Session, leases: LeasesOnLeave): void {
    session.closed = true;
    if (!this.#sessions.has(session.id)) return;
    if (!session.relayed) this.#context.stats.consumers -= 1;
    for (const dispatcher of this.dispatchers.values())
      dispatcher.apply({ kind: 'leave', consumer: session.id, leases });
    this.#sessions.delete(session.id);
    if (this.#named.get(nameOf(session)) === session) this.#named.delete(nameOf(session));
    this.#order = this.#order.filter((other) => other !== session);
    this.#pumpSoon();
  }

  #takePlace(session: Session): void {
    if (session.client.id === '') return;
    const older = this.#named.get(nameOf(session));
    this.#named.set(nameOf(session), session);
    if (older === undefined || older === session) return;
    this.#context.logger.info(
      { subscription: this.definition.name, clientId: session.client.id },
      'a newer stream of a client takes the place of an older one',
    );
    // It resumes if the older stream ended in good order: the end is still on its way here. Else that one is
    // dead, and nobody knows what has arrived on it.
    this.leave(older, session.resumes ? 'wait' : 'end');
    older.sink.close(new BrokerError('ABORTED', REPLACED));
  }

  /** Ends all streams with this status: the subscription is deleted, or the broker stops. */
  close(reason: BrokerError): void {
    this.closed = true;
    for (const session of [...this.#order]) {
      session.sink.close(reason);
      this.leave(session);
    }
  }

  /**
   * Performs what a consumer says of its messages; `consumer` is 0 where a unary call says it. Returns the
   * dispatchers that were concerned.
   */
  settle(consumer: number, request: SettleRequest): Set<Dispatcher> {
    const { stats, clock } = this.#context;
    const touched = new Set<Dispatcher>();
    for (const operation of request.operations) {
      const { kind, logEpoch, partition, first, last, seconds, attempt, settledBefore } = operation;
      // On an earlier incarnation of the topic, or a partition that is not here, there is nothing to settle.
      const dispatcher = logEpoch === this.#logEpoch ? this.dispatchers.get(partition) : undefined;
      if (dispatcher === undefined) continue;
      touched.add(dispatcher);
      const { delivery } = dispatcher;
      if (settledBefore) dispatcher.apply({ kind: 'skip', first, last });
      else if (kind === 'ack') {
        const before = delivery.ackedTotal;
        dispatcher.apply({ kind, consumer, first, last });
        stats.ackedMessages += delivery.ackedTotal - before;
      } else if (kind === 'nack') {
        const before = delivery.outstandingMessages;
        dispatcher.apply({ kind, consumer, first, last, attempt });
        stats.nackedMessages += before - delivery.outstandingMessages;
      } else {
        const deadlineMs = clock.monotonicMs() + seconds * 1000;
        dispatcher.apply({ kind, consumer, first, last, deadlineMs, attempt });
      }
    }
    // Not these dispatchers alone, or first: the credit that came back is for all partitions.
    if (touched.size > 0) this.#pumpSoon();
    return touched;
  }

  firstMessage(): void {
    this.#onFirstMessage(this.definition.name);
  }

  creditReturned(): void {
    this.#pumpSoon();
  }

  /** Gives out what there is, to all who can take it. */
  pumpAll(): void {
    if (this.#mayServe) this.#serve(() => this.#ready());
  }

  /** Gives out what there is to one session, which has come or can take more than before. */
  pumpFor(session: Session): void {
    if (this.#mayServe) this.#serve(() => (session.ready ? [session] : []));
  }

  /** Gives out what there is of one partition, in which something has happened. */
  pump(dispatcher: Dispatcher): void {
    // A dispatcher without a turn was detached: its note for the next owner is written, and knows nothing of
    // what would be delivered now.
    if (!this.#mayServe || !this.#turns.has(dispatcher)) return;
    if (this.#order.length === 1) {
      // The usual case: one consumer.
      const only = this.#order[0]!;
      while (only.ready && dispatcher.serve(only, 1));
      return;
    }
    for (let ready = this.#ready(); ready.length > 0; ready = this.#ready()) {
      if (!this.#round(dispatcher, ready)) return;
    }
  }

  get #mayServe(): boolean {
    // After close, what one stream gives back is not for the next, which ends too.
    return !this.closed && this.#context.mayServe?.() !== false;
  }

  /**
   * Pumps at the end of the turn: one ack request returns credit in many pieces, and many consumers may go at
   * once.
   */
  #pumpSoon(): void {
    if (this.#pumpsSoon) return;
    this.#pumpsSoon = true;
    this.#context.clock.defer(() => {
      this.#pumpsSoon = false;
      this.pumpAll();
    });
  }

  /**
   * The sessions that take more. Each is asked: one with a share of its consumer's credit notices by that
   * that it lacks some.
   */
  #ready(): Session[] {
    return this.#order.filter((session) => session.ready);
  }

  /** Gives each partition in turn one round, until there is nothing for anybody who is ready. */
  #serve(readySessions: () => Session[]): void {
    let ready = readySessions();
    for (const dispatcher of this.#turns) {
      if (ready.length === 0) return;
      if (!dispatcher.delivery.hasUndelivered || !this.#round(dispatcher, ready)) continue;
      // The loop comes to it again after all others.
      if (this.#turns.delete(dispatcher)) this.#turns.add(dispatcher);
      ready = readySessions();
    }
  }

  /** Each of the sessions is given at most a chunk. False: there was nothing for any of them. */
  #round(dispatcher: Dispatcher, ready: readonly Session[]): boolean {
    let served = false;
    for (const session of ready) {
      if (session.ready && dispatcher.serve(session, ready.length)) served = true;
    }
    // So that nobody is always first.
    if (this.#order.length > 1) this.#order.push(this.#order.shift()!);
    return served;
  }
}

function joinAt(dispatcher: Dispatcher, { id, client, resumes, fresh, draining }: Session): void {
  const { hash, stream } = client;
  dispatcher.apply({ kind: 'join', consumer: id, hash, stream, resumes, fresh });
  if (draining) dispatcher.apply({ kind: 'drain', consumer: id, draining });
}

function nameOf({ client: { kind, id } }: Session): string {
  return `${kind} ${id}`;
}
