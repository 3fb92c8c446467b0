// admin.proto's messages ↔ our definitions and reports. What a message can say that a definition can't
// (unknown enum numbers, odd durations) is INVALID_ARGUMENT here; ranges are checked by core/definitions.ts.
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Duration, DurationSchema, timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type BacklogSchema,
  type Subscription,
  type SubscriptionSchema,
  type Topic,
  type TopicSchema,
  StartPosition as WireStart,
} from '../../../gen/fanfare/v1/admin_pb.ts';
import { Durability } from '../../../gen/fanfare/v1/message_pb.ts';
import type { BacklogReport } from '../../core/backlog-report.ts';
import type {
  DurabilityLevel,
  StartPosition,
  SubscriptionDefinition,
  SubscriptionInput,
  TopicDefinition,
  TopicInput,
} from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';

export const DURABILITY_BY_LEVEL: Readonly<Record<DurabilityLevel, Durability>> = {
  memory: Durability.MEMORY,
  stored: Durability.STORED,
  replicated: Durability.REPLICATED,
  fsync: Durability.FSYNC,
};

const START_BY_POSITION: Readonly<Record<StartPosition, WireStart>> = {
  latest: WireStart.LATEST,
  earliest: WireStart.EARLIEST,
};

/**
 * A number of 0, an unset enum and an absent duration become undefined; only retentionBytesPerPartition stays
 * 0.
 */
export function topicInput(topic: Topic | undefined): TopicInput {
  if (topic === undefined) throw missing('topic');
  return {
    name: topic.name,
    partitions: topic.partitions || undefined,
    retentionMs: topic.retention && durationMs(topic.retention, 'topic.retention'),
    retentionBytesPerPartition: Number(topic.retentionBytesPerPartition),
    durability: fromEnum(topic.durability, DURABILITY_BY_LEVEL, 'topic.durability'),
    minReplicas: topic.minReplicas || undefined,
    labels: topic.labels,
  };
}

/** As topicInput. */
export function subscriptionInput(subscription: Subscription | undefined): SubscriptionInput {
  if (subscription === undefined) throw missing('subscription');
  return {
    name: subscription.name,
    topic: subscription.topic,
    ackDeadlineMs: subscription.ackDeadlineSeconds * 1000 || undefined,
    ordering: subscription.enableMessageOrdering,
    start: fromEnum(subscription.start, START_BY_POSITION, 'subscription.start'),
    labels: subscription.labels,
  };
}

export function topicMessage(topic: TopicDefinition): MessageInitShape<typeof TopicSchema> {
  return {
    name: topic.name,
    partitions: topic.partitions,
    retention: durationFromMs(topic.retentionMs),
    retentionBytesPerPartition: BigInt(topic.retentionBytesPerPartition),
    durability: DURABILITY_BY_LEVEL[topic.durability],
    minReplicas: topic.minReplicas,
    labels: topic.labels,
    logEpoch: BigInt(topic.logEpoch),
    createTime: timestampFromMs(topic.createTimeMs),
  };
}

export function subscriptionMessage(
  subscription: SubscriptionDefinition,
): MessageInitShape<typeof SubscriptionSchema> {
  return {
    name: subscription.name,
    topic: subscription.topic,
    ackDeadlineSeconds: subscription.ackDeadlineMs / 1000,
    enableMessageOrdering: subscription.ordering,
    start: START_BY_POSITION[subscription.start],
    labels: subscription.labels,
    incarnation: BigInt(subscription.incarnation),
    createTime: timestampFromMs(subscription.createTimeMs),
  };
}

export function backlogMessage(report: BacklogReport): MessageInitShape<typeof BacklogSchema> {
  return {
    subscription: report.subscription,
    topic: report.topic,
    messages: BigInt(report.messages),
    bytes: BigInt(Math.round(report.bytes)),
    outstandingMessages: BigInt(report.outstandingMessages),
    // Two clocks are read for an age; it is never negative for users.
    ...(report.oldestUnackedAgeMs !== undefined && {
      oldestUnackedAge: durationFromMs(Math.max(0, report.oldestUnackedAgeMs)),
    }),
    consumers: report.consumers,
    appendedTotal: BigInt(report.appendedTotal),
    deliveredTotal: BigInt(report.deliveredTotal),
    ackedTotal: BigInt(report.ackedTotal),
    redeliveredTotal: BigInt(report.redeliveredTotal),
    expiredByRetentionTotal: BigInt(report.expiredByRetentionTotal),
    measureTime: timestampFromMs(report.measureTimeMs),
    consumersWithoutCredit: report.consumersWithoutCredit,
    blockedMessages: BigInt(report.blockedMessages),
    ...(report.activeKeys !== undefined && { activeKeys: report.activeKeys }),
  };
}

/** About how many bytes a report takes in an answer; rather too many than too few. */
export function backlogBytes(report: BacklogReport): number {
  return 160 + report.subscription.length + report.topic.length;
}

/**
 * Cuts off parts of a millisecond. INVALID_ARGUMENT if it is no duration by protobuf's rules; the range is
 * not checked.
 */
export function durationMs({ seconds, nanos }: Duration, field: string): number {
  if (Math.abs(nanos) > 999_999_999 || (seconds !== 0n && nanos !== 0 && seconds < 0n !== nanos < 0)) {
    const rule = 'nanos must be below 1,000,000,000 and have the sign of seconds';
    throw new BrokerError('INVALID_ARGUMENT', `${field} is no valid duration: ${rule}`);
  }
  return Number(seconds) * 1000 + Math.trunc(nanos / 1_000_000);
}

function durationFromMs(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return create(DurationSchema, {
    seconds: BigInt(seconds),
    nanos: Math.round((ms - seconds * 1000) * 1_000_000),
  });
}

/** Undefined for the 0 of every enum. INVALID_ARGUMENT for a number that this version doesn't know. */
function fromEnum<Name extends string>(
  value: number,
  byName: Readonly<Record<Name, number>>,
  field: string,
): Name | undefined {
  if (value === 0) return undefined;
  for (const name of Object.keys(byName) as Name[]) if (byName[name] === value) return name;
  const known = Object.entries(byName).map(([name, number]) => `${number} (${name})`);
  throw new BrokerError('INVALID_ARGUMENT', `${field} is ${value}: must be one of ${known.join(', ')}`);
}

function missing(field: string): BrokerError {
  return new BrokerError('INVALID_ARGUMENT', `${field} is missing`);
}
