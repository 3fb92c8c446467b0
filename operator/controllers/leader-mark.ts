// Marks the leader's pod with a label, for the Service that KEDA calls: only the leader knows decisions.
import { createKubeClient } from '../kube/client.ts';
import { isNotFound, KubeError } from '../kube/errors.ts';
import type { KubeHttp } from '../kube/http.ts';
import { PODS } from '../kube/objects.ts';

export const LEADER_LABEL = 'fanfare.dev/leader';

/**
 * Does nothing outside of a pod, where there is nothing to mark. Throws KubeError if the API server refuses;
 * if it is away, only when the mark is to be set.
 */
export async function markLeader(
  http: KubeHttp,
  { name, namespace }: { readonly name: string; readonly namespace: string },
  leads: boolean,
  signal: AbortSignal,
): Promise<void> {
  const client = createKubeClient(http, 'fanfare-operator/leader');
  const patch = { metadata: { labels: { [LEADER_LABEL]: leads ? 'true' : null } } };
  try {
    await client.mergePatch(PODS, { name, namespace }, patch, signal);
  } catch (error) {
    if (signal.aborted || isNotFound(error)) return;
    if (error instanceof KubeError && error.transient && !leads) return;
    throw error;
  }
}
