// Several engines over one memory store, linked to each other, with routes that the test sets: what a cluster
// is without its membership. For tests of relays and links, on virtual time or on real connections.
import { fromBinary } from '@bufbuild/protobuf';
import type { SubscriptionDefinition } from '../../services/broker/core/definitions.ts';
import type { BrokerError } from '../../services/broker/core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import { hashOfKey, parsePublish } from '../../services/broker/core/publish-batch.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import { Broker } from '../../services/broker/engine/broker.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import type { BacklogReporter } from '../../services/broker/engine/delivery/backlog-types.ts';
import type { Consumer, ConsumerSink } from '../../services/broker/engine/delivery/consumer.ts';
import type { DeliveredMessages } from '../../services/broker/engine/delivery/delivered-messages.ts';
import type { ConsumerDrain } from '../../services/broker/engine/delivery/draining-consumers.ts';
import { ClusterLinks } from '../../services/broker/engine/links/cluster-links.ts';
import type { OwnerLinks } from '../../services/broker/engine/links/owner/owner-links.ts';
import type { Relay } from '../../services/broker/engine/links/relay/relay.ts';
import type { Route, Routes } from '../../services/broker/engine/membership/routes.ts';
import { engineLimits, PUBLISH_LIMITS } from '../../services/broker/limits.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { PeerConnector } from '../../services/broker/ports/peer.ts';
import { SubscribeResponseSchema } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { type ClusterStores, createSharedMemory, type SharedMemory } from './memory-store.ts';
import { requestBytes } from './publish-requests.ts';

export const PROJECT = 'projects/p';
export const TOPIC = `${PROJECT}/topics/orders`;

/** The place of each partition, as the test says, the same for all. */
export class TestRoutes {
  readonly #members = new Map<string, Route>();
  readonly #targets = new Map<string, string>();
  readonly #listeners = new Set<() => void>();
  #version = 0;

  add(memberId: string, address: string): void {
    this.#members.set(memberId, { memberId, name: memberId, address, version: 0 });
  }

  remove(memberId: string): void {
    this.#members.delete(memberId);
    this.changed();
  }

