// Reads and writes one Lease: one try each, soon given up, because an elector has its own rhythm and a late
// answer is worth nothing. The writes are unguarded: they are what makes a process the leader.
import { isNotFound } from './errors.ts';
import type { KubeHttp } from './http.ts';
import type { Lease, LeaseSpec } from './lease.ts';
import { apiVersionOf, collectionPath, LEASES, objectPath } from './objects.ts';

export interface LeaseAccess {
  /** Undefined if there is none. */
  get(signal: AbortSignal): Promise<Lease | undefined>;
  /** Throws AlreadyExists if somebody was quicker. */
  create(spec: LeaseSpec, signal: AbortSignal): Promise<Lease>;
  /**
   * Throws Conflict unless it is still as `lease` was read. Gives up after timeoutMs, and after 5 s anyhow.
   */
  put(lease: Lease, spec: LeaseSpec, signal?: AbortSignal, timeoutMs?: number): Promise<Lease>;
}

/** One try may not use up all the time that others could use. */
const TRY_TIMEOUT_MS = 5_000;

export function leaseAccess(http: KubeHttp, ref: { namespace: string; name: string }): LeaseAccess {
  const common = {
    resource: LEASES.plural,
    timeoutMs: TRY_TIMEOUT_MS,
    maxTries: 1,
    unguarded: true,
  } as const;
  const path = objectPath(LEASES, ref);
  return {
    async get(signal) {
      try {
        return await http.json<Lease>({ ...common, verb: 'get', path, signal });
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    },
    create: (spec, signal) =>
      http.json<Lease>({
        ...common,
        verb: 'create',
        path: collectionPath(LEASES, ref.namespace),
        body: { apiVersion: apiVersionOf(LEASES), kind: LEASES.kind, metadata: ref, spec },
        signal,
      }),
    put: (lease, spec, signal, timeoutMs = TRY_TIMEOUT_MS) =>
      http.json<Lease>({
        ...common,
        verb: 'update',
        path,
        body: { ...lease, spec },
        timeoutMs: Math.min(TRY_TIMEOUT_MS, timeoutMs),
        signal,
      }),
  };
}
