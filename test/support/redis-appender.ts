// Appends to one partition without end, as an owner does: outcomes that are unknown are looked up, and what a
// store has forgotten is appended again from memory. For tests of failovers.
import { setTimeout as delay } from 'node:timers/promises';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { Chunk, Durability } from '../../services/broker/ports/log-store.ts';
import { chunksAfter } from '../conformance/harness.ts';
import type { Stores } from './memory-store.ts';

const RETRY_MS = 20;
const PAUSE_MS = 1;
const CHUNK_BYTES = 200;

export class RedisAppender {
  readonly acknowledged: Chunk[] = [];
  /** How often each of these happened. */
  readonly met = { unknown: 0, foundDone: 0, foundNotDone: 0, wentBack: 0, appendedAgain: 0 };
  readonly #stores: Stores;
  readonly #partition: PartitionId;
  readonly #durability: Durability;
  #ownerEpoch = 0;
  #end = { endOffset: 0, endByte: 0 };
  #stopped = false;
  #running: Promise<void> | undefined;
  #waiting: { count: number; resolve: () => void }[] = [];

  constructor(stores: Stores, partition: PartitionId, durability: Durability) {
    this.#stores = stores;
    this.#partition = partition;
    this.#durability = durability;
  }

  async start(): Promise<void> {
    this.#ownerEpoch = (await this.#stores.ownership.acquire(this.#partition)).ownerEpoch;
    this.#running = this.#run();
  }

  /** Resolves when so many more chunks have been acknowledged. */
  more(count: number): Promise<void> {
    const running = this.#running ?? Promise.reject(new Error('not started'));
    const reached = new Promise<void>((resolve) => {
      this.#waiting.push({ count: this.acknowledged.length + count, resolve });
    });
    // If the appender ends, so does the wait.
    return Promise.race([reached, running]);
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const [chunk] = chunksAfter(this.#end, [CHUNK_BYTES]);
      await this.#append(chunk!);
      this.acknowledged.push(chunk!);
      this.#end = { endOffset: chunk!.firstOffset + 1, endByte: chunk!.startByte + CHUNK_BYTES };
      for (const waiting of this.#waiting) {
        if (waiting.count <= this.acknowledged.length) waiting.resolve();
      }
      await delay(PAUSE_MS);
    }
  }

  async #append(chunk: Chunk): Promise<void> {
    const { log } = this.#stores;
    const newEnd = chunk.firstOffset + chunk.count;
    let mayBeDone = false;
    for (;;) {
      try {
        if (mayBeDone) {
          const { endOffset } = await log.bounds(this.#partition);
          if (endOffset === newEnd) {
            await log.confirm(this.#partition, this.#ownerEpoch, newEnd, this.#durability);
            this.met.foundDone += 1;
            return;
          }
          this.met.foundNotDone += 1;
          mayBeDone = false;
        }
        await log.append(this.#partition, this.#ownerEpoch, chunk.firstOffset, [chunk], this.#durability);
        return;
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (error.code === 'UNAVAILABLE') {
          this.met.unknown += 1;
          mayBeDone = true;
          await delay(RETRY_MS);
        } else if (error.code === 'FAILED_PRECONDITION') {
          this.met.wentBack += 1;
          await this.#recover();
          mayBeDone = true;
        } else if (error.code === 'RESOURCE_EXHAUSTED') {
          await delay(RETRY_MS);
        } else {
          throw error;
        }
      }
    }
  }

  /**
   * Takes the partition again, above the epoch that the store may have forgotten, and brings back what it
   * lacks.
   */
  async #recover(): Promise<void> {
    const { log, ownership } = this.#stores;
    for (;;) {
      try {
        this.#ownerEpoch = (await ownership.acquire(this.#partition, { above: this.#ownerEpoch })).ownerEpoch;
        const { endOffset } = await log.bounds(this.#partition);
        const missing = this.acknowledged.filter(({ firstOffset }) => firstOffset >= endOffset);
        if (missing.length > 0) {
          await log.append(this.#partition, this.#ownerEpoch, endOffset, missing, this.#durability);
          this.met.appendedAgain += missing.length;
        }
        return;
      } catch (error) {
        if (!(error instanceof BrokerError) || error.code === 'ABORTED') throw error;
        await delay(RETRY_MS);
      }
    }
  }
}
