// The duty of the member that holds the coordinator lease: who should own what, computed when members,
// drained names or topics change, and stored fenced by the lease's term. A write that fails is tried again
// with the next view, so there is no loop here.
//
//   nothing to do ──joins only──▶ gathering (100 ms) ──┐
//        ▲     └──someone left, topics changed──────────┴──▶ writing ──▶ nothing to do
//                                                           (stored, or left to the next view)
import {
  type Assignment,
  assign,
  encodeAssignment,
  movesBetween,
  type TopicPartitions,
} from '../../core/assignment.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ClusterView, MembershipStore } from '../../ports/membership-store.ts';
import type { EngineLogger } from '../context.ts';

/** How long joins are gathered: several brokers that start together move partitions once. */
const GATHER_JOINS_MS = 100;
/**
 * How long a topic that this broker doesn't know keeps its place: it may have been created through another
 * broker a moment ago. One that was deleted does no harm meanwhile.
 */
const FORGET_TOPIC_MS = 5_000;

/** The topics that exist, as far as this broker knows. */
export interface TopicSource {
  topics(): Iterable<TopicPartitions>;
  /** Returns a function that ends it. */
  onChange(listener: () => void): () => void;
}

/** An assignment with the version under which the store has it. */
export interface KnownAssignment {
  readonly storedVersion: number;
  readonly assignment: Assignment;
  /** The store went back, and has an older assignment under that version. */
  readonly isLost?: boolean;
}

export interface CoordinatorOptions {
  readonly store: MembershipStore;
  readonly clock: Clock;
  readonly logger: EngineLogger;
  readonly memberId: string;
  readonly topics: TopicSource;
  /** A new assignment is stored. */
  readonly written: (known: KnownAssignment) => void;
  /** The outcome of a write is unknown, or someone else has written: the store has to be asked. */
  readonly unsure: () => void;
}

/**
 * The names of the members that may have partitions, sorted. If operators have drained all that are left,
 * they have to go on: serving comes first. A member that is about to stop gets nothing.
 */
export function eligibleMembers({ members, drained }: Pick<ClusterView, 'members' | 'drained'>): string[] {
  const staying = members.filter(({ draining }) => !draining).map(({ name }) => name);
  const undrained = staying.filter((name) => !drained.includes(name));
  return [...new Set(undrained.length > 0 ? undrained : staying)].sort();
}

