// Where the eras of partitions begin (core/growth.ts), whoever owns them: of those that are owned here from their owners, of the
// others from the store. What was found once is kept: it changes only if a store that went back has forgotten it, and its owner has
// died, so that the next one begins the era anew.

import { BrokerError } from '../../core/errors.ts';
import { beginOf, decodeEras, type Source } from '../../core/growth.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { EngineLogger } from '../context.ts';
import type { PartitionOwner } from './partition-owner.ts';

/** A topic as far as it is at work here. */
export interface LocalTopic {
  readonly definition: { readonly name: string };
  /** By partition: those that are owned here. */
  readonly owners: ReadonlyMap<number, PartitionOwner>;
}

export interface EraIndexOptions {
  readonly cursors: CursorStore;
  readonly logger: EngineLogger;
  /** By incarnation. */
  readonly topics: ReadonlyMap<number, LocalTopic>;
}

export class EraIndex {
  readonly #options: EraIndexOptions;
  /** By incarnation, then by partition and count. */
  readonly #found = new Map<number, Map<string, number>>();

  constructor(options: EraIndexOptions) {
    this.#options = options;
  }

  /**
   * Where the partition's era begins; undefined: it has not begun for sure, or the store does not say. `again`: whatever was found
   * before. Never rejects.
   */
  async beginOf(
    logEpoch: number,
    { partition, partitions }: Source,
    how?: 'again',
  ): Promise<number | undefined> {
    const key = `${partition} ${partitions}`;
    const found = how === 'again' ? undefined : this.#found.get(logEpoch)?.get(key);
    if (found !== undefined) return found;
    const { topics, cursors, logger } = this.#options;
    const topic = topics.get(logEpoch);
    if (topic === undefined) return undefined;
    const owner = topic.owners.get(partition);
    let eras = owner?.growth?.durableEras;
    if (eras === undefined)
      try {
        const record = await cursors.load(logEpoch, { logEpoch, partition });
        eras = record === undefined ? [] : decodeEras(record);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        logger.warn({ topic: topic.definition.name, partition, reason: error.message }, UNREADABLE);
        return undefined;
      }
    const begin = beginOf(eras, partitions);
    if (begin === undefined || topics.get(logEpoch) !== topic) return undefined;
    const ofTopic = this.#found.get(logEpoch) ?? new Map<string, number>();
    this.#found.set(logEpoch, ofTopic.set(key, begin));
    return begin;
  }

  /** The topic has gone. */
  forget(logEpoch: number): void {
    this.#found.delete(logEpoch);
  }
}

const UNREADABLE = 'how far a topic has grown cannot be read: trying again';
