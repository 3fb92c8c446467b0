// What resources are called: projects/{project}/topics/{id} and projects/{project}/subscriptions/{id}. The
// only place in the broker that knows admin.proto's rules for names.
//
// A name that passed is at most MAX_NAME_LENGTH characters of ASCII, so it is safe as a store key and in a
// log line.
import { BrokerError } from './errors.ts';
import { printable } from './printable.ts';

/** The last part of a name, in characters (all ASCII, so also in bytes). */
export const MIN_ID_LENGTH = 3;
export const MAX_ID_LENGTH = 255;
/** A project, in characters. */
export const MIN_PROJECT_LENGTH = 1;
export const MAX_PROJECT_LENGTH = 255;
/** The longest full name, in characters. */
export const MAX_NAME_LENGTH =
  'projects/'.length + MAX_PROJECT_LENGTH + '/subscriptions/'.length + MAX_ID_LENGTH;

export type Collection = 'topics' | 'subscriptions';

export interface ResourceName {
  readonly project: string;
  readonly id: string;
}

/** INVALID_ARGUMENT with the field, the rule and the limit. */
export function parseTopicName(name: string, field: string): ResourceName {
  return parse(name, 'topics', field);
}

/** INVALID_ARGUMENT with the field, the rule and the limit. */
export function parseSubscriptionName(name: string, field: string): ResourceName {
  return parse(name, 'subscriptions', field);
}

/** The project of "projects/{project}". INVALID_ARGUMENT with the field, the rule and the limit. */
export function parseProjectName(name: string, field: string): string {
  const parts = name.split('/', 3);
  const [prefix, project] = parts;
  if (parts.length !== 2 || prefix !== 'projects' || project === undefined) {
    throw new BrokerError('INVALID_ARGUMENT', `${field} is ${quote(name)}: must be projects/{project}`);
  }
  const problem = partProblem(project, 'project', MIN_PROJECT_LENGTH, MAX_PROJECT_LENGTH);
  if (problem !== undefined) throw new BrokerError('INVALID_ARGUMENT', `${field}: ${problem}`);
  return project;
}

/** What is wrong with the name (undefined: nothing), without the field, for a report of several problems. */
export function nameProblem(name: string, collection: Collection): string | undefined {
  // A longer name can only be wrong, and is not split.
  const parts = name.length > MAX_NAME_LENGTH ? [] : name.split('/', 5);
  const [prefix, project, kind, id] = parts;
  if (
    parts.length !== 4 ||
    prefix !== 'projects' ||
    kind !== collection ||
    project === undefined ||
    id === undefined
  ) {
    return `${quote(name)} must be projects/{project}/${collection}/{id}, at most ${MAX_NAME_LENGTH} characters`;
  }
  return (
    partProblem(project, 'project', MIN_PROJECT_LENGTH, MAX_PROJECT_LENGTH) ??
    partProblem(id, 'id', MIN_ID_LENGTH, MAX_ID_LENGTH)
  );
}

/** A value from outside, fit for a message to people: short, on one line, well-formed. */
export function quote(value: string): string {
  const shown = value.length > MAX_QUOTED ? `${value.slice(0, MAX_QUOTED)}…` : value;
  return printable(JSON.stringify(shown.toWellFormed()));
}

const MAX_QUOTED = 80;
const ALLOWED = /^[A-Za-z0-9\-_.~+%]*$/;
const LETTER_FIRST = /^[A-Za-z]/;

function parse(name: string, collection: Collection, field: string): ResourceName {
  const problem = nameProblem(name, collection);
  if (problem !== undefined) throw new BrokerError('INVALID_ARGUMENT', `${field}: ${problem}`);
  const [, project, , id] = name.split('/') as [string, string, string, string];
  return { project, id };
}

function partProblem(part: string, what: string, min: number, max: number): string | undefined {
  if (part.length < min || part.length > max) {
    return `the ${what} ${quote(part)} has ${part.length} characters: must have ${min} to ${max}`;
  }
  if (!LETTER_FIRST.test(part)) return `the ${what} ${quote(part)} must begin with a letter`;
  if (!ALLOWED.test(part)) {
    return `the ${what} ${quote(part)} may contain only letters, digits and -_.~+%`;
  }
  if (part.startsWith('goog')) return `the ${what} ${quote(part)} must not begin with "goog"`;
  return undefined;
}
