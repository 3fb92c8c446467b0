// Ownership of partitions, in their meta; the comments of ports/ownership-store.ts are the contract.
import { assert, BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import {
  type AcquireHow,
  type Claim,
  type OwnershipState,
  type OwnershipStore,
  takenError,
} from '../../ports/ownership-store.ts';
import type { BufferReply, RedisConnection } from './connection.ts';
import { readIdentity } from './identity.ts';
import type { RedisKeys } from './keys.ts';
import type { PartitionLists } from './partition-lists.ts';
import { refusalError, verdictOf } from './replies.ts';

const MAX_NOTE_BYTES = 1 << 24;
/** How long a note waits for the next owner: longer than any lease that it may tell of. */
const NOTE_MS = 3_600_000;
/** How long a note that was read stays, for an owner whose call had an unknown outcome. */
const READ_NOTE_MS = 60_000;
/** Partitions described side by side. */
const STEP = 1_000;

export class RedisOwnershipStore implements OwnershipStore {
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  readonly #memberId: string;
  readonly #lists: PartitionLists;
  /** Partitions of which it is not known whether this member has acquired them. */
  readonly #unknown = new Set<string>();

  constructor(connection: RedisConnection, keys: RedisKeys, memberId: string, lists: PartitionLists) {
    this.#connection = connection;
    this.#keys = keys;
    this.#memberId = memberId;
    this.#lists = lists;
  }

  async acquire(partition: PartitionId, how: AcquireHow = {}): Promise<Claim> {
    const name = formatPartitionId(partition);
    const dropped = new BrokerError('FAILED_PRECONDITION', `the topic of ${name} was dropped`);
    try {
      await this.#lists.enlist(partition);
    } catch (error) {
      throw error instanceof BrokerError && error.code === 'ABORTED' ? dropped : error;
    }
    let reply = await this.#acquire(partition, how, false);
    if (wordOf(reply) === 'MISSING') {
      // Was it lost in a failover, or is this another store, or an emptied one?
      await this.#refuseForeignStore(name);
      reply = await this.#acquire(partition, how, true);
    }
    if (wordOf(reply) === 'DROPPED') throw dropped;
    if (wordOf(reply) === 'TAKEN') throw takenError(partition, how.ifEpoch!);
    const [, ownerEpoch, handOver] = reply;
    return { ownerEpoch: Number(ownerEpoch), handOver: (handOver as Buffer | null | undefined) ?? undefined };
  }

  async describe(partitions: readonly PartitionId[]): Promise<OwnershipState[]> {
    const states: OwnershipState[] = [];
    for (let at = 0; at < partitions.length; at += STEP) {
      const some = partitions.slice(at, at + STEP).map((partition) => this.#keys.partition(partition).meta);
      const found = await Promise.all(
        some.map((meta) =>
          this.#connection.run('describe', (client) => client.hmget(meta, 'epoch', 'holder')),
        ),
      );
      for (const [epoch, holder] of found) {
        states.push({ ownerEpoch: Number(epoch ?? 0), holder: holder ?? '' });
      }
    }
    return states;
  }

  async release(partition: PartitionId, ownerEpoch: number, handOver: Uint8Array): Promise<void> {
    assert(
      handOver.length <= MAX_NOTE_BYTES,
      `a note for the next owner has at most ${MAX_NOTE_BYTES} bytes`,
    );
    const { meta, note } = this.#keys.partition(partition);
    const args = [ownerEpoch, this.#memberId, handOver, NOTE_MS];
    const verdict = verdictOf(await this.#connection.script('release', [meta, note], args));
    if (verdict[0] === 'OK') return;
    // A claim that the store has forgotten is of no use to anybody any more, so it counts as stale, too.
    throw new BrokerError('ABORTED', refusalError(partition, ownerEpoch, verdict).message);
  }

  async #acquire(
    partition: PartitionId,
    { above = 0, ifEpoch }: AcquireHow,
    mayBeMissing: boolean,
  ): Promise<BufferReply[]> {
    const name = formatPartitionId(partition);
    const { meta, note } = this.#keys.partition(partition);
    const again = this.#unknown.has(name);
    const args = [this.#memberId, above, again ? 1 : 0, mayBeMissing ? 1 : 0, READ_NOTE_MS, ifEpoch ?? ''];
    this.#unknown.add(name);
    const reply = await this.#connection.scriptBuffer('acquire', [meta, note], args);
    // "Taken" may mean by us, in that call of unknown outcome.
    if (wordOf(reply as BufferReply[]) !== 'TAKEN') this.#unknown.delete(name);
    return reply as BufferReply[];
  }

  async #refuseForeignStore(name: string): Promise<void> {
    if ((await readIdentity(this.#connection, this.#keys)) !== undefined) return;
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${name} is not in the store, and neither is the cluster: was it emptied, or is it another one?`,
    );
  }
}

function wordOf(reply: readonly BufferReply[]): string {
  return String(reply[0]);
}
