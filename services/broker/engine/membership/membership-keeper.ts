// Keeps this broker a member of the cluster: renews its lease, knows who else lives and what the assignment
// is, and says at once when the lease can't be relied on any more. Invariant: what it knows is to be acted on
// only while it is `inForce`.
//
//   heartbeat ─▶ view ─▶ lease (member-lease): fenced, regained
//                   ├──▶ assignment, if there is a newer one ─┬─▶ listeners: changed
//                   └──▶ coordinator, if this member is it ───┘
import { type Assignment, decodeAssignment, EMPTY_ASSIGNMENT } from '../../core/assignment.ts';
import { BrokerError } from '../../core/errors.ts';
import { type Clock, sleep } from '../../ports/clock.ts';
import type { ClusterView, Member, MemberLoad, MembershipStore } from '../../ports/membership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import type { EngineLogger } from '../context.ts';
import { RecentMoves } from './cluster-moves.ts';
import { Coordinator, type KnownAssignment, type TopicSource } from './coordinator.ts';
import { MemberLease } from './member-lease.ts';

export const DEFAULT_LEASE_MS = 2_000;
/**
 * The time between heartbeats, as a part of the lease. What a killed broker had is missed for a lease and one
 * such interval at most.
 */
const HEARTBEAT_PART = 0.2;
/** The same for the coordinator, which is the one that must notice who has gone. */
const COORDINATOR_HEARTBEAT_PART = 0.1;
/** The most unanswered heartbeats; a further one waits. A store that hangs must not gather requests. */
const MAX_UNANSWERED = 3;
/**
 * A member that was killed keeps its name until its lease ends: its successor waits for so many leases before
 * it gives up.
 */
const NAME_PATIENCE_LEASES = 3;
const START_RETRY_MS = 100;

export interface SelfMember extends Pick<Member, 'id' | 'name' | 'version'> {
  /** host:port at which others reach it; asked with each heartbeat. */
  readonly address: () => string;
  readonly load: () => MemberLoad;
}

export interface MembershipOptions {
  readonly store: MembershipStore;
  readonly signals: Signals;
  readonly clock: Clock;
  readonly logger: EngineLogger;
  /** The cluster's identity, with which the store was initialized. */
  readonly identity: string;
  readonly self: SelfMember;
  readonly topics: TopicSource;
  readonly leaseMs?: number;
}

export interface MembershipListener {
  /** Members (apart from their load), coordinator, drained names or assignment have changed. */
  changed(): void;
  /** The lease can't be relied on: nothing may be served or written under it. */
  fenced?(reason: string): void;
  /** There is a lease again. Others may have had everything meanwhile. */
  regained?(): void;
}

