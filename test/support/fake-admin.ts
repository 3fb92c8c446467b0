// The admin half of fake-broker.ts, and the state that both halves share.
import { type Message as AnyMessage, create } from '@bufbuild/protobuf';
import { timestampNow } from '@bufbuild/protobuf/wkt';
import { type handleServerStreamingCall, type ServerDuplexStream, status } from '@grpc/grpc-js';
import * as admin from '../../services/gen/fanfare/v1/admin_pb.ts';
import type { Message } from '../../services/gen/fanfare/v1/message_pb.ts';
import type * as subscriber from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { type Handler, unary } from './grpc-service.ts';

export type SubscribeCall = ServerDuplexStream<subscriber.SubscribeRequest, subscriber.SubscribeResponse>;

export interface Stored {
  readonly message: Message;
  readonly partition: number;
  /** Offset in the topic: a fake counts over all partitions. */
  readonly offset: number;
}

/** One delivery state per message of a subscription, in offset order. */
export interface FakeSubscription {
  readonly definition: admin.Subscription;
  readonly acked: Set<number>;
  /** The stream that holds each leased message; undefined: nobody does, until its deadline. */
  readonly leased: Map<number, SubscribeCall | undefined>;
  readonly attempts: Map<number, number>;
  readonly consumers: Map<SubscribeCall, FakeConsumer>;
}

export interface FakeConsumer {
  maxMessages: number;
  readonly clientId: string;
  /** host:port of the broker from whose partitions alone it wants messages; undefined: from all. */
  readonly ownedBy: string | undefined;
}

export interface FakeTopic {
  readonly definition: admin.Topic;
  readonly log: Stored[];
  /** host:port of each partition's owner, by partition; '' for nobody. */
  routes: readonly string[];
  readonly watchers: Set<() => void>;
}

export interface FakeState {
  readonly topics: Map<string, FakeTopic>;
  readonly subscriptions: Map<string, FakeSubscription>;
  loseAnswers: number;
  nextEpoch(): bigint;
  addSubscription(definition: admin.Subscription): void;
}