  set(id: PartitionId, memberId: string): void {
    this.#version += 1;
    this.#targets.set(formatPartitionId(id), memberId);
    this.changed();
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  of(selfId: string): Routes {
    return {
      selfId,
      targetOf: (id) => {
        const member = this.#members.get(this.#targets.get(formatPartitionId(id)) ?? '');
        return member && { ...member, version: this.#version };
      },
      members: () => [...this.#members.values()],
      onChange: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }
}

export interface NodeOptions {
  readonly id: string;
  readonly clock: Clock;
  readonly memory: SharedMemory;
  readonly routes: TestRoutes;
  readonly connector: PeerConnector;
}

/** One broker without a transport for clients. */
export class RelayNode {
  readonly id: string;
  readonly clock: Clock;
  readonly stores: ClusterStores;
  readonly definitions: Definitions;
  readonly broker: Broker;
  readonly relay: Relay;
  readonly peers: OwnerLinks;
  readonly backlog: BacklogReporter;
  readonly draining: ConsumerDrain;
  readonly logs: string[] = [];

  constructor({ id, clock, memory, routes, connector }: NodeOptions) {
    this.id = id;
    this.clock = clock;
    this.stores = memory.open(id);
    const say = (fields: object, message: string): void => {
      this.logs.push(`${message} ${JSON.stringify(fields)}`);
    };
    this.definitions = new Definitions({
      store: this.stores.definitions,
      clock,
      durability: { supported: ['stored'], default: 'stored' },
      currentEnds: (topic) => this.broker.currentEnds(topic),
      audit: () => {},
      onWarning: (message) => say({}, message),
    });
    this.broker = new Broker({
      ...this.stores,
      definitions: this.definitions,
      clock,
      random: Math.random,
      limits: engineLimits(64 * 1024 * 1024),
      logger: { info: say, warn: say, error: say },
      maxPullBytes: 3 * 1024 * 1024,
      maxConsumersPerSubscription: 200,
    });
    const links = new ClusterLinks({
      connector,
      routes: routes.of(id),
      host: this.broker,
      topics: () => this.definitions.topics(),
      maxConsumersPerSubscription: 200,
    });
    this.relay = links.relay;
    this.peers = links.owner;
    this.backlog = links.backlog;
    this.draining = links.draining;
  }

  async start(): Promise<void> {
    await this.definitions.load();
    await this.broker.start(this.relay);
  }

  async own(id: PartitionId): Promise<void> {
    await this.broker.partitions.own(id, await this.stores.ownership.acquire(id));
  }

  /** Resolves when the messages are stored. */
  publish(messages: readonly { data: string; key?: string }[], topic = TOPIC): Promise<void> {
    const records = messages.map(({ data, key = '' }) => ({ data: Buffer.from(data), orderingKey: key }));
    const batch = parsePublish(requestBytes('', records), PUBLISH_LIMITS);
    return new Promise((resolve, reject) => {
      this.broker.publish(topic, batch, () => resolve(), reject);
    });
  }

  subscribe(subscription: string, options: TestConsumerOptions = {}): TestConsumer {
    return new TestConsumer(this, `${PROJECT}/subscriptions/${subscription}`, options);
  }

  async createTopic(partitions: number, topic = TOPIC): Promise<PartitionId[]> {
    const { logEpoch } = await this.definitions.createTopic('test', { name: topic, partitions });
    return Array.from({ length: partitions }, (_, partition) => ({ logEpoch, partition }));
  }

  async createSubscription(name: string, ordering = false, ackDeadlineMs = 10_000): Promise<void> {
    await this.definitions.createSubscription('test', {
      name: `${PROJECT}/subscriptions/${name}`,
      topic: TOPIC,
      ordering,
      start: 'earliest',
      ackDeadlineMs,
    });
  }
}

export interface TestConsumerOptions {
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  readonly clientId?: string;
  readonly address?: string;
  readonly ownedOnly?: boolean;
  readonly resumes?: boolean;
  /** It does not acknowledge by itself. */
  readonly manual?: boolean;
  /** It takes nothing. */
  readonly blocked?: boolean;
}

export interface TestMessage {
  readonly data: string;
  readonly key: string;
  readonly partition: PartitionId;
  readonly offset: number;
  readonly attempt: number;
}

/** A client's stream, straight at the engine. */
export class TestConsumer implements ConsumerSink {
  readonly messages: TestMessage[] = [];
  /** What it was told of its subscription, with how many messages it had by then. */
  readonly described: {
    readonly ackDeadlineMs: number;
    readonly incarnation: number;
    readonly at: number;
  }[] = [];
  readonly consumer: Consumer;
  readonly hash: number;
  readonly #manual: boolean;
  blocked: boolean;
  ended: BrokerError | undefined;
  outstanding = 0;
  mostOutstanding = 0;

  constructor(node: RelayNode, subscription: string, options: TestConsumerOptions) {
    this.#manual = options.manual ?? false;
    this.blocked = options.blocked ?? false;
    const client = Buffer.from(options.clientId ?? '');
    this.hash = client.length === 0 ? 0 : hashOfKey(client, 0, client.length);
    this.consumer = node.broker.subscribe(
      subscription,
      this,
      {
        maxOutstandingMessages: options.maxMessages ?? 1_000,
        maxOutstandingBytes: options.maxBytes ?? 64 * 1024 * 1024,
        ackDeadlineMs: undefined,
      },
      {
        ownedOnly: options.ownedOnly ?? false,
        resumes: options.resumes ?? false,
        origin: { clientId: options.clientId ?? '', peerAddress: options.address ?? '' },
      },
    );
  }

  get writable(): boolean {
    return !this.blocked && this.ended === undefined;
  }

  deliver({ frames, messages: count }: DeliveredMessages): void {
    if (!this.writable) throw new Error('given something although it can take nothing');
    const { receivedMessages } = fromBinary(SubscribeResponseSchema, frames);
    if (receivedMessages.length !== count) throw new Error('the frames are not what was announced');
    const fresh: TestMessage[] = receivedMessages.map(({ ackId, message, deliveryAttempt }) => {
      const [id = '', offset = ''] = ackId.split('-');
      const [logEpoch = '', partition = ''] = id.split('.');
      return {
        data: Buffer.from(message!.data).toString(),
        key: message!.orderingKey,
        partition: { logEpoch: Number(logEpoch), partition: Number(partition) },
        offset: Number(offset),
        attempt: deliveryAttempt || 1,
      };
    });
    this.messages.push(...fresh);
    this.outstanding += fresh.length;
    this.mostOutstanding = Math.max(this.mostOutstanding, this.outstanding);
    // The ack does not come from within the delivery: a client answers later.
    if (!this.#manual) queueMicrotask(() => this.ack(fresh));
  }

  describe({ ackDeadlineMs, incarnation }: SubscriptionDefinition): void {
    this.described.push({ ackDeadlineMs, incarnation, at: this.messages.length });
  }

  close(error: BrokerError): void {
    this.ended = error;
  }

  unblock(): void {
    this.blocked = false;
    this.consumer.pump();
  }

  ack(messages: readonly TestMessage[]): void {
    this.#settle('ack', messages);
    this.outstanding -= messages.length;
  }

  nack(messages: readonly TestMessage[]): void {
    this.#settle('nack', messages);
    this.outstanding -= messages.length;
  }

  get data(): string[] {
    return this.messages.map(({ data }) => data);
  }

  #settle(kind: 'ack' | 'nack', messages: readonly TestMessage[]): void {
    if (this.ended !== undefined) return;
    this.consumer.settle({ operations: messages.map((message) => operationOf(kind, message)) });
  }
}

export function operationOf(
  kind: SettleOperation['kind'],
  { partition, offset }: TestMessage,
  seconds = 0,
): SettleOperation {
  return { kind, ...partition, first: offset, last: offset, seconds };
}

/**
 * Moves a partition as the keepers do: the target is told to everybody, the former owner hands over, the new
 * one opens.
 */
export async function move(
  routes: TestRoutes,
  id: PartitionId,
  from: RelayNode,
  to: RelayNode,
  between: () => Promise<void> = async () => {},
): Promise<void> {
  routes.set(id, to.id);
  const { ownerEpoch, note } = await from.broker.partitions.handOver(id);
  await from.stores.ownership.release(id, ownerEpoch, note);
  await between();
  await to.own(id);
}

export { createSharedMemory };
