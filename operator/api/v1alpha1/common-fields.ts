// Fields that Topic and Subscription have in common, and the limits of names in a broker. The limits are the
// broker's (services/broker/limits.ts, core/names.ts); test/unit/crd.test.ts compares them.
import {
  choice,
  flag,
  immutable,
  integer,
  object,
  optional,
  type Rule,
  text,
  textMap,
  withDefault,
} from '../schema.ts';

const MAX_RESOURCE_NAME = 253;
const RESOURCE_NAME = '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$';
const MIN_ID = 3;
const MAX_ID = 255;
const ID_CHARACTERS = '[-A-Za-z0-9_.~+%]';
/** The broker's maximum is 64; the operator needs two itself, to mark whose the object is. */
const MAX_LABELS = 62;
const MAX_LABEL_KEY_BYTES = 63;
const MAX_LABEL_VALUE_BYTES = 255;
/** Control characters and such as format or turn text: the broker refuses labels that have them. */
const INVISIBLE = '\\p{Cc}\\p{Cf}\\p{Co}\\p{Zl}\\p{Zp}';

/** The name of another Kubernetes object. */
export function objectName(description: string) {
  return text(description, { min: 1, max: MAX_RESOURCE_NAME, pattern: RESOURCE_NAME });
}

/** The last part of a name in the broker. */
export function brokerId(description: string) {
  return text(description, {
    min: MIN_ID,
    max: MAX_ID,
    pattern: `^[A-Za-z]${ID_CHARACTERS}*$`,
    rules: [noGoog],
  });
}

export function projectName(description: string, rules: readonly Rule[] = []) {
  return text(description, {
    min: 1,
    max: MAX_ID,
    pattern: `^[A-Za-z]${ID_CHARACTERS}*$`,
    rules: [noGoog, ...rules],
  });
}

const noGoog: Rule = {
  rule: "!self.startsWith('goog')",
  message: 'a name in the broker must not begin with "goog"',
};

/** A rule for the whole object: without an override the object's own name must do as a name in the broker. */
export function nameFitsBroker(override: 'topicName' | 'subscriptionName', isOverridden: string): Rule {
  return {
    rule: `${isOverridden} || (self.metadata.name.size() >= ${MIN_ID} && self.metadata.name.matches('^[a-z]') && !self.metadata.name.startsWith('goog'))`,
    message: `in the broker a name has at least ${MIN_ID} characters, begins with a letter and not with "goog": choose another one or set spec.${override}`,
  };
}

export const connectionRef = withDefault(
  object(
    'The Fanfare (connection to a broker) of the same namespace. Immutable.',
    { name: withDefault(objectName('Its name.'), 'default') },
    { rules: [immutable('connectionRef')] },
  ),
  { name: 'default' },
);

/** Labels within the broker's limits, less the operator's own two. */
export const labels = optional(
  textMap(
    'Labels of the object in the broker: at most 62, keys of 1 to 63 bytes, values of up to 255 bytes, without control characters.',
    text('A value.', { max: MAX_LABEL_VALUE_BYTES, pattern: `^[^${INVISIBLE}]*$` }),
    {
      max: MAX_LABELS,
      rules: [
        {
          rule: `self.all(key, key != '' && size(bytes(key)) <= ${MAX_LABEL_KEY_BYTES})`,
          message: `a label's key has 1 to ${MAX_LABEL_KEY_BYTES} bytes`,
        },
        {
          rule: `self.all(key, !key.matches(r'[${INVISIBLE}]'))`,
          message: "a label's key has no control characters, line separators or the like",
        },
        {
          rule: `self.all(key, size(bytes(self[key])) <= ${MAX_LABEL_VALUE_BYTES})`,
          message: `a label's value has at most ${MAX_LABEL_VALUE_BYTES} bytes`,
        },
      ],
    },
  ),
);

export const DELETION_POLICIES = ['Retain', 'DeleteIfEmpty', 'Delete'] as const;
export type DeletionPolicy = (typeof DELETION_POLICIES)[number];

export function deletionPolicy(fallback: DeletionPolicy) {
  return withDefault(
    choice(
      'What deleting this resource does in the broker. Retain: nothing. DeleteIfEmpty: deletes it once there is no backlog, and waits until then. Delete: deletes it with what it holds.',
      DELETION_POLICIES,
    ),
    fallback,
  );
}

export const managementPolicy = withDefault(
  choice(
    'Full: the broker is made to match. ObserveOnly: nothing in the broker is changed or deleted, status shows what is there.',
    ['Full', 'ObserveOnly'],
  ),
  'Full',
);

export const paused = withDefault(
  flag(
    'Leave everything as it is for now, the number of consumers too. The annotation fanfare.dev/paused: "true" does the same.',
  ),
  false,
);

export const applied = optional(
  object('What the broker confirmed last; a difference from it is drift and is repaired.', {
    hash: text('A hash of the settings that were applied.', { max: 128 }),
    revision: optional(text("The broker's number of that state.", { max: 64 })),
    incarnation: optional(
      text('New each time an object of that name is created in the broker.', { max: 64 }),
    ),
  }),
);

/** What a broker counts: messages, bytes. */
export function count(description: string) {
  return integer(description, { min: 0, max: Number.MAX_SAFE_INTEGER });
}

/** The full name in the broker: projects/…. */
export function brokerName(description: string) {
  return text(description, { max: 2 * MAX_ID + 32 });
}