export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #unlisten: () => void;
  #view: ClusterView | undefined;
  #known: KnownAssignment | undefined;
  /** The assignment and the eligible members for which nothing had to be changed. */
  #atRest: { readonly known: KnownAssignment; readonly members: string } | undefined;
  #writing = false;
  #gathering: (() => void) | undefined;
  #cancelForgetting: () => void = () => {};
  /** When a topic of the assignment was first found to be unknown here, by its logEpoch. */
  readonly #unknownSinceMs = new Map<number, number>();
  /** The highest version that was seen: versions rise even if the store went back. */
  #highestVersion = 0;
  /** The last write failed: of several failures only the first is logged. */
  #failing = false;
  #stopped = false;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.#unlisten = options.topics.onChange(() => this.#topicsChanged());
  }

  /** This member coordinates, and the assignment is the one that the view speaks of. */
  consider(view: ClusterView, known: KnownAssignment): void {
    this.#view = view;
    this.#known = known;
    this.#look();
  }

  /** Someone else coordinates, or this member's lease has ended. */
  rest(): void {
    this.#view = undefined;
    this.#atRest = undefined;
    this.#gathering?.();
    this.#gathering = undefined;
    this.#cancelForgetting();
    this.#unknownSinceMs.clear();
  }

  stop(): void {
    this.#stopped = true;
    this.#unlisten();
    this.rest();
  }

  #topicsChanged(): void {
    this.#atRest = undefined;
    this.#look();
  }

  #look(): void {
    const view = this.#view;
    const known = this.#known;
    if (this.#stopped || this.#writing || view === undefined || known === undefined) return;
    const members = eligibleMembers(view);
    const names = members.join('\n');
    if (this.#atRest?.known === known && this.#atRest.members === names) return;
    const onlyJoins = this.#atRest?.known === known && hasAll(members, known.assignment.members);
    if (onlyJoins && known.assignment.members.length > 0) {
      this.#gathering ??= this.#options.clock.setTimer(GATHER_JOINS_MS, () => {
        this.#gathering = undefined;
        this.#atRest = undefined;
        this.#look();
      });
      return;
    }
    this.#gathering?.();
    this.#gathering = undefined;
    this.#highestVersion = Math.max(this.#highestVersion, known.assignment.version, known.storedVersion);
    const next = assign({
      members,
      topics: this.#topics(known.assignment),
      previous: known.assignment,
      version: this.#highestVersion + 1,
    });
    // What the store has lost comes back as it was when it is written again: partitions stay where they are.
    if (next !== known.assignment) void this.#write(view, known, next);
    else if (known.isLost === true)
      void this.#write(view, known, { ...next, version: this.#highestVersion + 1 });
    else this.#atRest = { known, members: names };
  }

  /**
   * The topics that exist, and those that are not known here but may exist. A topic never has fewer
   * partitions than it had.
   */
  #topics(assignment: Assignment): TopicPartitions[] {
    const { clock, topics } = this.#options;
    const nowMs = clock.monotonicMs();
    const counts = new Map<number, number>();
    for (const { logEpoch, partitions } of topics.topics()) {
      const before = assignment.topics.get(logEpoch)?.members.length ?? 0;
      counts.set(logEpoch, Math.max(before, partitions));
      this.#unknownSinceMs.delete(logEpoch);
    }
    let forgetInMs = Number.POSITIVE_INFINITY;
    for (const [logEpoch, { members }] of assignment.topics) {
      if (counts.has(logEpoch)) continue;
      const sinceMs = this.#unknownSinceMs.get(logEpoch) ?? nowMs;
      const leftMs = sinceMs + FORGET_TOPIC_MS - nowMs;
      if (leftMs <= 0) continue;
      this.#unknownSinceMs.set(logEpoch, sinceMs);
      counts.set(logEpoch, members.length);
      forgetInMs = Math.min(forgetInMs, leftMs);
    }
    for (const logEpoch of this.#unknownSinceMs.keys()) {
      if (!assignment.topics.has(logEpoch)) this.#unknownSinceMs.delete(logEpoch);
    }
    this.#cancelForgetting();
    if (forgetInMs < Number.POSITIVE_INFINITY) {
      this.#cancelForgetting = clock.setTimer(forgetInMs, () => this.#topicsChanged());
    }
    return [...counts].map(([logEpoch, partitions]) => ({ logEpoch, partitions }));
  }

  async #write(view: ClusterView, known: KnownAssignment, next: Assignment): Promise<void> {
    const { store, logger, memberId, written, unsure } = this.#options;
    const { term } = view.coordinator;
    this.#writing = true;
    try {
      const storedVersion = await store.assign(memberId, term, known.storedVersion, encodeAssignment(next));
      this.#writing = false;
      this.#failing = false;
      const moves = [...movesBetween(known.assignment, next)].length;
      logger.info({ version: storedVersion, term, members: next.members, moves }, 'assigned the partitions');
      if (!this.#stopped) written({ storedVersion, assignment: next });
    } catch (error) {
      this.#writing = false;
      if (!(error instanceof BrokerError)) throw error;
      // Until the store has been asked, nothing is known of its assignment.
      this.#known = undefined;
      if (this.#stopped) return;
      const fields = { term, reason: error.message };
      if (error.code === 'ABORTED') logger.info(fields, 'another broker has assigned the partitions');
      else if (!this.#failing) logger.warn(fields, 'the new assignment is not stored: trying again');
      this.#failing = error.code !== 'ABORTED';
      unsure();
    }
  }
}

function hasAll(all: readonly string[], some: readonly string[]): boolean {
  return some.every((name) => all.includes(name));
}
