// Deletes messages that are older than a topic keeps them, or more than it keeps, whatever the acks and
// whatever the clock is set to; then goes on with changes of topics and subscriptions that a failing store
// interrupted. One loop for the broker, a bounded step for one partition at a time.
import { BrokerError } from '../core/errors.ts';
import type { LogStore } from '../ports/log-store.ts';
import type { EngineContext } from './context.ts';
import type { PartitionOwner } from './log/partition-owner.ts';
import type { TopicRuntime } from './topic-runtime.ts';

/**
 * What was dated before this broker had its partition is not deleted for its age while the broker has been
 * running for less than this part of the retention, and at most this long: the clock may not have been put
 * right yet.
 */
const DOUBTED_PART = 0.1;
const MAX_DOUBTED_MS = 600_000;

/** The most chunks looked at, and deleted, in one step. */
const STEP_CHUNKS = 256;

export class RetentionSweeper {
  readonly #log: LogStore;
  readonly #context: EngineContext;
  readonly #topics: () => Iterable<TopicRuntime>;
  readonly #finishChanges: () => Promise<void>;
  #cancelTimer: () => void = () => undefined;
  #sweeping: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(
    log: LogStore,
    context: EngineContext,
    topics: () => Iterable<TopicRuntime>,
    finishChanges: () => Promise<void>,
  ) {
    this.#log = log;
    this.#context = context;
    this.#topics = topics;
    this.#finishChanges = finishChanges;
  }

  start(): void {
    this.#cancelTimer = this.#context.clock.setTimer(this.#context.limits.retentionSweepMs, () => {
      this.#sweeping = this.sweep()
        .then(this.#finishChanges)
        .then(() => {
          if (!this.#stopped) this.start();
        });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer();
    await this.#sweeping;
  }

  /** One round over all partitions that are owned here. */
  async sweep(): Promise<void> {
    this.#context.steady.look();
    for (const topic of [...this.#topics()]) {
      for (const owner of topic.partitions.owners()) {
        try {
          while (!this.#stopped && !owner.closed && (await this.#step(topic, owner)));
        } catch (error) {
          if (!(error instanceof BrokerError)) throw error;
          // The topic was deleted, or the partition has moved, meanwhile.
          if (owner.closed) continue;
          this.#context.logger.warn(
            { topic: topic.definition.name, reason: error.message },
            'retention has to wait',
          );
        }
      }
    }
  }

  /** Returns whether there may be more to delete. */
  async #step(topic: TopicRuntime, owner: PartitionOwner): Promise<boolean> {
    const { headOffset, endOffset, endByte } = owner.bounds;
    if (headOffset === endOffset) {
      await owner.trimAgain(STEP_CHUNKS);
      return false;
    }
    const { retentionMs, retentionBytesPerPartition } = topic.definition;
    const doubtedMs = Math.min(MAX_DOUBTED_MS, retentionMs * DOUBTED_PART);
    const infos = await this.#log.describe(owner.id, headOffset, STEP_CHUNKS);
    // Either an earlier trim has happened although its outcome was unknown, or what lies there is damaged and
    // goes with what is behind it.
    if ((infos[0]?.firstOffset ?? endOffset) > headOffset && (await owner.findHead())) return false;
    let before = headOffset;
    let due = 0;
    for (const info of infos) {
      // It was written and the owner does not know of it yet: the outcome of that append is still unknown.
      if (info.firstOffset >= endOffset) break;
      const excess = retentionBytesPerPartition > 0 && endByte - info.startByte > retentionBytesPerPartition;
      const isOld = (owner.ageMs(info, doubtedMs) ?? 0) > retentionMs;
      if (!isOld && !excess) break;
      before = info.firstOffset + info.count;
      due += 1;
    }
    if (due === 0) {
      await owner.trimAgain(STEP_CHUNKS);
      return false;
    }
    const more = await owner.trim(before, STEP_CHUNKS);
    this.#context.stats.trimmedChunks += due;
    return more || infos.length === STEP_CHUNKS;
  }
}
