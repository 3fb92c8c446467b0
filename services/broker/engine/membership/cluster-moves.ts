// The newest moves of partitions, as this broker saw them: for people (`fanfare cluster`). Bounded; the
// oldest are forgotten.
import { type Assignment, movesBetween } from '../../core/assignment.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ClusterView } from '../../ports/membership-store.ts';

export const MAX_RECENT_MOVES = 100;
/** The most members that have gone and of which it is known how. */
const MAX_GONE = 100;

export interface RecentMove {
  readonly partition: PartitionId;
  /** Names of members; empty: nobody. */
  readonly from: string;
  readonly to: string;
  readonly timeMs: number;
  readonly reason: string;
}

export class RecentMoves {
  readonly #clock: Clock;
  /** The oldest first. */
  #moves: RecentMove[] = [];
  readonly #gone = new Map<string, 'left' | 'lease ran out'>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The newest first. */
  list(): RecentMove[] {
    return [...this.#moves].reverse();
  }

  membersChanged(before: ClusterView | undefined, after: ClusterView): void {
    const living = new Set(after.members.map(({ name }) => name));
    for (const { name, draining } of before?.members ?? []) {
      if (!living.has(name)) this.#gone.set(name, draining ? 'left' : 'lease ran out');
    }
    for (const name of living) this.#gone.delete(name);
    for (const name of this.#gone.keys()) {
      if (this.#gone.size <= MAX_GONE) break;
      this.#gone.delete(name);
    }
  }

  assigned(before: Assignment, after: Assignment, view: ClusterView): void {
    // A broker that has just started has seen nothing move, unless it is the cluster's first.
    if (before.version === 0 && after.version > 1) return;
    const timeMs = Math.floor(this.#clock.nowMs());
    const moves: RecentMove[] = [];
    for (const { partition, from = '', to = '' } of movesBetween(before, after)) {
      moves.push({ partition, from, to, timeMs, reason: this.#reason(from, to, before, view) });
      if (moves.length === MAX_RECENT_MOVES) break;
    }
    this.#moves = [...this.#moves, ...moves].slice(-MAX_RECENT_MOVES);
  }

  #reason(from: string, to: string, before: Assignment, { members, drained }: ClusterView): string {
    if (from === '') return 'created';
    const former = members.find(({ name }) => name === from);
    if (former === undefined) return this.#gone.get(from) ?? 'left';
    if (former.draining) return 'left';
    if (drained.includes(from)) return 'drained';
    return before.members.includes(to) ? 'balanced' : 'joined';
  }
}
