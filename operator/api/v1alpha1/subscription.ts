// Kind Subscription: a subscription that exists in a broker, and how many consumers read it (consumers.ts).
// Ranges and meanings are those of proto/fanfare/v1/admin.proto.
import {
  choice,
  decimal,
  flag,
  immutable,
  integer,
  object,
  optional,
  type TypeOf,
  text,
  time,
  unchanging,
  withDefault,
} from '../schema.ts';
import { autoscalingStatus } from './autoscaling-status.ts';
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
  projectName,
} from './common-fields.ts';
import { conditionFields, type WithConditions } from './conditions.ts';
import { consumers } from './consumers.ts';
import { kindNames, type Resource } from './group.ts';

export const SUBSCRIPTIONS = kindNames('Subscription', 'subscriptions', ['ffsub', 'ffsubs']);

const topicRef = object(
  'What it reads. Immutable.',
  {
    name: text('The name of a Topic of this namespace; with external, of a topic in the broker.', {
      min: 1,
      max: 255,
      pattern: '^[A-Za-z0-9][-A-Za-z0-9_.~+%]*$',
    }),
    external: withDefault(
      flag('The topic is in the broker, but no Topic resource of this namespace describes it.'),
      false,
    ),
    project: optional(projectName("Of an external topic, if it isn't the connection's.")),
  },
  {
    rules: [
      immutable('topicRef'),
      {
        rule: '!has(self.project) || self.external',
        message:
          'a Topic of this namespace is in the project of its connection: leave project out, or set external',
        fieldPath: '.project',
      },
    ],
  },
);

export const subscriptionSpec = object(
  'The subscription as it should be.',
  {
    connectionRef,
    topicRef,
    subscriptionName: optional(
      brokerId(
        "The subscription's name in the broker, if it isn't the resource's: 3 to 255 characters. Immutable.",
      ),
    ),
    ackDeadlineSeconds: withDefault(
      integer('How long a consumer may keep a message before it is given to another one.', {
        min: 1,
        max: 600,
      }),
      10,
    ),
    ordering: withDefault(
      flag('Deliver the messages of an ordering key in order, to one consumer at a time. Immutable.', {
        rules: [immutable('ordering')],
      }),
      false,
    ),
    start: withDefault(
      choice(
        'Where a new subscription begins. Latest: with what is published from now on. Earliest: at the oldest message that the topic still has. Immutable.',
        ['Latest', 'Earliest'],
        { rules: [immutable('start')] },
      ),
      'Latest',
    ),
    labels,
    deletionPolicy: deletionPolicy('Delete'),
    managementPolicy,
    paused,
    consumers: optional(consumers),
  },
  { rules: [unchanging('subscriptionName', 'subscriptionName')] },
);

export const subscriptionStatus = object('What was seen of it last.', {
  ...conditionFields,
  name: optional(brokerName('Its full name in the broker.')),
  topic: optional(brokerName("Its topic's full name in the broker.")),
  applied,
  backlog: optional(count('Messages that are published and not acknowledged.')),
  // It is a time and not an age, which would have to be written every second.
  oldestUnackedTime: optional(
    time('When the oldest message of the backlog was published; absent without backlog.'),
  ),
  arrivalRate: optional(
    decimal('Messages published per second, over about 2 minutes.', { min: 0, max: Number.MAX_SAFE_INTEGER }),
  ),
  measureTime: optional(time('When backlog and rate were measured.')),
  replicas: optional(count('How many the target has.')),
  readyReplicas: optional(count('How many of them are ready.')),
  desiredReplicas: optional(count('What the target is to be set to.')),
  selector: optional(text('Selects the pods of the target; for the scale subresource.', { max: 4_096 })),
  autoscaling: optional(autoscalingStatus),
});

/** Rules for the whole object. */
export const subscriptionRules = [nameFitsBroker('subscriptionName', 'has(self.spec.subscriptionName)')];

export type SubscriptionSpec = TypeOf<typeof subscriptionSpec>;
export type SubscriptionStatus = WithConditions<TypeOf<typeof subscriptionStatus>>;
export type Subscription = Resource<'Subscription', SubscriptionSpec, SubscriptionStatus>;
