// Between admin-types.ts and the generated messages of admin.proto. It needs protobuf-es, which publishing
// and subscribing do without; so it is for import() at the first administrative call.
import { create, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import type { GenMessage } from '@bufbuild/protobuf/codegenv2';
import {
  type Duration,
  durationFromMs,
  durationMs,
  type Timestamp,
  timestampDate,
} from '@bufbuild/protobuf/wkt';
import * as pb from '../gen/fanfare/v1/admin_pb.ts';
import { Durability as PbDurability } from '../gen/fanfare/v1/message_pb.ts';
import type {
  Backlog,
  DrainReport,
  DrainSettings,
  Durability,
  PartitionBacklog,
  PartitionQuestion,
  SkippedMessages,
  StorageReport,
  SubscriptionInfo,
  SubscriptionSettings,
  TopicInfo,
  TopicSettings,
} from './admin-types.ts';
import { FanfareError } from './errors.ts';

const DURABILITIES: Readonly<Record<Durability, PbDurability>> = {
  default: PbDurability.UNSPECIFIED,
  memory: PbDurability.MEMORY,
  stored: PbDurability.STORED,
  replicated: PbDurability.REPLICATED,
  fsync: PbDurability.FSYNC,
};

export function encodeCreateTopic(name: string, settings: TopicSettings): Buffer {
  return encode(pb.CreateTopicRequestSchema, { topic: topicOf(name, settings) });
}

/** Names only the given settings as changed. */
export function encodeUpdateTopic(name: string, settings: TopicSettings): Buffer {
  const paths: string[] = [];
  if (settings.partitions !== undefined) paths.push('partitions');
  if (settings.retentionMs !== undefined) paths.push('retention');
  if (settings.retentionBytesPerPartition !== undefined) paths.push('retention_bytes_per_partition');
  if (settings.durability !== undefined) paths.push('durability');
  if (settings.minReplicas !== undefined) paths.push('min_replicas');
  if (settings.labels !== undefined) paths.push('labels');
  return encode(pb.UpdateTopicRequestSchema, { topic: topicOf(name, settings), updateMask: { paths } });
}

export function encodeDeleteTopic(name: string, force: boolean): Buffer {
  return encode(pb.DeleteTopicRequestSchema, { name, force });
}

/** The request of GetTopic, GetSubscription and DeleteSubscription: each has a name as its only field. */
export function encodeName(name: string): Buffer {
  return encode(pb.GetTopicRequestSchema, { name });
}

export function encodeListTopics(parent: string, pageToken: string): Buffer {
  return encode(pb.ListTopicsRequestSchema, { parent, pageSize: 1_000, pageToken });
}

export function encodeListSubscriptions(parent: string, topic: string, pageToken: string): Buffer {
  return encode(pb.ListSubscriptionsRequestSchema, { parent, topic, pageSize: 1_000, pageToken });
}

export function encodeCreateSubscription(
  name: string,
  topic: string,
  settings: SubscriptionSettings,
): Buffer {
  return encode(pb.CreateSubscriptionRequestSchema, {
    subscription: {
      name,
      topic,
      ackDeadlineSeconds: settings.ackDeadlineSeconds ?? 0,
      enableMessageOrdering: settings.ordering ?? false,
      start: settings.start === 'earliest' ? pb.StartPosition.EARLIEST : pb.StartPosition.LATEST,
      labels: { ...settings.labels },
    },
  });
}

/** Names only the given settings as changed. */
export function encodeUpdateSubscription(name: string, settings: SubscriptionSettings): Buffer {
  const paths: string[] = [];
  if (settings.ackDeadlineSeconds !== undefined) paths.push('ack_deadline_seconds');
  if (settings.labels !== undefined) paths.push('labels');
  return encode(pb.UpdateSubscriptionRequestSchema, {
    subscription: {
      name,
      ackDeadlineSeconds: settings.ackDeadlineSeconds ?? 0,
      labels: { ...settings.labels },
    },
    updateMask: { paths },
  });
}

export function encodeGetBacklog(parent: string, subscriptions: readonly string[]): Buffer {
  return encode(pb.GetBacklogRequestSchema, { parent, subscriptions: [...subscriptions] });
}

export function encodeWatchBacklog(
  parent: string,
  subscriptions: readonly string[],
  intervalMs: number,
): Buffer {
  return encode(pb.WatchBacklogRequestSchema, {
    parent,
    subscriptions: [...subscriptions],
    interval: durationFromMs(intervalMs),
  });
}

export function encodeGetPartitionBacklog(
  subscription: string,
  { clientId = '', beforeOffsets = [] }: PartitionQuestion,
): Buffer {
  return encode(pb.GetPartitionBacklogRequestSchema, {
    subscription,
    clientId,
    beforeOffsets: beforeOffsets.map(BigInt),
  });
}

export function decodePartitionBacklogs(bytes: Uint8Array): PartitionBacklog[] {
  return fromBinary(pb.GetPartitionBacklogResponseSchema, bytes).partitions.map((backlog) => ({
    partition: backlog.partition,
    endOffset: Number(backlog.endOffset),
    messages: Number(backlog.messages),
    elsewhereMessages: Number(backlog.elsewhereMessages),
  }));
}

/** Reads an answer of CreateTopic, GetTopic or UpdateTopic: each has a topic in field 1. */
export function decodeTopic(bytes: Uint8Array): TopicInfo {
  return topicInfo(fromBinary(pb.GetTopicResponseSchema, bytes).topic ?? create(pb.TopicSchema));
}

export function decodeTopics(bytes: Uint8Array): { items: TopicInfo[]; nextPageToken: string } {
  const { topics, nextPageToken } = fromBinary(pb.ListTopicsResponseSchema, bytes);
  return { items: topics.map(topicInfo), nextPageToken };
}

/** Reads an answer of CreateSubscription, GetSubscription or UpdateSubscription. */
export function decodeSubscription(bytes: Uint8Array): SubscriptionInfo {
  const { subscription } = fromBinary(pb.GetSubscriptionResponseSchema, bytes);
  return subscriptionInfo(subscription ?? create(pb.SubscriptionSchema));
}

export function decodeSubscriptions(bytes: Uint8Array): { items: SubscriptionInfo[]; nextPageToken: string } {
  const { subscriptions, nextPageToken } = fromBinary(pb.ListSubscriptionsResponseSchema, bytes);
  return { items: subscriptions.map(subscriptionInfo), nextPageToken };
}

/** Reads an answer of GetBacklog or WatchBacklog. */
export function decodeBacklogs(bytes: Uint8Array): Backlog[] {
  return fromBinary(pb.GetBacklogResponseSchema, bytes).backlogs.map((backlog) => ({
    subscription: backlog.subscription,
    topic: backlog.topic,
    messages: Number(backlog.messages),
    bytes: Number(backlog.bytes),
    outstandingMessages: Number(backlog.outstandingMessages),
    oldestUnackedAgeMs: backlog.oldestUnackedAge && durationMs(backlog.oldestUnackedAge),
    consumers: backlog.consumers,
    appendedTotal: Number(backlog.appendedTotal),
    deliveredTotal: Number(backlog.deliveredTotal),
    ackedTotal: Number(backlog.ackedTotal),
    redeliveredTotal: Number(backlog.redeliveredTotal),
    expiredByRetentionTotal: Number(backlog.expiredByRetentionTotal),
    measureTime: dateOf(backlog.measureTime),
    consumersWithoutCredit: backlog.consumersWithoutCredit,
    blockedMessages: Number(backlog.blockedMessages),
    activeKeys: backlog.activeKeys,
  }));
}

export function encodeDrainConsumers(subscription: string, settings: DrainSettings): Buffer {
  return encode(pb.DrainConsumersRequestSchema, {
    subscription,
    clientIds: [...(settings.clientIds ?? [])],
    peerAddresses: [...(settings.peerAddresses ?? [])],
    ttl: durationFromMs(settings.ttlMs),
  });
}

export function decodeDrainReport(bytes: Uint8Array): DrainReport {
  const report = fromBinary(pb.DrainConsumersResponseSchema, bytes);
  return {
    consumers: report.consumers.map(({ clientId, peerAddress, streams, outstandingMessages }) => ({
      clientId,
      peerAddress,
      streams,
      outstandingMessages: Number(outstandingMessages),
    })),
    streams: report.streams,
    outstandingMessages: Number(report.outstandingMessages),
  };
}

export function encodeCheckStorage(parent: string, topics: readonly string[]): Buffer {
  return encode(pb.CheckStorageRequestSchema, { parent, topics: [...topics] });
}

export function decodeStorageReport(bytes: Uint8Array): StorageReport {
  const { conditions, partition } = fromBinary(pb.CheckStorageResponseSchema, bytes);
  if (partition === undefined) return { conditions };
  const { topic, headOffset, endOffset, damages } = partition;
  return {
    conditions,
    partition: {
      topic,
      partition: partition.partition,
      headOffset: Number(headOffset),
      endOffset: Number(endOffset),
      damages: damages.map((damage) => ({
        firstOffset: Number(damage.firstOffset),
        endOffset: Number(damage.endOffset),
        reason: damage.reason,
        skipped: damage.skipped,
      })),
    },
  };
}

export function encodeSkipDamage(topic: string, partition: number, offset: number): Buffer {
  return encode(pb.SkipDamageRequestSchema, { topic, partition, offset: BigInt(offset) });
}

export function decodeSkipped(bytes: Uint8Array): SkippedMessages {
  const { firstOffset, endOffset } = fromBinary(pb.SkipDamageResponseSchema, bytes);
  return { firstOffset: Number(firstOffset), endOffset: Number(endOffset) };
}

function topicOf(name: string, settings: TopicSettings) {
  const retention = settings.retentionMs === undefined ? undefined : checkedDuration(settings.retentionMs);
  return {
    name,
    partitions: settings.partitions ?? 0,
    ...(retention && { retention }),
    retentionBytesPerPartition: BigInt(settings.retentionBytesPerPartition ?? 0),
    minReplicas: settings.minReplicas ?? 0,
    durability: DURABILITIES[settings.durability ?? 'default'],
    labels: { ...settings.labels },
  };
}

function topicInfo(topic: pb.Topic): TopicInfo {
  const durability = (Object.keys(DURABILITIES) as Durability[]).find(
    (name) => DURABILITIES[name] === topic.durability,
  );
  return {
    id: idOf(topic.name),
    name: topic.name,
    partitions: topic.partitions,
    retentionMs: topic.retention ? durationMs(topic.retention) : 0,
    retentionBytesPerPartition: Number(topic.retentionBytesPerPartition),
    durability: durability ?? 'default',
    minReplicas: topic.minReplicas,
    labels: topic.labels,
    logEpoch: Number(topic.logEpoch),
    createTime: dateOf(topic.createTime),
  };
}

function subscriptionInfo(subscription: pb.Subscription): SubscriptionInfo {
  return {
    id: idOf(subscription.name),
    name: subscription.name,
    topic: subscription.topic,
    ackDeadlineSeconds: subscription.ackDeadlineSeconds,
    ordering: subscription.enableMessageOrdering,
    start: subscription.start === pb.StartPosition.EARLIEST ? 'earliest' : 'latest',
    labels: subscription.labels,
    incarnation: Number(subscription.incarnation),
    createTime: dateOf(subscription.createTime),
  };
}

function idOf(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

function dateOf(timestamp: Timestamp | undefined): Date | undefined {
  return timestamp && timestampDate(timestamp);
}

function checkedDuration(ms: number): Duration {
  if (Number.isFinite(ms) && ms >= 0) return durationFromMs(Math.round(ms));
  throw new FanfareError('INVALID_ARGUMENT', `retentionMs is ${ms}: give 60,000 (1 minute) to 366 days`);
}

function encode<M extends Message>(
  schema: GenMessage<M>,
  init: Parameters<typeof create<GenMessage<M>>>[1],
): Buffer {
  const bytes = toBinary(schema, create(schema, init));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
