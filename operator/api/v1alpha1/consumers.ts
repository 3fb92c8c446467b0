// The consumers block of a Subscription: which Deployment reads it and how its replicas follow the load.
// core/autoscale/spec.ts and AUTOSCALER.md say what the numbers mean; names under behavior are the
// HorizontalPodAutoscaler's.
//
// Defaults that depend on other fields (mode, behavior's policies) are filled in by core/autoscale/spec.ts.
import {
  choice,
  decimal,
  flag,
  integer,
  list,
  object,
  optional,
  type TypeOf,
  text,
  withDefault,
} from '../schema.ts';
import { objectName } from './common-fields.ts';

/** A subscription can have as many streams, and no more. */
const MAX_REPLICAS = 10_000;
const DAY_S = 86_400;
const HOUR_S = 3_600;

const policy = object('One limit of a change.', {
  type: choice('Whether value is replicas or a percentage of them.', ['Pods', 'Percent']),
  value: integer('The largest change within the period.', { min: 1, max: MAX_REPLICAS }),
  periodSeconds: integer('Over which changes are counted.', { min: 1, max: 1_800 }),
});

function scalingRules(direction: string, defaults: string) {
  return optional(
    object(`How fast replicas may ${direction}. By default ${defaults}.`, {
      stabilizationWindowSeconds: optional(
        integer('Within it the most cautious of all decisions counts.', { min: 0, max: HOUR_S }),
      ),
      policies: optional(list('Limits of a change.', policy, { min: 1, max: 8 })),
      selectPolicy: optional(
        choice(
          'Max: the policy that allows most. Min: the one that allows least. Disabled: never in this direction.',
          ['Max', 'Min', 'Disabled'],
        ),
      ),
    }),
  );
}

const scaleTargetRef = object('What is scaled: anything in this namespace with a scale subresource.', {
  apiVersion: withDefault(
    text('Its group and version.', { min: 1, max: 317, pattern: '^([a-z0-9.-]+/)?v[a-z0-9]+$' }),
    'apps/v1',
  ),
  kind: withDefault(text('Its kind.', { min: 1, max: 63, pattern: '^[A-Z][A-Za-z0-9]*$' }), 'Deployment'),
  name: objectName('Its name.'),
});

const fallback = object('What to do when the backlog stays unknown. Without it: no change.', {
  failureThreshold: withDefault(
    integer('For how many intervals of 15 s it must be unknown.', { min: 1, max: 1_000 }),
    3,
  ),
  replicas: optional(integer('By default minReplicas, but at least 1.', { min: 0, max: MAX_REPLICAS })),
  behavior: withDefault(
    choice(
      'static: replicas. currentReplicas: as many as there are. currentReplicasIfHigher: the same, but at least replicas. currentReplicasIfLower: the same, but at most replicas.',
      ['static', 'currentReplicas', 'currentReplicasIfHigher', 'currentReplicasIfLower'],
    ),
    'currentReplicasIfHigher',
  ),
});

const drain = object('How replicas are taken away without redelivering what they are working on.', {
  enabled: withDefault(
    flag(
      'The broker gives no more work to pods that will go, and waits for what they have, before replicas fall.',
    ),
    true,
  ),
  timeoutSeconds: withDefault(
    integer('How long to wait at most; then replicas fall all the same and an event says so.', {
      min: 1,
      max: HOUR_S,
    }),
    60,
  ),
});

