// What the coordinators have assigned, one assignment after the other.
//
//   stable     with the same members and topics nothing moves
//   bounded    whatever joins or leaves, only what has to move does
import {
  type Assignment,
  decodeAssignment,
  LOAD_FACTOR,
  loadsOf,
  movesBetween,
} from '../../../services/broker/core/assignment.ts';
import { Violation } from '../violation.ts';

export class AssignmentTruth {
  /** While true, nothing may be assigned or acquired. */
  still = false;
  /** How many partitions that had an owner before have moved. */
  moves = 0;
  #present = decodeAssignment('');

  assigned(body: string): void {
    if (this.still) throw new Violation('the partitions are assigned anew although nothing has changed');
    const before = this.#present;
    const after = decodeAssignment(body);
    this.#present = after;
    const moved = [...movesBetween(before, after)].filter(({ from }) => from !== undefined);
    this.moves += moved.length;
    if (before.members.length === 0) return;
    if (moved.length > 0 && sameTask(before, after))
      throw new Violation(`${moved.length} partitions were moved although members and topics are the same`);
    const staying = moved.filter(({ from }) => after.members.includes(from!));
    const joined = after.members.filter((name) => !before.members.includes(name));
    if (staying.length > joined.length * mostOf(after) + unevenness(before, after))
      throw new Violation(
        `${staying.length} partitions were moved from members that stay; ${joined.length} have joined`,
      );
  }
}

function sameTask(before: Assignment, after: Assignment): boolean {
  const outline = ({ members, topics }: Assignment): string =>
    JSON.stringify([
      members,
      [...topics].map(([logEpoch, topic]) => [logEpoch, topic.members.length]).sort(),
    ]);
  return outline(before) === outline(after);
}

function totalOf({ topics }: Assignment): number {
  return [...topics.values()].reduce((sum, { members }) => sum + members.length, 0);
}

/** The most partitions that one member may have. */
function mostOf(assignment: Assignment): number {
  return Math.ceil((LOAD_FACTOR * totalOf(assignment)) / Math.max(1, assignment.members.length));
}

/** Partitions that had to move only to even loads out, apart from topics and members that came or left. */
function unevenness(before: Assignment, after: Assignment): number {
  const most = mostOf(after);
  const least = Math.floor(totalOf(after) / Math.max(1, after.members.length) / LOAD_FACTOR);
  const topics = new Map([...before.topics].filter(([logEpoch]) => after.topics.has(logEpoch)));
  let uneven = 0;
  for (const load of loadsOf({ ...before, topics }).values())
    uneven += Math.max(0, load - most) + Math.max(0, least - load);
  return uneven;
}
