// Cursors as fields of a hash per partition; the comments of ports/cursor-store.ts are the contract. Commits
// of one partition go together, those of different partitions side by side.
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { CursorCommit, CursorStore } from '../../ports/cursor-store.ts';
import type { Argument, RedisConnection } from './connection.ts';
import type { RedisKeys } from './keys.ts';
import type { PartitionLists } from './partition-lists.ts';
import { refusalError, type Verdict, verdictOf } from './replies.ts';
import type { WriteNumbers } from './write-numbers.ts';

/** The most of one script call; a single larger record goes alone. */
const MAX_RECORDS = 256;
const MAX_RECORD_BYTES = 1 << 20;

/** Commits of one partition and one claim, with their places in the caller's list. */
interface Group {
  readonly partition: PartitionId;
  readonly ownerEpoch: number;
  readonly indexes: number[];
  readonly args: Argument[];
  bytes: number;
}

export class RedisCursorStore implements CursorStore {
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  readonly #memberId: string;
  readonly #numbers: WriteNumbers;
  readonly #lists: PartitionLists;

  constructor(
    connection: RedisConnection,
    keys: RedisKeys,
    memberId: string,
    numbers: WriteNumbers,
    lists: PartitionLists,
  ) {
    this.#connection = connection;
    this.#keys = keys;
    this.#memberId = memberId;
    this.#numbers = numbers;
    this.#lists = lists;
  }

  async load(subscription: number, partition: PartitionId): Promise<Uint8Array | undefined> {
    const { cursors } = this.#keys.partition(partition);
    const record = await this.#connection.run('load', (client) =>
      client.hgetBuffer(cursors, `${subscription}`),
    );
    return record ?? undefined;
  }

  async commit(commits: readonly CursorCommit[]): Promise<readonly number[]> {
    // The numbers keep the order in which commit() was called, whichever call waits for its lists.
    const groups = groupsOf(commits).map((group) => ({ group, number: this.#numbers.next() }));
    await this.#enlist(commits);
    const outcomes = await Promise.allSettled(groups.map(({ group, number }) => this.#write(group, number)));
    const stale: number[] = [];
    let failure: unknown;
    outcomes.forEach((outcome, at) => {
      const { group } = groups[at]!;
      if (outcome.status === 'rejected') {
        failure ??= outcome.reason;
        return;
      }
      const verdict = outcome.value;
      if (verdict[0] === 'OK') return;
      const refusal = refusalError(group.partition, group.ownerEpoch, verdict);
      if (refusal.code === 'ABORTED') stale.push(...group.indexes);
      else failure ??= refusal;
    });
    if (failure !== undefined) throw failure;
    return stale.sort((a, b) => a - b);
  }

  drop(subscription: number): Promise<void> {
    return this.#lists.dropSubscription(subscription, async (partition) => {
      const { cursors } = this.#keys.partition(partition);
      await this.#connection.run('drop', (client) => client.hdel(cursors, `${subscription}`));
    });
  }

  async #write({ partition, ownerEpoch, args }: Group, number: number): Promise<Verdict> {
    const { meta, cursors } = this.#keys.partition(partition);
    const verdict = verdictOf(
      await this.#connection.script('commit', [meta, cursors], [ownerEpoch, this.#memberId, number, ...args]),
    );
    if (verdict[0] === 'LATE') {
      throw new BrokerError(
        'UNAVAILABLE',
        `a later commit to ${formatPartitionId(partition)} was faster: try again`,
      );
    }
    return verdict;
  }

  async #enlist(commits: readonly CursorCommit[]): Promise<void> {
    const bySubscription = new Map<number, PartitionId[]>();
    for (const { subscription, partition } of commits) {
      const partitions = bySubscription.get(subscription);
      if (partitions) partitions.push(partition);
      else bySubscription.set(subscription, [partition]);
    }
    await Promise.all(
      [...bySubscription].map(([subscription, partitions]) =>
        this.#lists.enlistCursors(subscription, partitions),
      ),
    );
  }
}

function groupsOf(commits: readonly CursorCommit[]): Group[] {
  const groups: Group[] = [];
  const open = new Map<string, Group>();
  commits.forEach(({ partition, ownerEpoch, subscription, record }, index) => {
    const key = `${formatPartitionId(partition)} ${ownerEpoch}`;
    let group = open.get(key);
    if (!group || group.indexes.length >= MAX_RECORDS || group.bytes + record.length > MAX_RECORD_BYTES) {
      group = { partition, ownerEpoch, indexes: [], args: [], bytes: 0 };
      groups.push(group);
      open.set(key, group);
    }
    group.indexes.push(index);
    group.args.push(`${subscription}`, record);
    group.bytes += record.length;
  });
  return groups;
}
