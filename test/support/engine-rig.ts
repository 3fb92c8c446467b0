// One engine, alone on a memory store whose faults the test sets, on virtual time: publish, consume, look at
// the store.
import type { DurabilityLevel } from '../../services/broker/core/definitions.ts';
import type { BrokerError } from '../../services/broker/core/errors.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import { Broker } from '../../services/broker/engine/broker.ts';
import type { EngineLimits } from '../../services/broker/engine/context.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import type { Consumer, ConsumerSink } from '../../services/broker/engine/delivery/consumer.ts';
import type { PublishedRun } from '../../services/broker/engine/routed-batch.ts';
import {
  engineLimits,
  MAX_CONSUMERS_PER_SUBSCRIPTION,
  MAX_RESPONSE_BYTES,
} from '../../services/broker/limits.ts';
import { decodeFrames } from '../sim/received.ts';
import { type FaultyStores, withFaults } from './faulty-store.ts';
import { createSharedMemory, type SharedMemory, type Stores } from './memory-store.ts';
import { LIMITS, requestBytes } from './publish-requests.ts';
import { seededRandom } from './random.ts';
import { VirtualClock } from './virtual-clock.ts';

export const TOPIC = 'projects/p/topics/top';
export const SUBSCRIPTION = 'projects/p/subscriptions/sub';

export interface EngineOptions {
  readonly partitions?: number;
  readonly durability?: DurabilityLevel;
  readonly ordering?: boolean;
  readonly limits?: Partial<EngineLimits>;
  readonly retentionMs?: number;
  readonly retentionBytesPerPartition?: number;
  /** See BrokerOptions. */
  readonly mayServe?: () => boolean;
  /** An engine that was stopped: the new one goes on with its store and its time. */
  readonly after?: EngineRig;
  /** Puts something between the engine and the store with its faults. */
  readonly between?: (stores: Stores) => Stores;
}

export type Outcome = PublishedRun[] | BrokerError;

export interface EngineRig {
  readonly clock: VirtualClock;
  readonly stores: FaultyStores;
  readonly memory: SharedMemory;
  readonly broker: Broker;
  readonly definitions: Definitions;
  /** What the engine has logged, as "level: message". */
  readonly said: string[];
  /** Publishes one message for each text, in one batch; "key:text" has an ordering key. */
  publish(...texts: string[]): Promise<Outcome>;
  /**
   * Joins the subscription and acknowledges what it is given, unless told to keep it. The array fills with
   * what it receives.
   */
  consume(how?: { readonly keep?: boolean }): string[];
}

/** Starts an engine with one topic and one subscription. */
export async function startEngine(options: EngineOptions = {}): Promise<EngineRig> {
  const clock = options.after?.clock ?? new VirtualClock();
  const memory = options.after?.memory ?? createSharedMemory();
  const stores = options.after?.stores ?? withFaults(memory.open('this-broker'), seededRandom(1), clock);
  const used = options.between?.(stores) ?? stores;
  const said: string[] = [];
  const say = (level: string) => (_fields: object, message: string) => void said.push(`${level}: ${message}`);
  const definitions: Definitions = new Definitions({
    store: used.definitions,
    clock,
    durability: { supported: ['memory', 'stored', 'fsync'], default: 'fsync' },
    currentEnds: (topic) => broker.currentEnds(topic),
    audit: () => undefined,
    onWarning: (message) => void said.push(`warn: ${message}`),
  });
  const broker: Broker = new Broker({
    ...used,
    definitions,
    clock,
    random: Math.random,
    limits: { ...engineLimits(1 << 20), ...options.limits },
    logger: { info: say('info'), warn: say('warn'), error: say('error') },
    maxPullBytes: MAX_RESPONSE_BYTES,
    maxConsumersPerSubscription: MAX_CONSUMERS_PER_SUBSCRIPTION,
    ...(options.mayServe && { mayServe: options.mayServe }),
  });
  await definitions.load();
  await broker.start();
  if (options.after === undefined) await define(definitions, options);
  return {
    clock,
    stores,
    memory,
    broker,
    definitions,
    said,
    publish: (...texts) =>
      new Promise((resolve) => {
        const bodies = texts.map((text) => {
          const [key, rest] = text.includes(':') ? text.split(':') : ['', text];
          return { data: Buffer.from(`${rest}|`), attributes: {}, orderingKey: key! };
        });
        broker.publish(TOPIC, parsePublish(requestBytes(TOPIC, bodies), LIMITS), resolve, resolve);
      }),
    consume: ({ keep = false } = {}) => {
      const received: string[] = [];
      let consumer: Consumer | undefined;
      const sink: ConsumerSink = {
        writable: true,
        deliver({ frames }) {
          for (const { identity, logEpoch, partition, offset } of decodeFrames(frames)) {
            received.push(identity);
            if (keep) continue;
            const operation = {
              kind: 'ack',
              seconds: 0,
              logEpoch,
              partition,
              first: offset,
              last: offset,
            } as const;
            clock.defer(() => consumer?.settle({ operations: [operation] }));
          }
        },
        close: () => undefined,
      };
      const credit = {
        maxOutstandingMessages: 1_000,
        maxOutstandingBytes: 1 << 20,
        ackDeadlineMs: undefined,
      };
      consumer = broker.subscribe(SUBSCRIPTION, sink, credit);
      return received;
    },
  };
}

/** Puts itself between an engine and its store, and keeps appends until they are let go. */
export function heldAppends(): {
  readonly between: (stores: Stores) => Stores;
  readonly letGo: () => void;
} {
  const { promise, resolve } = Promise.withResolvers<void>();
  const between = (stores: Stores): Stores => ({
    ...stores,
    log: {
      ...stores.log,
      async append(...args) {
        await promise;
        return stores.log.append(...args);
      },
    },
  });
  return { between, letGo: resolve };
}

async function define(definitions: Definitions, options: EngineOptions): Promise<void> {
  const { partitions = 1, durability, ordering = false, retentionMs, retentionBytesPerPartition } = options;
  await definitions.createTopic('tester', {
    name: TOPIC,
    partitions,
    ...(durability && { durability }),
    ...(retentionMs && { retentionMs }),
    ...(retentionBytesPerPartition && { retentionBytesPerPartition }),
  });
  await definitions.createSubscription('tester', {
    name: SUBSCRIPTION,
    topic: TOPIC,
    ordering,
    start: 'earliest',
  });
}
