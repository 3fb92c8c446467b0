// Admin.CheckStorage and SkipDamage: from their messages to engine/log/log-check and back. One check runs at
// a time in a broker.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  CheckStorageRequest,
  PartitionCheckSchema,
  SkipDamageRequest,
  SkipDamageResponseSchema,
} from '../../../gen/fanfare/v1/admin_pb.ts';
import type { TopicDefinition } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import { parseProjectName, parseTopicName } from '../../core/names.ts';
import type { Definitions } from '../../engine/definitions/definitions.ts';
import { checkLog, damageAt } from '../../engine/log/log-check.ts';
import { MAX_PAGE_SIZE, READ_BYTES } from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { LogStore } from '../../ports/log-store.ts';

export interface StorageOptions {
  readonly log: LogStore;
  /** What is wrong with the store and what to do about it; empty while it works. */
  readonly conditions: () => readonly string[];
}

export class StorageCheck {
  readonly #options: StorageOptions;
  readonly #definitions: Definitions;
  readonly #clock: Clock;
  #busy = false;

  constructor(options: StorageOptions, definitions: Definitions, clock: Clock) {
    this.#options = options;
    this.#definitions = definitions;
    this.#clock = clock;
  }

  get conditions(): string[] {
    return [...this.#options.conditions()];
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  topicsOf({ parent, topics }: CheckStorageRequest): readonly TopicDefinition[] {
    const project = parseProjectName(parent, 'parent');
    if (topics.length > MAX_PAGE_SIZE)
      throw new BrokerError(
        'INVALID_ARGUMENT',
        `topics has ${topics.length} names: at most ${MAX_PAGE_SIZE}`,
      );
    if (topics.length === 0)
      return [...this.#definitions.topics()].filter(({ name }) => name.startsWith(`${parent}/`));
    return topics.map((name, at) => {
      if (parseTopicName(name, `topics[${at}]`).project !== project)
        throw new BrokerError('INVALID_ARGUMENT', `topics[${at}] is ${name}: must be in ${parent}`);
      return this.#definitions.getTopic(name);
    });
  }

  /** Checks one partition after the other. RESOURCE_EXHAUSTED: a check runs in this broker already. */
  async *run(
    topics: readonly TopicDefinition[],
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof PartitionCheckSchema>> {
    if (this.#busy)
      throw new BrokerError(
        'RESOURCE_EXHAUSTED',
        'this broker checks its storage already: wait for the end of that',
      );
    this.#busy = true;
    try {
      for (const { name: topic, logEpoch, partitions } of topics) {
        for (let partition = 0; partition < partitions && !signal.aborted; partition += 1) {
          const { log } = this.#options;
          const checked = await checkLog(log, { logEpoch, partition }, READ_BYTES, this.#clock, signal);
          yield {
            topic,
            partition,
            headOffset: BigInt(checked.headOffset),
            endOffset: BigInt(checked.endOffset),
            damages: checked.damages.map(({ range, reason, skipped }) => ({
              firstOffset: BigInt(range.firstOffset),
              endOffset: BigInt(range.endOffset),
              reason,
              skipped,
            })),
          };
        }
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Throws NOT_FOUND, FAILED_PRECONDITION, UNAVAILABLE. */
  async skip({
    topic,
    partition,
    offset,
  }: SkipDamageRequest): Promise<MessageInitShape<typeof SkipDamageResponseSchema>> {
    const { logEpoch, partitions } = this.#definitions.getTopic(topic);
    if (partition >= partitions)
      throw new BrokerError('NOT_FOUND', `${topic} has no partition ${partition}: it has ${partitions}`);
    const id = { logEpoch, partition };
    const damage = await damageAt(this.#options.log, id, Number(offset));
    if (damage === undefined || damage.skipped) {
      const why = damage === undefined ? 'nothing is damaged' : 'what is damaged was given up before';
      throw new BrokerError(
        'FAILED_PRECONDITION',
        `${why} in partition ${partition} of ${topic} at offset ${offset}`,
      );
    }
    await this.#options.log.skip(id, damage.range);
    const { firstOffset, endOffset } = damage.range;
    return { firstOffset: BigInt(firstOffset), endOffset: BigInt(endOffset) };
  }
}
