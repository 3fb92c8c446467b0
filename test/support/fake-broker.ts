// A broker in memory, over real mutual TLS, for tests of the client and the CLI: just enough of the API, with
// knobs for refusing, breaking off and not answering. What it does by itself follows the proto comments.

import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampNow } from '@bufbuild/protobuf/wkt';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerWritableStream,
  status,
} from '@grpc/grpc-js';
import {
  type DevelopmentCertificates,
  ensureDevelopmentCertificates,
} from '../../services/certs/development.ts';
import { partitionOfKey } from '../../services/client/partitioning.ts';
import * as admin from '../../services/gen/fanfare/v1/admin_pb.ts';
import * as cluster from '../../services/gen/fanfare/v1/cluster_pb.ts';
import { type Message, type MessageRange, MessageSchema } from '../../services/gen/fanfare/v1/message_pb.ts';
import * as publisher from '../../services/gen/fanfare/v1/publisher_pb.ts';
import * as routing from '../../services/gen/fanfare/v1/routing_pb.ts';
import * as subscriber from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import {
  adminHandlers,
  type FakeState,
  type FakeSubscription,
  type FakeTopic,
  type SubscribeCall,
} from './fake-admin.ts';
import { service, unary } from './grpc-service.ts';

type WatchCall = ServerWritableStream<routing.WatchRoutesRequest, routing.WatchRoutesResponse>;
type PublishCall = ServerDuplexStream<publisher.PublishStreamRequest, publisher.PublishStreamResponse>;

/**
 * What to do with a publish request instead of storing it. `lose`: store it, then break the stream without an
 * answer.
 */
export type PublishVerdict =
  | { readonly refuse: status; readonly message: string; readonly messageIndex?: number }
  | 'break'
  | 'lose'
  | 'ignore'
  | undefined;

export class FakeBroker implements FakeState {
  topics = new Map<string, FakeTopic>();
  subscriptions = new Map<string, FakeSubscription>();
  /** Every publish request that arrived, stored or not. */
  readonly publishRequests: publisher.PublishStreamRequest[] = [];
  /** Every subscribe request that arrived. */
  readonly subscribeRequests: subscriber.SubscribeRequest[] = [];
  /** Decides about each publish request. */
  onPublish: (request: publisher.PublishStreamRequest, call: PublishCall) => PublishVerdict = () => undefined;
  /** Whether a topic that was named in a refused request is forgotten, as older brokers did. */
  forgetsTopics = false;
  /** What GetCluster says; without include_partitions it leaves the partitions out. */
  cluster = create(cluster.GetClusterResponseSchema);
  readonly drainRequests: cluster.DrainBrokerRequest[] = [];
  /** How many of the next unary calls that change something are carried out but answered with UNAVAILABLE. */
  loseAnswers = 0;
  /** Whether settles in later requests of consumers get lost on the way. */
  losesSettles = false;
  /** Whether it answers WatchRoutes; false: UNIMPLEMENTED. */
  hasRouting = true;
  address = '';
  certificates!: DevelopmentCertificates;
  #directory = '';
  #server: Server | undefined;
  #nextEpoch = 1n;

