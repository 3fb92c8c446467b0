// Kubernetes objects as they come over the wire: JSON, timestamps as strings. The generated models of
// @kubernetes/client-node turn some timestamps into Date and some not, so nothing here uses them.

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly subresource?: string;
  readonly time?: string;
  readonly fieldsV1?: unknown;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
  readonly managedFields?: readonly ManagedFields[];
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** A kind of object and where it lives in the API. `group` is '' for the core group. */
export interface Resource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** One object by name. `namespace` is left out for what belongs to the whole cluster. */
export interface ObjectRef {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export const LEASES: Resource = builtIn('coordination.k8s.io', 'v1', 'leases', 'Lease');
export const EVENTS: Resource = builtIn('events.k8s.io', 'v1', 'events', 'Event');
export const DEPLOYMENTS: Resource = builtIn('apps', 'v1', 'deployments', 'Deployment');
export const STATEFUL_SETS: Resource = builtIn('apps', 'v1', 'statefulsets', 'StatefulSet');
export const PODS: Resource = builtIn('', 'v1', 'pods', 'Pod');
export const SECRETS: Resource = builtIn('', 'v1', 'secrets', 'Secret');
export const NAMESPACES: Resource = { ...builtIn('', 'v1', 'namespaces', 'Namespace'), namespaced: false };

function builtIn(group: string, version: string, plural: string, kind: string): Resource {
  return { group, version, plural, kind, namespaced: true };
}

export function apiVersionOf({ group, version }: Resource): string {
  return group === '' ? version : `${group}/${version}`;
}

/** The path of a collection: of one namespace, or of all if namespace is undefined. */
export function collectionPath(resource: Resource, namespace: string | undefined): string {
  const { group, version, plural, namespaced } = resource;
  const root = group === '' ? `/api/${version}` : `/apis/${group}/${version}`;
  const middle = namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  return `${root}${middle}/${plural}`;
}

export function objectPath(resource: Resource, ref: ObjectRef, subresource?: string): string {
  const path = `${collectionPath(resource, ref.namespace)}/${encodeURIComponent(ref.name)}`;
  return subresource === undefined ? path : `${path}/${subresource}`;
}

/** The key of an object: `namespace/name`, or `name` alone for what belongs to the whole cluster. */
export function keyOf(object: { readonly metadata: ObjectRef }): string {
  return refKey(object.metadata);
}

export function refKey({ namespace, name }: ObjectRef): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export function parseKey(key: string): ObjectRef {
  const slash = key.indexOf('/');
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/**
 * Compares resource versions, which are numbers that grow. Undefined if one of them is no number (an
 * aggregated API).
 */
export function compareVersions(a: string | undefined, b: string | undefined): number | undefined {
  if (a === undefined || b === undefined || !/^\d+$/.test(a) || !/^\d+$/.test(b)) return undefined;
  return a.length === b.length ? (a < b ? -1 : a > b ? 1 : 0) : a.length - b.length;
}

/** Kubernetes' MicroTime: exactly six digits of fraction, or the API server refuses it. */
export function microTime(nowMs: number): string {
  return new Date(nowMs).toISOString().replace(/\.(\d{3})Z$/, '.$1000Z');
}

/** Freezes an object of JSON all the way down: what a cache hands out is shared. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const part of Object.values(value)) deepFreeze(part);
  return Object.freeze(value);
}

/**
 * Equality of JSON values: an absent field equals an undefined one, and the order of fields does not matter.
 */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((part, index) => sameJson(part, b[index]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  return [...new Set([...Object.keys(left), ...Object.keys(right)])].every((name) =>
    sameJson(left[name], right[name]),
  );
}
