// status.autoscaling of a Subscription: why the number of consumers is what it is, in the words of
// core/autoscale/decision.ts. No enums: an older CRD must not refuse what a newer operator says.
import { decimal, flag, type Loose, list, object, optional, type TypeOf, text, time } from '../schema.ts';
import { count } from './common-fields.ts';

const MAX_OPINIONS = 32;

function word(description: string) {
  return text(description, { min: 1, max: 64 });
}

function rate(description: string) {
  return decimal(description, { min: 0, max: Number.MAX_SAFE_INTEGER });
}

const inputs = object('What the decision was made from. Absent: not known.', {
  backlog: optional(count('Messages not acknowledged, outstanding ones included.')),
  outstanding: optional(count('Messages of the backlog that a consumer has just now.')),
  blocked: optional(count('Messages of the backlog that no number of consumers would speed up.')),
  oldestUnackedAgeSeconds: optional(rate('Age of the oldest message of the backlog, in seconds.')),
  arrivalRate: optional(rate('Messages published per second, over about 15 seconds.')),
  slowArrivalRate: optional(rate('The same over about 2 minutes.')),
  ackRate: optional(rate('Messages acknowledged per second.')),
  consumers: optional(count('Open streams.')),
  replicas: optional(count('How many the target was set to at that time.')),
  readyReplicas: optional(count('How many of them were ready.')),
  partitions: optional(count('Partitions of the topic.')),
  measureTime: optional(time('When the broker measured it.')),
});

const opinion = object("One rule's own view.", {
  rule: word('Which one.'),
  replicas: optional(count('How many it wants; absent: it has no opinion.')),
  says: text('Why.', { max: 1_024 }),
});

const learned = object(
  'What was learned from watching; kept here for the time after a restart of the operator.',
  {
    ratePerReplica: optional(rate('Messages per second that one replica can do.')),
    bestRatePerReplica: optional(rate('The best of the last hours.')),
    outstandingPerConsumer: optional(
      rate('Messages that a consumer that is never short of work holds at once.'),
    ),
    startupSeconds: optional(rate('How long a new pod takes until it is ready.')),
  },
);

export const autoscalingStatus = object('Why the number of consumers is what it is.', {
  desired: optional(
    count('What the target is to be set to: as many as recommended or, with dryRun, as many as there are.'),
  ),
  recommended: optional(count('How many there should be, after windows and steps.')),
  current: optional(count('How many the target is set to.')),
  need: optional(rate('What the load asks for, before windows and steps; a fraction of a replica counts.')),
  active: optional(flag('False: idle, may be scaled to zero.')),
  reason: optional(word('The rule that had the last word.')),
  limitedBy: optional(word('What kept it from being what the load asks for.')),
  message: optional(text('All of it in a sentence.', { max: 1_024 })),
  since: optional(time('Since when desired has been what it is.')),
  lastScaleTime: optional(time('When the target was changed last.')),
  draining: optional(count('Replicas that are being drained just now.')),
  inputs: optional(inputs),
  opinions: optional(list("Each rule's own view.", opinion, { max: MAX_OPINIONS })),
  learned: optional(learned),
});

export type AutoscalingStatus = Loose<TypeOf<typeof autoscalingStatus>>;