  /** `beside` is another broker of the same cluster, with the same topics, subscriptions and CA. */
  static async start(beside?: FakeBroker): Promise<FakeBroker> {
    const broker = new FakeBroker();
    if (beside !== undefined) {
      broker.topics = beside.topics;
      broker.subscriptions = beside.subscriptions;
      broker.certificates = beside.certificates;
      await broker.listen(0);
      return broker;
    }
    broker.#directory = await mkdtemp(join(tmpdir(), 'fanfare-fake-'));
    broker.certificates = await ensureDevelopmentCertificates(broker.#directory);
    await broker.listen(0);
    return broker;
  }

  /** Options for connect(). */
  get connectOptions() {
    const { ca, clientCert, clientKey } = this.certificates;
    return { address: this.address, tls: { ca, cert: clientCert, key: clientKey } };
  }

  /** The folder that holds the certificates. */
  get directory(): string {
    return this.#directory;
  }

  async listen(port: number, host = '127.0.0.1'): Promise<void> {
    const server = new Server();
    server.addService(
      ...service(publisher.Publisher, { publishStream: (call: PublishCall) => this.#publishStream(call) }),
    );
    server.addService(
      ...service(subscriber.Subscriber, {
        subscribe: (call: SubscribeCall) => this.#subscribe(call),
        acknowledge: unary<subscriber.AcknowledgeRequest>(({ subscription, ackRanges }) => {
          const { acked } = this.subscriptions.get(subscription)!;
          for (const offset of offsetsOf(ackRanges)) acked.add(offset);
          return create(subscriber.AcknowledgeResponseSchema);
        }),
      }),
    );
    server.addService(...service(admin.Admin, adminHandlers(this)));
    server.addService(
      ...service(cluster.Cluster, {
        getCluster: unary<cluster.GetClusterRequest>(({ includePartitions }) =>
          includePartitions ? this.cluster : { ...this.cluster, partitions: [] },
        ),
        drainBroker: unary<cluster.DrainBrokerRequest>((request) => {
          this.drainRequests.push(request);
          if (this.cluster.brokers.some(({ name }) => name === request.name))
            return create(cluster.DrainBrokerResponseSchema);
          throw { code: status.NOT_FOUND, details: `no living broker is named "${request.name}"` };
        }),
      }),
    );
    server.addService(
      ...service(routing.Routing, { watchRoutes: (call: WatchCall) => this.#watchRoutes(call) }),
    );
    const { ca, serverCert, serverKey } = this.certificates;
    const pair = { private_key: readFileSync(serverKey), cert_chain: readFileSync(serverCert) };
    const bound = await new Promise<number>((resolve, reject) => {
      server.bindAsync(
        `${host}:${port}`,
        ServerCredentials.createSsl(readFileSync(ca), [pair], true),
        (error, at) => (error ? reject(error) : resolve(at)),
      );
    });
    this.#server = server;
    this.address = `${host}:${bound}`;
  }

  /** Drops all connections and stops listening; listen(port) comes back with everything that was stored. */
  kill(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  get port(): number {
    return Number(this.address.split(':')[1]);
  }

  async stop(): Promise<void> {
    this.kill();
    if (this.#directory !== '') await rm(this.#directory, { recursive: true, force: true });
  }

  nextEpoch(): bigint {
    return this.#nextEpoch++;
  }

  createTopic(id: string, partitions = 1): void {
    const name = `projects/default/topics/${id}`;
    const definition = create(admin.TopicSchema, {
      name,
      partitions,
      logEpoch: this.nextEpoch(),
      createTime: timestampNow(),
    });
    this.topics.set(name, { definition, log: [], routes: [], watchers: new Set() });
  }

  /** Sets who owns each partition from now on. Watchers are told; consumers get what is now theirs. */
  setRoutes(id: string, owners: readonly (FakeBroker | undefined)[]): void {
    const name = `projects/default/topics/${id}`;
    const topic = this.topics.get(name)!;
    topic.routes = owners.map((owner) => owner?.address ?? '');
    for (const tell of topic.watchers) tell();
    this.#deliverAll(name);
  }

  createSubscription(id: string, topic: string, ordering = false): void {
    const name = `projects/default/subscriptions/${id}`;
    const definition = create(admin.SubscriptionSchema, {
      name,
      topic: `projects/default/topics/${topic}`,
      ackDeadlineSeconds: 10,
      enableMessageOrdering: ordering,
      createTime: timestampNow(),
    });
    this.addSubscription(definition);
  }

  /** Stores a message at once, as if another publisher had sent it, and delivers it. */
  store(topicId: string, text: string, orderingKey = ''): void {
    const name = `projects/default/topics/${topicId}`;
    this.#append(this.topics.get(name)!, create(MessageSchema, { data: Buffer.from(text), orderingKey }));
    this.#deliverAll(name);
  }

  /** The payloads of a topic, as text, in order. */
  stored(topic: string): string[] {
    const { log } = this.topics.get(`projects/default/topics/${topic}`)!;
    return log.map((entry) => Buffer.from(entry.message.data).toString());
  }

  acked(subscription: string): number[] {
    return [...this.subscriptions.get(`projects/default/subscriptions/${subscription}`)!.acked].sort(
      (a, b) => a - b,
    );
  }

  /**
   * Ends all streams of a subscription with a status. With keepLeases what is outstanding stays leased, to
   * nobody.
   */
  breakSubscribers(
    subscription: string,
    code: status,
    details = 'told to by the test',
    { keepLeases = false } = {},
  ): void {
    const { consumers, leased } = this.subscriptions.get(`projects/default/subscriptions/${subscription}`)!;
    const metadata = new Metadata();
    if (keepLeases) metadata.set('fanfare-leases', 'kept');
    for (const call of [...consumers.keys()]) {
      if (keepLeases) for (const offset of leased.keys()) leased.set(offset, undefined);
      call.emit('error', { code, details, metadata });
    }
  }

  addSubscription(definition: admin.Subscription): void {
    this.subscriptions.set(definition.name, {
      definition,
      acked: new Set(),
      leased: new Map(),
      attempts: new Map(),
      consumers: new Map(),
    });
  }

  #publishStream(call: PublishCall): void {
    let topicName = '';
    call.on('error', () => {});
    call.on('end', () => call.end());
    call.on('data', (request: publisher.PublishStreamRequest) => {
      const before = topicName;
      topicName = request.topic || topicName;
      this.publishRequests.push(request);
      const verdict = this.onPublish(request, call);
      if (verdict === 'ignore') return;
      if (verdict === 'break') {
        call.emit('error', { code: status.UNAVAILABLE, details: 'told to break off' });
        return;
      }
      const { requestId } = request;
      const topic = this.topics.get(topicName);
      const refusal =
        typeof verdict === 'object'
          ? { code: verdict.refuse, message: verdict.message, messageIndex: verdict.messageIndex }
          : topic === undefined
            ? { code: status.NOT_FOUND, message: `no topic ${topicName}` }
            : undefined;
      if (refusal !== undefined || topic === undefined) {
        if (this.forgetsTopics) topicName = before;
        call.write(create(publisher.PublishStreamResponseSchema, { requestId, error: refusal! }));
        return;
      }
      const firstOffset = topic.log.length;
      for (const message of request.messages) this.#append(topic, message);
      this.#deliverAll(topicName);
      if (verdict === 'lose') {
        call.emit('error', { code: status.UNAVAILABLE, details: 'told to lose the answer' });
        return;
      }
      call.write(
        create(publisher.PublishStreamResponseSchema, {
          requestId,
          logEpoch: topic.definition.logEpoch,
          runs: [{ partition: 0, firstOffset: BigInt(firstOffset), count: request.messages.length }],
        }),
      );
    });
  }

  #subscribe(call: SubscribeCall): void {
    let subscription: FakeSubscription | undefined;
    const leave = () => {
      if (subscription === undefined || !subscription.consumers.delete(call)) return;
      for (const [offset, holder] of subscription.leased) {
        if (holder === call) subscription.leased.delete(offset);
      }
      this.#deliver(subscription);
    };
    call.on('error', leave);
    call.on('cancelled', leave);
    call.on('end', () => {
      leave();
      call.end();
    });
    call.on('data', (request: subscriber.SubscribeRequest) => {
      this.subscribeRequests.push(request);
      if (subscription === undefined) {
        subscription = this.subscriptions.get(request.subscription);
        if (subscription === undefined) {
          call.emit('error', { code: status.NOT_FOUND, details: `no subscription ${request.subscription}` });
          return;
        }
        subscription.consumers.set(call, {
          maxMessages: Number(request.maxOutstandingMessages),
          clientId: request.clientId,
          ownedBy: request.ownedOnly ? this.address : undefined,
        });
      } else if (request.maxOutstandingMessages > 0n) {
        subscription.consumers.get(call)!.maxMessages = Number(request.maxOutstandingMessages);
      }
      if (request.takesNoMore) subscription.consumers.get(call)!.maxMessages = 0;
      if (this.losesSettles) return;
      for (const offset of offsetsOf(request.ackRanges)) {
        subscription.acked.add(offset);
        subscription.leased.delete(offset);
      }
      for (const offset of offsetsOf(request.nackRanges)) subscription.leased.delete(offset);
      this.#deliver(subscription);
    });
  }

  #watchRoutes(call: WatchCall): void {
    if (!this.hasRouting) {
      call.emit('error', { code: status.UNIMPLEMENTED, details: 'no routes here' });
      return;
    }
    const topic = this.topics.get(call.request.topic);
    if (topic === undefined) {
      call.emit('error', { code: status.NOT_FOUND, details: `no topic ${call.request.topic}` });
      return;
    }
    const tell = () => {
      const routes = topic.routes.map((address, partition) => ({ partition, address }));
      call.write(create(routing.WatchRoutesResponseSchema, { routes }));
    };
    topic.watchers.add(tell);
    call.on('cancelled', () => topic.watchers.delete(tell));
    tell();
  }

  #append({ definition, log }: FakeTopic, message: Message): void {
    const { orderingKey } = message;
    const partition = orderingKey === '' ? 0 : partitionOfKey(orderingKey, definition.partitions);
    message.publishTime = timestampNow();
    message.messageId = `${definition.logEpoch}.${partition}-${log.length}`;
    log.push({ message, partition, offset: log.length });
  }

  #deliverAll(topic: string): void {
    for (const subscription of this.subscriptions.values()) {
      if (subscription.definition.topic === topic) this.#deliver(subscription);
    }
  }

  /** Leases what is free to the first consumer that has credit. */
  #deliver(subscription: FakeSubscription): void {
    const topic = this.topics.get(subscription.definition.topic);
    if (topic === undefined) return;
    for (const [call, { maxMessages, ownedBy }] of subscription.consumers) {
      const outstanding = [...subscription.leased.values()].filter((holder) => holder === call).length;
      const free = topic.log
        .filter(({ offset }) => !subscription.acked.has(offset) && !subscription.leased.has(offset))
        .filter(({ partition }) => ownedBy === undefined || topic.routes[partition] === ownedBy)
        .slice(0, Math.max(0, maxMessages - outstanding));
      if (free.length === 0) continue;
      call.write(
        create(subscriber.SubscribeResponseSchema, {
          receivedMessages: free.map(({ message, partition, offset }) => {
            const attempt = (subscription.attempts.get(offset) ?? 0) + 1;
            subscription.attempts.set(offset, attempt);
            subscription.leased.set(offset, call);
            const place = `${topic.definition.logEpoch}.${partition}-${offset}`;
            return {
              ackId: attempt > 1 ? `${place}-${attempt}` : place,
              message,
              deliveryAttempt: attempt > 1 ? attempt : 0,
            };
          }),
        }),
      );
    }
  }
}

function* offsetsOf(ranges: readonly MessageRange[]): Iterable<number> {
  for (const { firstOffset, lastOffset } of ranges) {
    for (let offset = Number(firstOffset); offset <= Number(lastOffset); offset++) yield offset;
  }
}