export function adminHandlers(state: FakeState): Record<string, Handler> {
  /** A call that changes something: it is carried out, but its answer may get lost. */
  const change = <Request extends AnyMessage>(answer: (request: Request) => AnyMessage) =>
    unary<Request>((request) => {
      const answered = answer(request);
      if (state.loseAnswers <= 0) return answered;
      state.loseAnswers -= 1;
      throw { code: status.UNAVAILABLE, details: 'told to lose the answer' };
    });
  const notFound = (name: string) => ({ code: status.NOT_FOUND, details: `${name} does not exist` });
  return {
    createTopic: change<admin.CreateTopicRequest>(({ topic }) => {
      if (state.topics.has(topic!.name))
        throw { code: status.ALREADY_EXISTS, details: `${topic!.name} exists` };
      topic!.partitions ||= 4;
      topic!.logEpoch = state.nextEpoch();
      topic!.createTime = timestampNow();
      state.topics.set(topic!.name, { definition: topic!, log: [], routes: [], watchers: new Set() });
      return create(admin.CreateTopicResponseSchema, { topic: topic! });
    }),
    getTopic: unary<admin.GetTopicRequest>(({ name }) => {
      const topic = state.topics.get(name);
      if (topic === undefined) throw notFound(name);
      return create(admin.GetTopicResponseSchema, { topic: topic.definition });
    }),
    listTopics: unary<admin.ListTopicsRequest>(() =>
      create(admin.ListTopicsResponseSchema, {
        topics: [...state.topics.values()].map((t) => t.definition),
      }),
    ),
    updateTopic: unary<admin.UpdateTopicRequest>(({ topic, updateMask }) => {
      const known = state.topics.get(topic!.name);
      if (known === undefined) throw notFound(topic!.name);
      if (updateMask?.paths.includes('partitions')) known.definition.partitions = topic!.partitions;
      if (updateMask?.paths.includes('labels')) known.definition.labels = topic!.labels;
      return create(admin.UpdateTopicResponseSchema, { topic: known.definition });
    }),
    deleteTopic: change<admin.DeleteTopicRequest>(({ name }) => {
      if (!state.topics.delete(name)) throw notFound(name);
      return create(admin.DeleteTopicResponseSchema);
    }),
    createSubscription: change<admin.CreateSubscriptionRequest>(({ subscription }) => {
      if (!state.topics.has(subscription!.topic)) throw notFound(subscription!.topic);
      subscription!.ackDeadlineSeconds ||= 10;
      subscription!.createTime = timestampNow();
      state.addSubscription(subscription!);
      return create(admin.CreateSubscriptionResponseSchema, { subscription: subscription! });
    }),
    getSubscription: unary<admin.GetSubscriptionRequest>(({ name }) => {
      const known = state.subscriptions.get(name);
      if (known === undefined) throw notFound(name);
      return create(admin.GetSubscriptionResponseSchema, { subscription: known.definition });
    }),
    listSubscriptions: unary<admin.ListSubscriptionsRequest>(() =>
      create(admin.ListSubscriptionsResponseSchema, {
        subscriptions: [...state.subscriptions.values()].map((s) => s.definition),
      }),
    ),
    updateSubscription: unary<admin.UpdateSubscriptionRequest>(({ subscription, updateMask }) => {
      const known = state.subscriptions.get(subscription!.name);
      if (known === undefined) throw notFound(subscription!.name);
      if (updateMask?.paths.includes('ack_deadline_seconds')) {
        known.definition.ackDeadlineSeconds = subscription!.ackDeadlineSeconds;
      }
      return create(admin.UpdateSubscriptionResponseSchema, { subscription: known.definition });
    }),
    deleteSubscription: change<admin.DeleteSubscriptionRequest>(({ name }) => {
      if (!state.subscriptions.delete(name)) throw notFound(name);
      return create(admin.DeleteSubscriptionResponseSchema);
    }),
    getBacklog: unary<admin.GetBacklogRequest>(({ subscriptions }) =>
      create(admin.GetBacklogResponseSchema, { backlogs: backlogsOf(state, subscriptions) }),
    ),
    getPartitionBacklog: unary<admin.GetPartitionBacklogRequest>((request) =>
      create(admin.GetPartitionBacklogResponseSchema, { partitions: partitionsOf(state, request) }),
    ),
    watchBacklog: ((call) => {
      const { subscriptions } = call.request as admin.WatchBacklogRequest;
      call.write(create(admin.WatchBacklogResponseSchema, { backlogs: backlogsOf(state, subscriptions) }));
      const timer = setInterval(
        () =>
          call.write(
            create(admin.WatchBacklogResponseSchema, { backlogs: backlogsOf(state, subscriptions) }),
          ),
        100,
      );
      call.on('cancelled', () => clearInterval(timer));
    }) satisfies handleServerStreamingCall<AnyMessage, AnyMessage>,
  };
}

function partitionsOf(
  state: FakeState,
  { subscription, clientId, beforeOffsets }: admin.GetPartitionBacklogRequest,
) {
  const known = state.subscriptions.get(subscription);
  if (known === undefined) throw { code: status.NOT_FOUND, details: `${subscription} does not exist` };
  const { acked, leased, consumers, definition } = known;
  const { log, definition: topic } = state.topics.get(definition.topic)!;
  return Array.from({ length: topic.partitions }, (_, partition) => {
    const before = Number(beforeOffsets[partition] ?? log.length);
    const left = log.filter(
      (stored) => stored.partition === partition && stored.offset < before && !acked.has(stored.offset),
    );
    const elsewhere = left.filter(({ offset }) => {
      const holder = leased.get(offset);
      return leased.has(offset) && (holder === undefined || consumers.get(holder)?.clientId !== clientId);
    });
    return {
      partition,
      endOffset: BigInt(log.length),
      messages: BigInt(left.length),
      elsewhereMessages: BigInt(elsewhere.length),
    };
  });
}

function backlogsOf(state: FakeState, names: readonly string[]) {
  return [...state.subscriptions.values()]
    .filter(({ definition }) => names.length === 0 || names.includes(definition.name))
    .map(({ definition, acked, leased, attempts, consumers }) => ({
      subscription: definition.name,
      topic: definition.topic,
      messages: BigInt((state.topics.get(definition.topic)?.log.length ?? 0) - acked.size),
      outstandingMessages: BigInt(leased.size),
      consumers: consumers.size,
      deliveredTotal: BigInt([...attempts.values()].reduce((sum, attempt) => sum + attempt, 0)),
      ackedTotal: BigInt(acked.size),
      measureTime: timestampNow(),
    }));
}
