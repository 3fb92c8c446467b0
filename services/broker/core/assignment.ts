// Which member should own which partition: consistent hashing with bounded loads (Mirrokni, Thorup and
// Zadimoghaddam, https://arxiv.org/abs/1608.01350), with rendezvous hashing (Thaler and Ravishankar 1996) as
// the order in which a partition prefers members.
//
// Members go by name, so a restart changes nothing. A new assignment begins from the former one, and a
// partition moves only if
//   - its member has gone,
//   - it prefers a member that has just come to its own, or
//   - a member would else have more than ceil(factor × mean) of them, or fewer than floor(mean ÷ factor).
import { assert, BrokerError } from './errors.ts';
import type { PartitionId } from './partition.ts';

/** How far the fullest member may be above the mean, and the emptiest below it. */
export const LOAD_FACTOR = 1.25;

/** All partitions of a topic's incarnation: 0 to partitions − 1. */
export interface TopicPartitions {
  readonly logEpoch: number;
  readonly partitions: number;
}

/** The members that should own a topic's partitions. Both lists are indexed by partition. */
interface TopicTargets {
  /** Indexes in Assignment.members, or NOBODY. */
  readonly members: readonly number[];
  /** The version of the assignment in which the partition last moved. */
  readonly versions: readonly number[];
}

/** Never changed once made. */
export interface Assignment {
  /** Greater than the version of every assignment before. */
  readonly version: number;
  /** The names of the members that may have partitions, sorted. */
  readonly members: readonly string[];
  /** Keyed by logEpoch. */
  readonly topics: ReadonlyMap<number, TopicTargets>;
}

export interface Target {
  readonly name: string;
  /** The version of the assignment in which the partition came to it. */
  readonly version: number;
}

export interface Move {
  readonly partition: PartitionId;
  /** Names of members; undefined: nobody. */
  readonly from: string | undefined;
  readonly to: string | undefined;
}

export const EMPTY_ASSIGNMENT: Assignment = Object.freeze({ version: 0, members: [], topics: new Map() });

const NOBODY = -1;

export interface AssignInput {
  /** Names, each once, in any order. */
  readonly members: readonly string[];
  /** Each topic once, in any order. */
  readonly topics: readonly TopicPartitions[];
  readonly previous: Assignment;
  /** The version of the result, if it differs from `previous`; greater than that one's. */
  readonly version: number;
  readonly loadFactor?: number;
}

/** The next assignment; `previous` itself if nothing changes. The same input gives the same result. */
export function assign({
  members,
  topics,
  previous,
  version,
  loadFactor = LOAD_FACTOR,
}: AssignInput): Assignment {
  assert(version > previous.version, `assignment ${version} follows ${previous.version}`);
  const names = [...members].sort();
  const sorted = [...topics].sort((a, b) => a.logEpoch - b.logEpoch);
  const draft = new Draft(names, sorted, previous, loadFactor);
  if (names.length > 0) {
    draft.giveToJoined(previous.members);
    draft.shedOverload();
    draft.placeHomeless();
    draft.fillUnderload();
  }
  const result = draft.finish(previous, version);
  const unchanged =
    draft.moves === 0 &&
    result.topics.size === previous.topics.size &&
    names.join('\n') === previous.members.join('\n');
  return unchanged ? previous : result;
}

export function targetOf(assignment: Assignment, { logEpoch, partition }: PartitionId): Target | undefined {
  const topic = assignment.topics.get(logEpoch);
  const name = assignment.members[topic?.members[partition] ?? NOBODY];
  return name === undefined ? undefined : { name, version: topic!.versions[partition]! };
}

/** Whether the assignment has the partition at all, if only as nobody's. */
export function isAssigned(assignment: Assignment, { logEpoch, partition }: PartitionId): boolean {
  return partition < (assignment.topics.get(logEpoch)?.members.length ?? 0);
}

/** The partitions that a member should own, in the order of topics and partitions. */
export function* partitionsOf(assignment: Assignment, name: string): Iterable<PartitionId> {
  const member = assignment.members.indexOf(name);
  if (member === NOBODY) return;
  for (const [logEpoch, topic] of assignment.topics) {
    for (const [partition, owner] of topic.members.entries()) {
      if (owner === member) yield { logEpoch, partition };
    }
  }
}

