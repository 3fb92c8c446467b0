// Conditions as Kubernetes' metav1.Condition has them: their schema, which is part of every status, and the
// closed list of their types.
import {
  choice,
  integer,
  type Loose,
  listByKey,
  object,
  optional,
  type TypeOf,
  text,
  time,
} from '../schema.ts';
import type { Reason } from './reasons.ts';

export const MAX_CONDITION_MESSAGE = 32_768;
/** Conditions of one resource, at most; it has six types at most. */
const MAX_CONDITIONS = 16;
const MAX_GENERATION = Number.MAX_SAFE_INTEGER;

/**
 * Ready: it can be used. Synced: the broker has what the spec says. Paused: only while it is. The others are
 * a Subscription's: Scaling: the number of consumers follows the load; ConsumersAvailable: somebody reads;
 * Degraded: it works, but somebody should look. Consumers in trouble never clear Ready.
 */
export const CONDITION_TYPES = [
  'Ready',
  'Synced',
  'Paused',
  'Scaling',
  'ConsumersAvailable',
  'Degraded',
] as const;
export type ConditionType = (typeof CONDITION_TYPES)[number];

const condition = object('One aspect of the state.', {
  type: text('Ready, Synced, Paused, Scaling, ConsumersAvailable or Degraded.', { min: 1, max: 64 }),
  status: choice('Whether it is so.', ['True', 'False', 'Unknown']),
  observedGeneration: optional(
    integer('metadata.generation of the spec that this is about.', { min: 0, max: MAX_GENERATION }),
  ),
  lastTransitionTime: time('When status last changed.'),
  // No enum: an older CRD must not refuse what a newer operator says.
  reason: text('Why, in one word.', { min: 1, max: 128, pattern: '^[A-Za-z][A-Za-z0-9]*$' }),
  message: text('Why, for people, and what to do.', { max: MAX_CONDITION_MESSAGE }),
});

export type Condition = Omit<TypeOf<typeof condition>, 'type' | 'reason'> & {
  readonly type: ConditionType;
  readonly reason: Reason;
};

export const conditionFields = {
  observedGeneration: optional(
    integer(
      'The last metadata.generation that was looked at, whether with success or not (Synced says that).',
      {
        min: 0,
        max: MAX_GENERATION,
      },
    ),
  ),
  conditions: optional(
    listByKey('What works and what does not, by type.', 'type', condition, { max: MAX_CONDITIONS }),
  ),
};

/** A status as the operator writes it, its conditions narrowed to the closed lists of types and reasons. */
export type WithConditions<Status> = Loose<Omit<Status, 'conditions'>> & {
  readonly conditions?: readonly Condition[] | undefined;
};
