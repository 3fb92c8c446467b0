// Waits until replicas, or the disk, have what was appended: for the durability levels `replicated` and
// `fsync`.
//
// WAIT and WAITAOF cover what was written on their own connection and hold up everything behind them there.
// So they have a connection to themselves, with a small write before each: the server's writes are one
// sequence, so whoever has that write has everything before it. One wait serves all that came while the last
// one was under way.
import { Cluster } from 'ioredis';
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Durability } from '../../ports/log-store.ts';
import type { Client } from './client.ts';
import { slotOf } from './cluster-slot.ts';
import type { Conditions } from './conditions.ts';
import type { RedisConnection, Reply } from './connection.ts';
import type { RedisKeys } from './keys.ts';
import { meaningOf, messageOf, toBrokerError } from './redis-errors.ts';
import { refusalError, verdictOf } from './replies.ts';
import { scriptText } from './scripts.ts';
import type { ServerWatch } from './server-watch.ts';

/** How long replicas, or the disk, may take. */
const WAIT_MS = 1_000;
/** How much longer the answer may take to arrive. */
const GRACE_MS = 1_000;
/** The most partitions that one wait serves. */
const MAX_BATCH = 256;

export interface ConfirmerParts {
  /** The connection for data: it carries what needs no waiting. */
  readonly connection: RedisConnection;
  /** The connection for waiting, opened when it is needed first. */
  readonly openWaiting: () => Promise<RedisConnection>;
  readonly keys: RedisKeys;
  readonly memberId: string;
  readonly watch: ServerWatch;
  readonly conditions: Conditions;
}

interface Waiting {
  readonly partition: PartitionId;
  readonly ownerEpoch: number;
  readonly endOffset: number;
  resolve(): void;
  reject(error: unknown): void;
}

/** Appends that one wait can serve: on one node, with the same durability. */
interface Queue {
  readonly durability: Durability;
  waiting: Waiting[];
  busy: boolean;
}

export class Confirmer {
  readonly #parts: ConfirmerParts;
  readonly #queues = new Map<string, Queue>();
  #connection: Promise<RedisConnection> | undefined;

  constructor(parts: ConfirmerParts) {
    this.#parts = parts;
  }

  /** Checks that the claim holds and that the log reaches so far; errors as in LogStore.confirm. */
  async check(partition: PartitionId, ownerEpoch: number, endOffset: number): Promise<void> {
    const { connection, keys, memberId } = this.#parts;
    const { meta } = keys.partition(partition);
    const verdict = verdictOf(await connection.script('touch', [meta], [ownerEpoch, memberId, endOffset]));
    if (verdict[0] !== 'OK') throw refusalError(partition, ownerEpoch, verdict);
  }

  /** Waits until everything below endOffset, which has been written, is as durable as asked. */
  async confirm(
    partition: PartitionId,
    ownerEpoch: number,
    endOffset: number,
    durability: Durability,
  ): Promise<void> {
    const { level } = durability;
    if (level === 'memory' || level === 'stored') return;
    // With appendfsync always, what was answered is on the disk.
    if (level === 'fsync' && this.#parts.watch.fsync === 'always') return;
    if (level === 'fsync' && this.#parts.watch.fsync === 'none') {
      this.#parts.conditions.begins('fsync', 'neither WAITAOF nor appendfsync always');
      throw new BrokerError(
        'UNAVAILABLE',
        'the store does not sync to its disk any more: its operator must see to it',
      );
    }
    const connection = await this.#waitingConnection();
    await new Promise<void>((resolve, reject) => {
      const queue = this.#queueOf(connection.client, partition, durability);
      queue.waiting.push({ partition, ownerEpoch, endOffset, resolve, reject });
      if (!queue.busy) void this.#run(connection, queue);
    });
  }

  #waitingConnection(): Promise<RedisConnection> {
    this.#connection ??= this.#parts.openWaiting().catch((error: unknown) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#connection;
  }

  #queueOf(client: Client, partition: PartitionId, durability: Durability): Queue {
    const key = `${nodeOf(client, this.#parts.keys, partition)} ${durability.level} ${durability.minReplicas}`;
    let queue = this.#queues.get(key);
    if (!queue) {
      queue = { durability, waiting: [], busy: false };
      this.#queues.set(key, queue);
    }
    return queue;
  }

  async #run(connection: RedisConnection, queue: Queue): Promise<void> {
    queue.busy = true;
    while (queue.waiting.length > 0) {
      const batch = queue.waiting.splice(0, MAX_BATCH);
      try {
        await this.#serve(connection, batch, queue.durability);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    queue.busy = false;
  }

  async #serve(
    connection: RedisConnection,
    batch: readonly Waiting[],
    durability: Durability,
  ): Promise<void> {
    const results = await connection.run(
      durability.level,
      (client) => this.#send(client, batch, durability),
      false,
      WAIT_MS + GRACE_MS,
    );
    const shortage = this.#shortage(results.at(-1), durability);
    batch.forEach(({ partition, ownerEpoch, resolve, reject }, index) => {
      const [error, reply] = results[index] ?? [new Error('no answer')];
      const verdict = verdictOf((reply ?? []) as Reply);
      if (error) reject(toBrokerError('confirm', meaningOf(error), error));
      else if (verdict[0] !== 'OK') reject(refusalError(partition, ownerEpoch, verdict));
      else if (shortage) reject(shortage);
      else resolve();
    });
  }

  async #send(
    client: Client,
    batch: readonly Waiting[],
    { level, minReplicas }: Durability,
  ): Promise<Result[]> {
    const { keys, memberId } = this.#parts;
    const pipeline = client.pipeline();
    for (const { partition, ownerEpoch, endOffset } of batch) {
      // The script is sent as text each time: sent again after NOSCRIPT it would come behind the wait.
      pipeline.eval(scriptText('touch'), 1, keys.partition(partition).meta, ownerEpoch, memberId, endOffset);
    }
    if (level === 'replicated') pipeline.wait(minReplicas, WAIT_MS);
    else pipeline.call('WAITAOF', 1, 0, WAIT_MS);
    const results = await pipeline.exec();
    if (!results) throw new Error('the pipeline was given up');
    return results;
  }

  /** Why the wait was in vain; undefined if it was not. */
  #shortage(result: Result | undefined, { level, minReplicas }: Durability): BrokerError | undefined {
    const { conditions } = this.#parts;
    const [error, reply] = result ?? [new Error('no answer')];
    if (error) {
      const meaning = meaningOf(error);
      conditions.begins(meaning.condition, messageOf(error));
      return toBrokerError(level, meaning, error);
    }
    if (level === 'fsync') {
      if (Array.isArray(reply) && Number(reply[0]) >= 1) return undefined;
      return new BrokerError(
        'UNAVAILABLE',
        `the store did not sync to its disk within ${WAIT_MS} ms: try again`,
      );
    }
    const confirmed = Number(reply);
    if (confirmed >= minReplicas) {
      conditions.ends('replicas');
      return undefined;
    }
    const reason = `${confirmed} of ${minReplicas} replicas confirmed within ${WAIT_MS} ms`;
    conditions.begins('replicas', reason);
    return new BrokerError(
      'UNAVAILABLE',
      `${reason}: it is stored, but not yet as durable as the topic asks`,
    );
  }
}

type Result = [error: Error | null, result?: unknown];

/** Names the server that has the partition, of those to which the connection leads. */
function nodeOf(client: Client, keys: RedisKeys, partition: PartitionId): string {
  if (!(client instanceof Cluster)) return '';
  return client.slots[slotOf(keys.partition(partition).meta)]?.[0] ?? formatPartitionId(partition);
}