export const consumers = object(
  'Who reads the subscription, and how many of them. Absent: nothing is scaled.',
  {
    scaleTargetRef,
    strategy: withDefault(
      choice(
        'Internal: the operator decides. KEDA: a ScaledObject on this Subscription decides, by the external scaler. None: whoever sets replicas does, such as kubectl scale or a HorizontalPodAutoscaler on this Subscription.',
        ['Internal', 'KEDA', 'None'],
      ),
      'Internal',
    ),
    replicas: optional(
      integer(
        'How many there should be: required with KEDA and None, where the scale subresource changes it; not allowed with Internal.',
        {
          min: 0,
          max: MAX_REPLICAS,
        },
      ),
    ),
    minReplicas: withDefault(
      integer('Fewest replicas; with 0 the last one goes when nothing has arrived for cooldownSeconds.', {
        min: 0,
        max: MAX_REPLICAS,
      }),
      1,
    ),
    maxReplicas: integer('Most replicas.', { min: 1, max: MAX_REPLICAS }),
    mode: optional(
      choice(
        'Drain: as many as work the backlog off within drainTimeSeconds. Depth: one for every targetBacklogPerReplica messages. Max: whichever is more. Absent: Max with targetBacklogPerReplica, else Drain.',
        ['Drain', 'Depth', 'Max'],
      ),
    ),
    drainTimeSeconds: withDefault(
      integer('Within which a backlog is to be worked off, start of pods included.', { min: 1, max: DAY_S }),
      60,
    ),
    targetBacklogPerReplica: optional(integer('Messages for each replica.', { min: 1, max: 1_000_000_000 })),
    maxOldestAgeSeconds: optional(
      integer('No message should wait longer: beyond it replicas are added, whatever the mode.', {
        min: 1,
        max: 366 * DAY_S,
      }),
    ),
    targetUtilizationPercent: withDefault(
      integer('How busy replicas should be at a steady load.', { min: 10, max: 100 }),
      80,
    ),
    expectedProcessingMillis: optional(
      integer('Time that a message takes; counts only until what a replica can do has been measured.', {
        min: 1,
        max: HOUR_S * 1_000,
      }),
    ),
    concurrency: optional(
      integer('Messages that a replica processes at once; by default 1.', { min: 1, max: 100_000 }),
    ),
    activationRate: withDefault(
      decimal('Messages per second up to which a subscription without backlog counts as idle.', {
        min: 0,
        max: 1_000_000,
      }),
      0,
    ),
    cooldownSeconds: withDefault(
      integer('How long it must be idle before the last replica goes.', { min: 0, max: DAY_S }),
      300,
    ),
    behavior: optional(
      object("How fast replicas may change. Names and meanings are the HorizontalPodAutoscaler's.", {
        scaleUp: scalingRules('grow', 'no window, and 4 pods or 100 % in 15 s'),
        scaleDown: scalingRules('fall', 'a window of 300 s, and 50 % in 60 s'),
      }),
    ),
    fallback: optional(fallback),
    alignToPartitions: withDefault(flag('Only numbers of replicas that share the partitions evenly.'), false),
    dryRun: withDefault(flag('Decide and explain in status, but change nothing.'), false),
    drain: withDefault(drain, {}),
  },
  {
    rules: [
      {
        rule: 'self.minReplicas <= self.maxReplicas',
        message: 'minReplicas must not exceed maxReplicas',
        fieldPath: '.minReplicas',
      },
      {
        rule: "!has(self.mode) || self.mode == 'Drain' || has(self.targetBacklogPerReplica)",
        message: 'mode Depth or Max needs targetBacklogPerReplica',
        fieldPath: '.targetBacklogPerReplica',
        reason: 'FieldValueRequired',
      },
      {
        rule: "!has(self.replicas) || self.strategy != 'Internal'",
        message:
          'the operator decides how many replicas there are: change minReplicas and maxReplicas, or set strategy: None to decide yourself',
        fieldPath: '.replicas',
        reason: 'FieldValueForbidden',
      },
      {
        // Without replicas the scale subresource would answer with an error.
        rule: "has(self.replicas) || self.strategy == 'Internal'",
        message:
          'strategy KEDA or None needs replicas to begin with: who scales this Subscription changes it from there',
        fieldPath: '.replicas',
        reason: 'FieldValueRequired',
      },
      {
        rule: '!has(self.replicas) || self.replicas <= self.maxReplicas',
        message: 'replicas must not exceed maxReplicas',
        fieldPath: '.replicas',
      },
      {
        rule: '!has(self.fallback) || !has(self.fallback.replicas) || self.fallback.replicas <= self.maxReplicas',
        message: 'fallback.replicas must not exceed maxReplicas',
        fieldPath: '.fallback.replicas',
      },
    ],
  },
);

export type Consumers = TypeOf<typeof consumers>;
export type ScaleStrategy = Consumers['strategy'];
export type DrainSettings = Consumers['drain'];
