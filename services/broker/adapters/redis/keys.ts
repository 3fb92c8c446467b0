// The keys of the Redis stores: the only place that knows their names. All begin with the cluster's prefix.
// What is in braces decides the slot in a Redis Cluster: all keys of a partition share one, and so do all of
// the cluster's own.
//
//   {5.3}:meta   hash    claim, end and numbers of partition 3 of logEpoch 5 (lua/partition.lua)
//   {5.3}:log    stream  a chunk per entry, under its end offset: i = info, f = frames
//   {5.3}:index  stream  the same entries without their frames
//   {5.3}:cursors hash   subscription → record
//   {5.3}:note   string  what the last owner left for the next one; with a time to live
//   {t5}:partitions, {t5}:dropped    set of the partitions of logEpoch 5; there for a day once it was dropped
//   {s7}:partitions                  set of the partitions in which subscription 7 has a cursor, as "5.3"
//   {cluster}:identity, members, ids, leases, coordinator, assignment, drained, definitions,
//   {cluster}:definitions-version, removed-definitions, removed-forgotten, incarnation
//   signals      channel
//
// An entry's id is the chunk's *end* offset (that of the next message), not its last one: the first chunk of
// one message would be 0-0, which Redis refuses. So the chunk that holds an offset is the first with a
// greater id.
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';

export interface PartitionKeys {
  readonly meta: string;
  readonly log: string;
  readonly index: string;
  readonly cursors: string;
  readonly note: string;
}

export class RedisKeys {
  readonly #prefix: string;
  readonly identity: string;
  readonly members: string;
  readonly ids: string;
  readonly leases: string;
  readonly coordinator: string;
  readonly assignment: string;
  readonly drained: string;
  readonly definitions: string;
  readonly definitionsVersion: string;
  readonly removed: string;
  readonly removedForgotten: string;
  readonly incarnation: string;
  readonly signals: string;

  /** The prefix must have no braces in it. */
  constructor(prefix: string) {
    this.#prefix = prefix;
    const own = (name: string) => `${prefix}:{cluster}:${name}`;
    this.identity = own('identity');
    this.members = own('members');
    this.ids = own('ids');
    this.leases = own('leases');
    this.coordinator = own('coordinator');
    this.assignment = own('assignment');
    this.drained = own('drained');
    this.definitions = own('definitions');
    this.definitionsVersion = own('definitions-version');
    this.removed = own('removed-definitions');
    this.removedForgotten = own('removed-forgotten');
    this.incarnation = own('incarnation');
    this.signals = `${prefix}:signals`;
  }

  partition(id: PartitionId): PartitionKeys {
    const base = `${this.#prefix}:{${formatPartitionId(id)}}:`;
    return {
      meta: `${base}meta`,
      log: `${base}log`,
      index: `${base}index`,
      cursors: `${base}cursors`,
      note: `${base}note`,
    };
  }

  topicPartitions(logEpoch: number): string {
    return `${this.#prefix}:{t${logEpoch}}:partitions`;
  }

  topicDropped(logEpoch: number): string {
    return `${this.#prefix}:{t${logEpoch}}:dropped`;
  }

  subscriptionPartitions(subscription: number): string {
    return `${this.#prefix}:{s${subscription}}:partitions`;
  }
}
