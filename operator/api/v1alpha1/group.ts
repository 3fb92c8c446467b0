// What all kinds of fanfare.dev share: names in the API, and the shape of an object around its spec and
// status.

export const GROUP = 'fanfare.dev';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}` as const;

/**
 * On every Topic and Subscription whose object the operator makes in a broker: it is not forgotten before it
 * is cleaned up.
 */
export const FINALIZER = 'fanfare.dev/broker-cleanup';
/** "true" pauses as spec.paused does, for people who may not or do not want to change the spec. */
export const PAUSED_ANNOTATION = 'fanfare.dev/paused';
/** Any new value, such as the time, means: reconcile now, whatever is thought to be applied. */
export const FORCE_SYNC_ANNOTATION = 'fanfare.dev/force-sync';
/** "true" on a Subscription: take a target over from the HPA or ScaledObject that scales it. */
export const TRANSFER_OWNERSHIP_ANNOTATION = 'fanfare.dev/transfer-ownership';

/** The part of metadata that the operator reads. */
export interface Metadata {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  /** RFC 3339, in whole seconds. */
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
}

/**
 * An object as the API server returns it: defaults are filled in, status is absent until somebody writes it.
 */
export interface Resource<Kind extends string, Spec, Status> {
  readonly apiVersion: typeof API_VERSION;
  readonly kind: Kind;
  readonly metadata: Metadata;
  readonly spec: Spec;
  readonly status?: Status;
}

/** How one kind is called; what a Kubernetes client needs to find it. */
export interface KindNames {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
}

export function kindNames(kind: string, plural: string, shortNames: readonly string[]): KindNames {
  return Object.freeze({
    group: GROUP,
    version: VERSION,
    kind,
    plural,
    singular: kind.toLowerCase(),
    shortNames,
    namespaced: true,
  });
}
