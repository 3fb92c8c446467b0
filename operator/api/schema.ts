// The words in which v1alpha1/ describes resources. One value is both: `json` is the OpenAPI schema of the
// CRD, and TypeOf is the TypeScript type of the same thing, so neither can say what the other does not.
//
// Invariant: every string, list and map has a maximum, since the API server estimates the cost of rules by
// them; a type is what the API server returns, with defaults filled in.

export interface Rule {
  /** CEL; `self` is the value, `oldSelf` what it was. A rule with oldSelf is checked on updates only. */
  readonly rule: string;
  /** For people: what is not allowed, and what to do. */
  readonly message: string;
  /** Points at the field that is wrong, such as `.minReplicas`. */
  readonly fieldPath?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired';
}

/** The part of structural OpenAPI that is used here. */
export interface JsonSchema {
  readonly description?: string;
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'array' | 'object';
  readonly format?: 'int32' | 'int64' | 'double' | 'date-time';
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: JsonSchema;
  readonly maxProperties?: number;
  readonly additionalProperties?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly 'x-kubernetes-validations'?: readonly Rule[];
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'map' | 'set';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
}

export type Presence = 'required' | 'optional' | 'defaulted';

export interface Schema<T, P extends Presence = Presence> {
  readonly json: JsonSchema;
  readonly presence: P;
  /** The field is never there: it only carries the type. */
  readonly type?: T;
}

/** The TypeScript type of what a schema describes, as the API server returns it. */
export type TypeOf<S> = S extends Schema<infer T> ? T : never;

type Fields = Readonly<Record<string, Schema<unknown>>>;
type OptionalKeys<F extends Fields> = {
  [K in keyof F]: F[K] extends Schema<unknown, 'optional'> ? K : never;
}[keyof F];
type Flat<T> = { [K in keyof T]: T[K] };
export type ObjectOf<F extends Fields> = Flat<
  { readonly [K in Exclude<keyof F, OptionalKeys<F>>]: TypeOf<F[K]> } & {
    readonly [K in OptionalKeys<F>]?: TypeOf<F[K]>;
  }
>;

/**
 * A type whose optional fields may also be undefined, which JSON leaves out: for what the operator writes.
 */
export type Loose<T> = T extends readonly (infer Item)[]
  ? readonly Loose<Item>[]
  : T extends object
    ? { readonly [K in keyof T]: object extends Pick<T, K> ? Loose<T[K]> | undefined : Loose<T[K]> }
    : T;

interface Rules {
  readonly rules?: readonly Rule[];
}

interface TextLimits extends Rules {
  readonly min?: number;
  readonly max: number;
  readonly pattern?: string;
}

interface NumberLimits extends Rules {
  readonly min: number;
  readonly max: number;
}

const MAX_INT32 = 2 ** 31 - 1;
/** RFC 3339 with fractions and zone. */
const MAX_TIME_LENGTH = 64;

export function text(
  description: string,
  { min, max, pattern, rules }: TextLimits,
): Schema<string, 'required'> {
  return required({
    description,
    type: 'string',
    ...(min !== undefined && { minLength: min }),
    maxLength: max,
    ...(pattern !== undefined && { pattern }),
    ...validations(rules),
  });
}

/** RFC 3339, as Kubernetes writes it. */
export function time(description: string): Schema<string, 'required'> {
  return required({ description, type: 'string', format: 'date-time', maxLength: MAX_TIME_LENGTH });
}

/** `min` and `max` are part of the range; at most 2^53 - 1, so that it is a number in JavaScript too. */
export function integer(description: string, { min, max, rules }: NumberLimits): Schema<number, 'required'> {
  const format = max > MAX_INT32 ? 'int64' : 'int32';
  return required({
    description,
    type: 'integer',
    format,
    minimum: min,
    maximum: max,
    ...validations(rules),
  });
}

export function decimal(description: string, { min, max, rules }: NumberLimits): Schema<number, 'required'> {
  return required({
    description,
    type: 'number',
    format: 'double',
    minimum: min,
    maximum: max,
    ...validations(rules),
  });
}

export function flag(description: string, { rules }: Rules = {}): Schema<boolean, 'required'> {
  return required({ description, type: 'boolean', ...validations(rules) });
}

export function choice<const V extends string>(
  description: string,
  values: readonly V[],
  { rules }: Rules = {},
): Schema<V, 'required'> {
  return required({ description, type: 'string', enum: values, ...validations(rules) });
}

/** A list that one manager of server-side apply owns as a whole. */
export function list<T>(
  description: string,
  item: Schema<T>,
  { min, max }: { readonly min?: number; readonly max: number },
): Schema<readonly T[], 'required'> {
  return required({
    description,
    type: 'array',
    ...(min !== undefined && { minItems: min }),
    maxItems: max,
    items: item.json,
    'x-kubernetes-list-type': 'atomic',
  });
}

/** A list whose items are told apart by one field, and owned one by one. */
export function listByKey<T>(
  description: string,
  key: keyof T & string,
  item: Schema<T>,
  { max }: { readonly max: number },
): Schema<readonly T[], 'required'> {
  return required({
    description,
    type: 'array',
    maxItems: max,
    items: item.json,
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': [key],
  });
}

export function textMap(
  description: string,
  value: Schema<string>,
  { max, rules }: { readonly max: number } & Rules,
): Schema<Readonly<Record<string, string>>, 'required'> {
  return required({
    description,
    type: 'object',
    maxProperties: max,
    additionalProperties: value.json,
    ...validations(rules),
  });
}

export function object<F extends Fields>(
  description: string,
  fields: F,
  { rules }: Rules = {},
): Schema<ObjectOf<F>, 'required'> {
  const needed = Object.keys(fields).filter((name) => fields[name]?.presence === 'required');
  return required({
    description,
    type: 'object',
    ...(needed.length > 0 && { required: needed }),
    properties: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.json])),
    ...validations(rules),
  });
}

export function optional<T>(schema: Schema<T>): Schema<T, 'optional'> {
  return { json: schema.json, presence: 'optional' };
}

/** The API server fills it in, in stored objects too. `value` may leave out what has a default itself. */
export function withDefault<T>(schema: Schema<T>, value: T | Partial<T>): Schema<T, 'defaulted'> {
  return { json: { ...schema.json, default: value }, presence: 'defaulted' };
}

/**
 * A rule for an object: the optional field stays as it was made, absent or present. (A rule on the field
 * itself would not see it come or go.) `what` names it for people.
 */
export function unchanging(field: string, what: string): Rule {
  return {
    rule: `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
    message: `${what} can't be changed, set or removed later: make a new resource`,
    fieldPath: `.${field}`,
    reason: 'FieldValueForbidden',
  };
}

/** A rule for a field that is always there. */
export function immutable(what: string): Rule {
  return {
    rule: 'self == oldSelf',
    message: `${what} can't be changed: make a new resource`,
    reason: 'FieldValueForbidden',
  };
}

function required<T>(json: JsonSchema): Schema<T, 'required'> {
  return { json, presence: 'required' };
}

function validations(rules: readonly Rule[] | undefined): Pick<JsonSchema, 'x-kubernetes-validations'> {
  return rules === undefined || rules.length === 0 ? {} : { 'x-kubernetes-validations': rules };
}
