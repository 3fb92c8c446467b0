// Sets a target's /scale, and tells of it.
import type { Consumers } from '../api/v1alpha1/consumers.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Refusal } from '../core/plan-replicas.ts';
import type { KubeClient } from '../kube/client.ts';
import { KubeError } from '../kube/errors.ts';
import { keyOf, type Resource } from '../kube/objects.ts';
import type { ControllerContext } from './context.ts';
import type { ReplicaCount } from './replica-count.ts';

export interface ReplicasToApply {
  readonly subscription: Subscription;
  readonly consumers: Consumers;
  /** The target's kind. */
  readonly resource: Resource;
  readonly count: ReplicaCount;
  readonly to: number;
  /** Why, for people. */
  readonly why: string;
}

/**
 * Writes only if the target is still as it was seen: somebody else's change is decided about anew. Returns
 * why the API server refuses; throws other KubeErrors, of which some leave open whether the write was made.
 */
export async function applyReplicas(
  ctx: Pick<ControllerContext, 'events' | 'logger'>,
  client: KubeClient,
  { subscription, consumers, resource, count, to, why }: ReplicasToApply,
  signal: AbortSignal,
): Promise<Refusal | undefined> {
  const { kind, name } = consumers.scaleTargetRef;
  const at = { namespace: subscription.metadata.namespace, name };
  const decide = (present: number): number | undefined => {
    if (!count.isKnown(present)) return undefined;
    count.sending(to);
    return to;
  };
  try {
    const changed = await client.setScale(resource, at, decide, signal);
    if (changed === undefined) return notFound(consumers);
    if (changed.to !== to) return undefined;
    count.answered(to);
    if (changed.from === to) return undefined;
    const note = `${kind} ${name} from ${changed.from} to ${to} replicas: ${why}`;
    ctx.events.record(subscription, { type: 'Normal', reason: 'Scaled', action: 'Scale', note });
    ctx.logger.info(
      { subscription: keyOf(subscription), target: name, from: changed.from, to, reason: why },
      'scaled',
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof KubeError) || error.status !== 403) throw error;
    const message = `the operator may not scale ${kind} ${name}: add its resource to operator.extraScaleTargets of the chart`;
    return { reason: 'PermissionDenied', message };
  }
}

export function notFound({ scaleTargetRef: { apiVersion, kind, name } }: Consumers): Refusal {
  return {
    reason: 'ScaleTargetNotFound',
    message: `there is no ${kind} ${name} (${apiVersion}) in this namespace, or it has no scale subresource`,
  };
}
