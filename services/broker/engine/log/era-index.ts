// Where the eras of partitions begin (core/growth.ts), whoever owns the partitions: known from their owners
// that are here, for the others read from the store. Nothing is kept: an era begins earlier than before where
// the store has forgotten messages.

import { BrokerError } from '../../core/errors.ts';
import { beginOf, decodeEras, type Source } from '../../core/growth.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { EngineLogger } from '../context.ts';
import type { PartitionOwner } from './partition-owner.ts';

/** A topic as far as it is at work here. */
export interface LocalTopic {
  readonly definition: { readonly name: string };
  readonly partitions: { owner(partition: number): PartitionOwner | undefined };
}

export interface EraIndexOptions {
  readonly cursors: CursorStore;
  readonly logger: EngineLogger;
  /** By the topic's incarnation. */
  readonly topics: ReadonlyMap<number, LocalTopic>;
}

export class EraIndex {
  readonly #options: EraIndexOptions;

  constructor(options: EraIndexOptions) {
    this.#options = options;
  }

  /**
   * The offset at which the partition's era begins; undefined: it has not begun for sure, or the store does
   * not say. Never rejects.
   */
  async beginOf(logEpoch: number, { partition, partitions }: Source): Promise<number | undefined> {
    const { topics, cursors, logger } = this.#options;
    const topic = topics.get(logEpoch);
    if (topic === undefined) return undefined;
    const owner = topic.partitions.owner(partition);
    if (owner?.growth !== undefined) return beginOf(owner.growth.durableEras, partitions);
    try {
      const record = await cursors.load(logEpoch, { logEpoch, partition });
      return record === undefined ? undefined : beginOf(decodeEras(record), partitions);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      logger.warn({ topic: topic.definition.name, partition, reason: error.message }, UNREADABLE);
      return undefined;
    }
  }
}

const UNREADABLE = 'how far a topic has grown cannot be read: trying again';
