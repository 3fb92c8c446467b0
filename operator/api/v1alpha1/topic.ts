// Kind Topic: a topic that exists in a broker as long as the resource does (and longer, by deletionPolicy).
// Ranges and meanings are those of proto/fanfare/v1/admin.proto.
import { choice, integer, object, optional, type TypeOf, unchanging, withDefault } from '../schema.ts';
import {
  applied,
  brokerId,
  brokerName,
  connectionRef,
  count,
  deletionPolicy,
  labels,
  managementPolicy,
  nameFitsBroker,
  paused,
} from './common-fields.ts';
import { conditionFields, type WithConditions } from './conditions.ts';
import { kindNames, type Resource } from './group.ts';

export const TOPICS = kindNames('Topic', 'topics', ['fftopic', 'fftopics']);

export const DURABILITIES = ['Memory', 'Stored', 'Replicated', 'Fsync'] as const;
export type Durability = (typeof DURABILITIES)[number];

const MINUTE_S = 60;
const DAY_S = 24 * 60 * MINUTE_S;
const MIB = 1024 * 1024;

export const topicSpec = object(
  'The topic as it should be.',
  {
    connectionRef,
    topicName: optional(
      brokerId("The topic's name in the broker, if it isn't the resource's: 3 to 255 characters. Immutable."),
    ),
    partitions: withDefault(
      integer(
        'Ordering, ownership and parallelism go by partition. Can only grow. Ordering keys then move and keep their order: subscriptions with ordering get what comes after once they have settled what was before.',
        {
          min: 1,
          max: 1_024,
          rules: [
            {
              rule: 'self >= oldSelf',
              message: 'partitions can only grow: make a new topic with fewer',
              reason: 'FieldValueForbidden',
            },
          ],
        },
      ),
      4,
    ),
    retentionSeconds: withDefault(
      integer('How long messages are kept, acknowledged or not: 1 minute to 366 days; by default 7 days.', {
        min: MINUTE_S,
        max: 366 * DAY_S,
      }),
      7 * DAY_S,
    ),
    retentionBytesPerPartition: withDefault(
      integer(
        'How many bytes each partition keeps at most, oldest deleted first: at least 1 MiB, or 0 for no limit.',
        {
          min: 0,
          max: Number.MAX_SAFE_INTEGER,
          rules: [
            {
              rule: `self == 0 || self >= ${MIB}`,
              message: `must be 0 (no limit) or at least ${MIB} (1 MiB)`,
            },
          ],
        },
      ),
      0,
    ),
    durability: optional(
      choice(
        "What an acknowledged publish has survived. Memory: nothing. Stored: a crash of the broker. Replicated: loss of the store's primary, as far as its replication goes. Fsync: a power failure. Absent: the broker's default, Fsync on one node and Stored on Redis. Immutable.",
        DURABILITIES,
      ),
    ),
    minReplicas: optional(
      integer(
        'With durability Replicated: how many replicas of the store have confirmed it; absent: 1. Immutable.',
        {
          min: 1,
          max: 5,
        },
      ),
    ),
    labels,
    deletionPolicy: deletionPolicy('Retain'),
    managementPolicy,
    paused,
  },
  {
    rules: [
      unchanging('topicName', 'topicName'),
      unchanging('durability', 'durability'),
      unchanging('minReplicas', 'minReplicas'),
      {
        rule: "!has(self.minReplicas) || (has(self.durability) && self.durability == 'Replicated')",
        message: 'minReplicas needs durability: Replicated',
        fieldPath: '.minReplicas',
      },
    ],
  },
);

export const topicStatus = object('What was seen of it last.', {
  ...conditionFields,
  name: optional(brokerName('Its full name in the broker.')),
  applied,
  partitions: optional(count('How many the broker has.')),
  subscriptions: optional(count('How many subscriptions the broker has for it.')),
  backlog: optional(count('Messages of its subscription with the largest backlog.')),
});

/** Rules for the whole object. */
export const topicRules = [nameFitsBroker('topicName', 'has(self.spec.topicName)')];

export type TopicSpec = TypeOf<typeof topicSpec>;
export type TopicStatus = WithConditions<TypeOf<typeof topicStatus>>;
export type Topic = Resource<'Topic', TopicSpec, TopicStatus>;