/** How many partitions each member should own. */
export function loadsOf(assignment: Assignment): Map<string, number> {
  const loads = new Map(assignment.members.map((name) => [name, 0]));
  for (const { members } of assignment.topics.values()) {
    for (const member of members) {
      const name = assignment.members[member];
      if (name !== undefined) loads.set(name, loads.get(name)! + 1);
    }
  }
  return loads;
}

/** The moves of the partitions that are in `after`. */
export function* movesBetween(before: Assignment, after: Assignment): Iterable<Move> {
  for (const [logEpoch, topic] of after.topics) {
    const former = before.topics.get(logEpoch);
    for (let partition = 0; partition < topic.members.length; partition += 1) {
      const from = before.members[former?.members[partition] ?? NOBODY];
      const to = after.members[topic.members[partition]!];
      if (from !== to) yield { partition: { logEpoch, partition }, from, to };
    }
  }
}

/** The assignment as text: about 6 bytes a partition, so that 10,000 of them are far below 1 MiB. */
export function encodeAssignment({ version, members, topics }: Assignment): string {
  const rows = [...topics].map(([logEpoch, topic]) => {
    const [first] = topic.versions;
    // The partitions of most topics have never moved, or all at once.
    const same = first !== undefined && topic.versions.every((each) => each === first);
    return [logEpoch, topic.members, same ? first : topic.versions];
  });
  return JSON.stringify({ format: FORMAT, version, members, topics: rows });
}

/** Raised when older versions could no longer read what is written. Those of 0.1.0 wrote none. */
const FORMAT = 1;

interface StoredAssignment {
  readonly format?: number;
  readonly version: number;
  readonly members: string[];
  readonly topics: [number, number[], number | number[]][];
}

