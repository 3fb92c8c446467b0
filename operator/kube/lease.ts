// The Lease object as an elector sees it: who holds it, since when unchanged by our own clock, and what we
// would write. Pure: the time is passed in.
//
// Whether a lease has run out is judged only by how long it has not changed in front of our eyes: the times
// written in it are another machine's and are for people.
import { compareVersions, type KubeObject, microTime } from './objects.ts';

export interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

export interface Lease extends KubeObject {
  readonly spec?: LeaseSpec;
}

export interface Observation {
  readonly lease: Lease;
  /** When it was first seen as it is, by the monotonic clock. */
  readonly sinceMs: number;
}

/** What we know after having seen `lease`. A look that is older than the last one tells nothing. */
export function observe(known: Observation | undefined, lease: Lease, nowMs: number): Observation {
  if (known !== undefined) {
    const order = compareVersions(lease.metadata.resourceVersion, known.lease.metadata.resourceVersion);
    const recreated = lease.metadata.uid !== known.lease.metadata.uid;
    if (!recreated && order !== undefined && order <= 0) return known;
  }
  return { lease, sinceMs: nowMs };
}

/**
 * Milliseconds until somebody else may take it: 0 if nobody holds it or its holder has been silent for its
 * duration.
 */
export function freeInMs({ lease, sinceMs }: Observation, nowMs: number): number {
  const { holderIdentity = '', leaseDurationSeconds = 15 } = lease.spec ?? {};
  return holderIdentity === '' ? 0 : Math.max(0, sinceMs + leaseDurationSeconds * 1000 - nowMs);
}

/**
 * The spec that takes a lease over. leaseTransitions counts up with each change of holder, and is the term.
 */
export function taken(
  { spec = {} }: Lease,
  holderIdentity: string,
  leaseDurationMs: number,
  nowMs: number,
): LeaseSpec {
  return {
    ...spec,
    holderIdentity,
    leaseDurationSeconds: Math.ceil(leaseDurationMs / 1000),
    acquireTime: microTime(nowMs),
    renewTime: microTime(nowMs),
    leaseTransitions: (spec.leaseTransitions ?? 0) + 1,
  };
}

export function renewed({ spec = {} }: Lease, nowMs: number): LeaseSpec {
  return { ...spec, renewTime: microTime(nowMs) };
}

export function released({ spec = {} }: Lease, nowMs: number): LeaseSpec {
  return { ...spec, holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime(nowMs) };
}

/**
 * Where leaseTransitions of a new lease begins: minutes since 1970. A lease that somebody deleted and that is
 * created again must not give out a term twice; it can't, unless there was more than one change of leader a
 * minute all along.
 */
export function firstTransitions(nowMs: number): number {
  return Math.floor(nowMs / 60_000);
}