export class MembershipKeeper {
  readonly identity: string;
  readonly self: SelfMember;
  readonly moves: RecentMoves;
  /** How often the lease was lost. */
  fencedTimes = 0;
  readonly #options: MembershipOptions;
  readonly #leaseMs: number;
  readonly #coordinator: Coordinator;
  readonly #listeners = new Set<MembershipListener>();
  readonly #lease: MemberLease;
  #state: 'new' | 'started' | 'stopped' = 'new';
  #view: ClusterView | undefined;
  #known: KnownAssignment = { storedVersion: 0, assignment: EMPTY_ASSIGNMENT };
  #draining = false;
  #lastBeat = 0;
  #answeredBeat = 0;
  readonly #unanswered = new Set<Promise<unknown>>();
  #beatAgain = false;
  #loading: Promise<void> | undefined;
  /** When an assignment older than the known one was first found in the store. */
  #wentBackMs: number | undefined;
  #problem: string | undefined;
  #cancelBeat: () => void = () => {};
  #unlisten: () => void = () => {};

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.identity = options.identity;
    this.self = options.self;
    this.moves = new RecentMoves(options.clock);
    this.#leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
    this.#lease = new MemberLease(options.clock, this.#leaseMs, (reason) => this.#fenced(reason));
    this.#coordinator = new Coordinator({
      ...options,
      memberId: options.self.id,
      written: (known) => {
        this.#learn(known);
        options.signals.send('assignment', String(known.storedVersion));
      },
      unsure: () => this.refresh(),
    });
  }

  /** Whether the lease holds this very moment. */
  get holds(): boolean {
    return this.#lease.holds;
  }

  /**
   * The cluster as of the last heartbeat that was answered, with the version of the newest assignment seen
   * since; undefined before the first.
   */
  get view(): ClusterView | undefined {
    return this.#view;
  }

  /** The assignment that this member goes by: the newest that it has seen, unless the store went back. */
  get known(): KnownAssignment {
    return this.#known;
  }

  /**
   * Whether the lease holds and `known` is the assignment that the store is known to have. A member that has
   * just got its lease back, or was cut off, must not act on what was true before.
   */
  get inForce(): boolean {
    return this.holds && this.#view?.assignmentVersion === this.#known.storedVersion;
  }

  get draining(): boolean {
    return this.#draining;
  }

  get #stopped(): boolean {
    return this.#state === 'stopped';
  }

  listen(listener: MembershipListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Joins the cluster and resolves when the assignment is known. Waits a few leases for a store that does not
   * answer, and for a former process of the same name; then rejects: ABORTED (another broker has this name),
   * UNAVAILABLE, and at once with FAILED_PRECONDITION (the store does not hold this cluster).
   */
  async start(): Promise<void> {
    const { clock, signals, logger, self } = this.#options;
    const giveUpMs = clock.monotonicMs() + NAME_PATIENCE_LEASES * this.#leaseMs;
    this.#state = 'started';
    for (let waited = false; ; waited = true) {
      const failure = await this.#track(this.#heartbeat());
      if (this.#stopped) throw new BrokerError('UNAVAILABLE', 'the broker is stopping');
      if (failure === undefined && this.holds) break;
      if (failure?.code === 'FAILED_PRECONDITION') throw failure;
      if (clock.monotonicMs() >= giveUpMs) throw this.#startFailure(failure);
      if (failure?.code === 'ABORTED' && !waited) {
        logger.info({ name: self.name }, 'a broker of this name is alive: waiting for its lease to end');
      }
      await sleep(clock, START_RETRY_MS);
    }
    this.#unlisten = signals.listen(
      (kind) => kind === 'assignment' && this.refresh(),
      () => this.refresh(),
    );
    signals.send('assignment', 'joined');
    this.#armBeat();
    await this.#loading;
  }

  /**
   * Asks for no more partitions and for the present ones to be moved. Resolves when the store has been told,
   * or can't be.
   */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#beat();
    this.#options.signals.send('assignment', 'draining');
  }

  /** Asks the member of that name to give its partitions away, or no longer. Rejects as the store does. */
  async setDrained(name: string, drained: boolean): Promise<void> {
    await this.#options.store.setDrained(name, drained);
    this.#options.signals.send('assignment', 'drained');
    this.refresh();
  }

  /** Sends a heartbeat now instead of at the next time. Any number of calls cost one or two. */
  refresh(): void {
    if (this.#state !== 'started') return;
    if (this.#unanswered.size > 0) this.#beatAgain = true;
    else void this.#beat();
  }

  /** Leaves the cluster. Partitions must have been handed over or abandoned. Idempotent. */
  async stop(): Promise<void> {
    const { store, signals, logger, self } = this.#options;
    if (this.#stopped) return;
    const joined = this.#state !== 'new';
    this.#state = 'stopped';
    this.#cancelBeat();
    this.#lease.stop();
    this.#unlisten();
    this.#coordinator.stop();
    if (!joined) return;
    // A heartbeat that arrives after the leave would register this member again.
    await Promise.all(this.#unanswered);
    await this.#loading;
    try {
      await store.leave(self.id);
      signals.send('assignment', 'left');
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      logger.warn({ reason: error.message }, 'the lease could not be given back: it ends by itself');
    }
  }

  #armBeat(): void {
    const coordinates = this.#view?.coordinator.id === this.self.id;
    const part = coordinates ? COORDINATOR_HEARTBEAT_PART : HEARTBEAT_PART;
    this.#cancelBeat = this.#options.clock.setTimer(this.#leaseMs * part, () => {
      if (this.#unanswered.size < MAX_UNANSWERED) void this.#beat();
      this.#armBeat();
    });
  }

  async #beat(): Promise<void> {
    const failure = await this.#track(this.#heartbeat());
    if (failure !== undefined) this.#report(failure);
    if (this.#beatAgain && this.#unanswered.size === 0 && !this.#stopped) {
      this.#beatAgain = false;
      void this.#beat();
    }
  }

  #track<T>(request: Promise<T>): Promise<T> {
    const ended = request.finally(() => this.#unanswered.delete(ended));
    this.#unanswered.add(ended);
    return ended;
  }

  /** Sends one heartbeat; returns why it failed, undefined if it did not. */
  async #heartbeat(): Promise<BrokerError | undefined> {
    const { store, clock } = this.#options;
    const { id, name, version, address, load } = this.self;
    const member: Member = { id, name, version, address: address(), draining: this.#draining, load: load() };
    this.#lastBeat += 1;
    const beat = this.#lastBeat;
    const sentMs = clock.monotonicMs();
    const sentWallMs = clock.nowMs();
    let view: ClusterView;
    try {
      view = await store.heartbeat(this.identity, member, this.#leaseMs);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      return beat < this.#answeredBeat ? undefined : error;
    }
    // An answer that was overtaken says nothing new.
    if (this.#stopped || beat < this.#answeredBeat) return undefined;
    this.#answeredBeat = beat;
    this.#renewed(sentMs, sentWallMs, view);
    return undefined;
  }

  #renewed(sentMs: number, sentWallMs: number, view: ClusterView): void {
    // A lease that was in doubt, and is not any more, has brought nothing to an end.
    const { inForce } = this;
    const regained = this.#lease.renewed(sentMs, sentWallMs, view.missed);
    if (this.#problem !== undefined) {
      this.#problem = undefined;
      this.#options.logger.info({ members: view.members.length }, 'the store answers heartbeats again');
    }
    this.#see(view, inForce);
    if (regained) for (const listener of [...this.#listeners]) listener.regained?.();
  }

  #fenced(reason: string): void {
    this.fencedTimes += 1;
    this.#coordinator.rest();
    this.#options.logger.error({ reason }, 'stopped serving until there is a lease again');
    for (const listener of [...this.#listeners]) listener.fenced?.(reason);
  }

  /** `inForce`: whether the assignment was in force before the answer. */
  #see(view: ClusterView, inForce: boolean): void {
    const before = this.#view;
    this.#view = view;
    this.moves.membersChanged(before, view);
    if (view.assignmentVersion !== this.#known.storedVersion) this.#load();
    this.#considerDuty();
    if (before === undefined || outline(before) !== outline(view) || inForce !== this.inForce)
      this.#changed();
  }

  #considerDuty(): void {
    const view = this.#view;
    if (view === undefined || view.coordinator.id !== this.self.id || !this.holds) this.#coordinator.rest();
    else if (view.assignmentVersion === this.#known.storedVersion) {
      this.#coordinator.consider(view, this.#known);
    }
  }

  /** Reads the assignment, once at a time; a failure is left to the next heartbeat. */
  #load(): void {
    this.#loading ??= (async () => {
      const before = this.#known;
      try {
        const { version, body } = await this.#options.store.assignment();
        // This member may have written a newer assignment meanwhile.
        if (this.#stopped || this.#known !== before) return;
        const found = decodeAssignment(body);
        if (found.version >= before.assignment.version)
          this.#learn({ storedVersion: version, assignment: found });
        else this.#wentBack(version, found);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        this.#options.logger.warn({ reason: error.message }, 'the assignment can not be read: trying again');
      } finally {
        this.#loading = undefined;
      }
    })();
  }

  /**
   * The store has an older assignment than this member knows. Were it taken, what has moved since would move
   * back and forth, away from those who still have what the store has lost of it. So the coordinator writes
   * the newest again, if it knows it; the other members wait for that as long as a lease, then they take what
   * the store has.
   */
  #wentBack(version: number, found: Assignment): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#wentBackMs ??= nowMs;
    const { assignment } = this.#known;
    if (this.#view?.coordinator.id === this.self.id)
      this.#learn({ storedVersion: version, assignment, isLost: true });
    else if (nowMs - this.#wentBackMs >= this.#leaseMs)
      this.#learn({ storedVersion: version, assignment: found });
  }

  #learn(known: KnownAssignment): void {
    const before = this.#known;
    this.#wentBackMs = undefined;
    this.#known = known;
    const view = this.#view;
    if (view !== undefined) {
      this.moves.assigned(before.assignment, known.assignment, view);
      // So this member, if it coordinates, need not wait for the next heartbeat to go on.
      this.#view = { ...view, assignmentVersion: known.storedVersion };
      const living = new Set(view.members.map(({ name }) => name));
      if (known.assignment.members.some((name) => !living.has(name))) this.refresh();
    }
    this.#considerDuty();
    this.#changed();
  }

  #changed(): void {
    for (const listener of [...this.#listeners]) listener.changed();
  }

  /** Logs each change of the problem once, with what to do. */
  #report(failure: BrokerError): void {
    if (this.#stopped) return;
    const repeated = this.#problem === failure.code;
    this.#problem = failure.code;
    const { logger } = this.#options;
    const fields = { reason: failure.message, cluster: this.identity };
    if (failure.code === 'FAILED_PRECONDITION') {
      if (!repeated) {
        logger.error(
          fields,
          'the store does not hold this cluster any more: it was emptied, or is another one. Bring its data back, or point ' +
            'the brokers at the right store; to begin anew with an empty one, stop all brokers and start one with --init-cluster',
        );
      }
      this.#lease.end('the store does not hold this cluster');
    } else if (repeated) return;
    else if (failure.code === 'ABORTED') {
      const message = 'another broker has this name: stop one of the two, or give it another --name';
      logger.error({ ...fields, name: this.self.name }, message);
    } else logger.warn(fields, 'a heartbeat failed: this broker serves on while its lease lasts');
  }

  #startFailure(failure: BrokerError | undefined): BrokerError {
    if (failure?.code === 'ABORTED') {
      const message = `another broker named ${this.self.name} is alive: stop it, or give this one another --name`;
      return new BrokerError('ABORTED', message, { cause: failure });
    }
    const reason = failure?.message ?? `its answers take longer than a lease of ${this.#leaseMs} ms`;
    return new BrokerError('UNAVAILABLE', `the store can't be reached: ${reason}`, { cause: failure });
  }
}

/** What of a view is worth telling: not the load, which always changes. */
function outline({ members, coordinator, drained }: ClusterView): string {
  const shown = members.map(({ id, name, address, draining }) => [id, name, address, draining]);
  return JSON.stringify([shown, coordinator, drained]);
}