function parsed(text: string): StoredAssignment {
  try {
    const stored = JSON.parse(text) as StoredAssignment;
    const { format = FORMAT, version, members, topics } = stored;
    const isWhole = Number.isSafeInteger(version) && Array.isArray(members) && Array.isArray(topics);
    if (format === FORMAT && isWhole) return stored;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new BrokerError(
    'FAILED_PRECONDITION',
    'the stored assignment cannot be read. Was it written by a newer version?',
  );
}

/**
 * Decodes what encodeAssignment made; the empty text is the empty assignment. FAILED_PRECONDITION on anything
 * else: it was written by a newer version, or the store is damaged.
 */
export function decodeAssignment(text: string): Assignment {
  if (text === '') return EMPTY_ASSIGNMENT;
  const { version, members, topics } = parsed(text);
  return {
    version,
    members,
    topics: new Map(
      topics.map(([logEpoch, owners, versions]) => [
        logEpoch,
        {
          members: owners,
          versions: typeof versions === 'number' ? owners.map(() => versions) : versions,
        },
      ]),
    ),
  };
}

/** A partition while the assignment is being made. */
interface Placed {
  readonly logEpoch: number;
  readonly partition: number;
  readonly hash: number;
  member: number;
  /** The member that the previous assignment gave it; undefined: none. */
  readonly former: string | undefined;
  readonly formerVersion: number;
}

/** The assignment under way: who has what, and how much. */
class Draft {
  readonly #names: readonly string[];
  readonly #hashes: readonly number[];
  readonly #topics: readonly TopicPartitions[];
  readonly #placed: Placed[] = [];
  readonly #loads: number[];
  readonly #most: number;
  readonly #least: number;
  /** How many partitions have moved; counted by finish(). */
  moves = 0;

  constructor(
    names: readonly string[],
    topics: readonly TopicPartitions[],
    previous: Assignment,
    factor: number,
  ) {
    this.#names = names;
    this.#hashes = names.map(hashOfName);
    this.#topics = topics;
    this.#loads = names.map(() => 0);
    const indexOf = new Map(names.map((name, index) => [name, index]));
    for (const { logEpoch, partitions } of topics) {
      const former = previous.topics.get(logEpoch);
      for (let partition = 0; partition < partitions; partition += 1) {
        const name = previous.members[former?.members[partition] ?? NOBODY];
        const member = (name === undefined ? undefined : indexOf.get(name)) ?? NOBODY;
        if (member !== NOBODY) this.#loads[member]! += 1;
        const hash = mix(Math.imul(logEpoch, 0x9e3779b1) ^ mix(partition + 1));
        const formerVersion = former?.versions[partition] ?? 0;
        this.#placed.push({ logEpoch, partition, hash, member, former: name, formerVersion });
      }
    }
    const mean = this.#placed.length / Math.max(1, names.length);
    this.#most = Math.ceil(mean * factor);
    this.#least = Math.floor(mean / factor);
  }

  /** Members that have come get the partitions that prefer them: about a share each, from all others. */
  giveToJoined(before: readonly string[]): void {
    const known = new Set(before);
    const joined = [...this.#names.keys()].filter((member) => !known.has(this.#names[member]!));
    if (joined.length === 0) return;
    const wishes: { each: Placed; to: number; score: number }[] = [];
    for (const each of this.#placed) {
      if (each.member === NOBODY) continue;
      const to = this.#favourite(each, joined);
      const score = this.#score(each, to);
      if (score > this.#score(each, each.member)) wishes.push({ each, to, score });
    }
    wishes.sort((a, b) => b.score - a.score || compare(a.each, b.each));
    for (const { each, to } of wishes) {
      if (this.#loads[to]! < this.#most && this.#loads[each.member]! > this.#least) this.#move(each, to);
    }
  }

  /** A member that has too many partitions loses those that prefer it least. */
  shedOverload(): void {
    for (const member of this.#names.keys()) {
      const excess = this.#loads[member]! - this.#most;
      if (excess <= 0) continue;
      const own = this.#placed.filter((each) => each.member === member);
      own.sort((a, b) => this.#score(a, member) - this.#score(b, member) || compare(a, b));
      for (const each of own.slice(0, excess)) this.#move(each, NOBODY);
    }
  }

  /** Homeless partitions go to the member they prefer of those with room, the last to those with too few. */
  placeHomeless(): void {
    const homeless = this.#placed.filter(({ member }) => member === NOBODY);
    const all = [...this.#names.keys()];
    let missing = all.reduce((sum, member) => sum + Math.max(0, this.#least - this.#loads[member]!), 0);
    for (const [index, each] of homeless.entries()) {
      const bound = homeless.length - index <= missing ? this.#least : this.#most;
      const to = this.#favourite(
        each,
        all.filter((member) => this.#loads[member]! < bound),
      );
      if (this.#loads[to]! < this.#least) missing -= 1;
      this.#move(each, to);
    }
  }

  /** A member that has too few partitions gets, from the one with most, those that prefer it most. */
  fillUnderload(): void {
    for (const member of this.#names.keys()) {
      while (this.#loads[member]! < this.#least) {
        const donor = this.#loads.indexOf(Math.max(...this.#loads));
        let best: Placed | undefined;
        for (const each of this.#placed) {
          if (each.member !== donor) continue;
          if (best === undefined || this.#score(each, member) > this.#score(best, member)) best = each;
        }
        assert(best !== undefined && donor !== member, 'nobody has partitions to give');
        this.#move(best, member);
      }
    }
  }

  finish(previous: Assignment, version: number): Assignment {
    const made = new Map<number, { members: number[]; versions: number[] }>();
    for (const { logEpoch } of this.#topics) made.set(logEpoch, { members: [], versions: [] });
    for (const { logEpoch, partition, member, former, formerVersion } of this.#placed) {
      const moved = this.#names[member] !== former || !isAssigned(previous, { logEpoch, partition });
      if (moved) this.moves += 1;
      const topic = made.get(logEpoch)!;
      topic.members.push(member);
      topic.versions.push(moved ? version : formerVersion);
    }
    return { version, members: this.#names, topics: made };
  }

  #favourite(each: Placed, among: readonly number[]): number {
    let best = NOBODY;
    let bestScore = -1;
    for (const member of among) {
      const score = this.#score(each, member);
      if (score > bestScore) {
        best = member;
        bestScore = score;
      }
    }
    assert(best !== NOBODY, 'no member has room');
    return best;
  }

  #score({ hash }: Placed, member: number): number {
    return mix(hash ^ this.#hashes[member]!);
  }

  #move(each: Placed, to: number): void {
    if (each.member !== NOBODY) this.#loads[each.member]! -= 1;
    if (to !== NOBODY) this.#loads[to]! += 1;
    each.member = to;
  }
}

function compare(a: Placed, b: Placed): number {
  return a.logEpoch - b.logEpoch || a.partition - b.partition;
}

/** FNV-1a over the UTF-16 units, then mixed: names like broker-1 and broker-2 must differ in all bits. */
function hashOfName(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i += 1) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/** MurmurHash3's finaliser: every bit of the input reaches every bit of the result, which is at least 0. */
function mix(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
