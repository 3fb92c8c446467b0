// Which partitions a topic has in Redis, and in which ones a subscription has a cursor: what is deleted as a
// whole must be found again, and no command finds keys by pattern without touching all.
//
// Invariant: a list is written before the data that it leads to, and never to a store that held a cluster and
// holds none any more: it was emptied, or is another one. What was written is remembered here, so it costs a
// round trip once; after a reconnection it is written again, since the server may have forgotten.
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { RedisConnection } from './connection.ts';
import { readIdentity } from './identity.ts';
import type { RedisKeys } from './keys.ts';
import { verdictOf } from './replies.ts';

/** Partitions whose data is deleted, and cursors that are enlisted, in one step. */
const STEP = 128;
/** The most names that a set here remembers; then it begins anew. */
const MAX_REMEMBERED = 200_000;

export class PartitionLists {
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  readonly #enlisted = new Set<string>();
  readonly #withCursor = new Set<string>();
  /** The store has held a cluster. */
  #held = false;
  /** It was looked at since the last connection. */
  #looked = false;

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection;
    this.#keys = keys;
    connection.onReady(() => {
      this.#enlisted.clear();
      this.#withCursor.clear();
      this.#looked = false;
    });
  }

  /**
   * Notes that the partition is about to get data. ABORTED: its topic was dropped. UNAVAILABLE: the store
   * does not hold the cluster any more.
   */
  async enlist(partition: PartitionId): Promise<void> {
    const name = formatPartitionId(partition);
    if (this.#enlisted.has(name)) return;
    await this.#look();
    const { logEpoch } = partition;
    const keys = [this.#keys.topicPartitions(logEpoch), this.#keys.topicDropped(logEpoch)];
    const [word] = verdictOf(await this.#connection.script('enlist', keys, [partition.partition]));
    if (word === 'DROPPED') throw new BrokerError('ABORTED', `the topic of ${name} was dropped`);
    remember(this.#enlisted, name);
  }

  /** From now on nothing is enlisted for the topic; calls `drop` for each partition that was. */
  async dropTopic(
    logEpoch: number,
    tombstoneSeconds: number,
    drop: (partition: PartitionId) => Promise<void>,
  ): Promise<void> {
    const tombstone = this.#keys.topicDropped(logEpoch);
    await this.#connection.script('drop_topic', [tombstone], [tombstoneSeconds]);
    await this.#drain(this.#keys.topicPartitions(logEpoch), (text) => {
      const partition = { logEpoch, partition: Number(text) };
      this.#enlisted.delete(formatPartitionId(partition));
      return drop(partition);
    });
  }

  /**
   * Notes that the subscription is about to get a cursor in each of the partitions. UNAVAILABLE: the store
   * does not hold the cluster any more.
   */
  async enlistCursors(subscription: number, partitions: readonly PartitionId[]): Promise<void> {
    const names = partitions.map(formatPartitionId);
    const missing = names.filter((name) => !this.#withCursor.has(`${subscription} ${name}`));
    if (missing.length > 0) await this.#look();
    const key = this.#keys.subscriptionPartitions(subscription);
    for (let at = 0; at < missing.length; at += STEP) {
      const some = missing.slice(at, at + STEP);
      await this.#connection.script('enlist_cursors', [key], some);
      for (const name of some) remember(this.#withCursor, `${subscription} ${name}`);
    }
  }

  /** Calls `drop` for each partition in which the subscription may have a cursor. */
  async dropSubscription(
    subscription: number,
    drop: (partition: PartitionId) => Promise<void>,
  ): Promise<void> {
    await this.#drain(this.#keys.subscriptionPartitions(subscription), (name) => {
      this.#withCursor.delete(`${subscription} ${name}`);
      const [logEpoch, partition] = name.split('.').map(Number);
      return drop({ logEpoch: logEpoch!, partition: partition! });
    });
  }

  /** The same server may have come back with nothing: its brokers hear of that with a heartbeat, later. */
  async #look(): Promise<void> {
    if (this.#looked) return;
    const identity = await readIdentity(this.#connection, this.#keys);
    if (identity === undefined && this.#held)
      throw new BrokerError(
        'UNAVAILABLE',
        'the store does not hold the cluster any more: was it emptied, or is it another one?',
      );
    this.#held ||= identity !== undefined;
    this.#looked = true;
  }

  /** A name leaves its set when its data has gone: what fails in between is done again the next time. */
  async #drain(key: string, drop: (member: string) => Promise<void>): Promise<void> {
    for (;;) {
      const members = await this.#connection.run('drop', (client) => client.srandmember(key, STEP));
      if (members.length === 0) return;
      await Promise.all(members.map(drop));
      await this.#connection.run('drop', (client) => client.srem(key, ...members));
    }
  }
}

function remember(names: Set<string>, name: string): void {
  if (names.size >= MAX_REMEMBERED) names.clear();
  names.add(name);
}
