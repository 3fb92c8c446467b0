// Topic and Subscription, as far as they are alike: observe the resource and its object in the broker, plan,
// do one step, observe again, until nothing is left to do.
//
// Whatever step this process dies in, the next one begins by observing: a finalizer that is there is not
// added again, an object that was made bears our mark.

import { FINALIZER, type Metadata } from '../api/v1alpha1/group.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import { BrokerCallError } from '../broker/admin.ts';
import type { Place } from '../broker/links.ts';
import {
  type DefinitionObserved,
  type Failure,
  type Plan,
  planDefinition,
  planFailure,
} from '../core/plan-definition.ts';
import { claimOf, ownerOf } from '../core/plan-owner.ts';
import { done, type Result, requeueAfter, retry } from '../kube/controller.ts';
import { type KubeObject, NAMESPACES } from '../kube/objects.ts';
import { type ControllerContext, forceSyncOf, hasFanfare, isPaused, placeOf } from './context.ts';
import type { DefinitionKind, FoundObject } from './definition-kind.ts';
import { isStale, perform } from './definition-steps.ts';

export const ADOPT_ANNOTATION = 'fanfare.dev/adopt';

export interface Converged<R, Found> {
  /** The resource as the last write returned it. */
  readonly resource: R;
  /** Undefined: there is no broker to ask. */
  readonly place: Place | undefined;
  readonly name: string | undefined;
  readonly found: Found | undefined;
  readonly plan: Pick<Plan<unknown, unknown>, 'conditions' | 'paused' | 'inSync' | 'lookAgainMs'>;
  readonly failure: Failure | undefined;
  /**
   * Nothing can be said yet. 'waiting': the connection or the topic has not been looked at; 'undone':
   * somebody undoes each step.
   */
  readonly undecided: 'waiting' | 'undone' | undefined;
  /** What goes into status.applied. */
  readonly applied: { readonly hash: string; readonly incarnation: string } | undefined;
}

/**
 * Enough for the finalizer, the broker, and looking at what came of it; a step that somebody else undoes at
 * once is left for the next reconcile.
 */
const MAX_STEPS = 6;

/**
 * Undefined: there is no more to do for the resource. Throws KubeErrors; what the broker refuses is in the
 * result.
 */
export async function converge<R extends Topic | Subscription, Found extends FoundObject, Create, Change>(
  ctx: ControllerContext,
  kind: DefinitionKind<R, Found, Create, Change>,
  first: R,
  isForced: boolean,
  signal: AbortSignal,
): Promise<Converged<R, Found> | undefined> {
  let resource = first;
  let fresh = isForced || resource.metadata.deletionTimestamp !== undefined;
  let failure: Failure | undefined;
  for (let steps = 0; ; steps += 1) {
    const seen = await observe(ctx, kind, resource, fresh, signal);
    failure = seen.failure;
    fresh = false;
    const { observed, place, name, found } = seen;
    const plan = planDefinition(observed);
    const converged = (): Converged<R, Found> => ({
      resource,
      place,
      name,
      found,
      plan,
      failure,
      undecided:
        failure !== undefined || plan.paused || plan.conditions.length > 0
          ? undefined
          : plan.action === undefined
            ? 'waiting'
            : 'undone',
      applied:
        plan.inSync && observed.desired !== undefined && observed.found !== undefined
          ? { hash: observed.desired.hash, incarnation: observed.found.incarnation }
          : undefined,
    });
    const { action } = plan;
    if (failure !== undefined || action === undefined || steps >= MAX_STEPS) return converged();
    try {
      const next = await perform(ctx, kind, resource, action, place, name, signal);
      if (next === undefined) return undefined;
      resource = next;
    } catch (error) {
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
      // Somebody else was quicker, or we ourselves in a former process: see what is there.
      if (isStale(error, action) && steps < MAX_STEPS) {
        fresh = true;
        continue;
      }
      failure = planFailure(error.code, error.message);
      return converged();
    }
  }
}

/** When to look at the resource again. */
export function resultOf({ plan, failure, undecided }: Converged<unknown, unknown>): Result {
  if (undecided === 'undone') return retry('what is done is undone at once: somebody else changes it too');
  if (failure?.retry) return retry(failure.conditions[0]?.message ?? 'the broker refuses');
  return plan.lookAgainMs === undefined ? done : requeueAfter(plan.lookAgainMs, 'high');
}

/** Deleted, and only others' finalizers are left: there is nothing for us to do. */
export function isGoing(resource: Topic | Subscription): boolean {
  return resource.metadata.deletionTimestamp !== undefined && !hasFinalizer(resource);
}

interface Seen<Found, Create, Change> {
  readonly observed: DefinitionObserved<Create, Change>;
  readonly place: Place | undefined;
  readonly name: string | undefined;
  readonly found: Found | undefined;
  readonly failure: Failure | undefined;
}

async function observe<R extends Topic | Subscription, Found extends FoundObject, Create, Change>(
  ctx: ControllerContext,
  kind: DefinitionKind<R, Found, Create, Change>,
  resource: R,
  fresh: boolean,
  signal: AbortSignal,
): Promise<Seen<Found, Create, Change>> {
  const { metadata, spec, status } = resource;
  const deleting = metadata.deletionTimestamp !== undefined;
  const { namespace } = metadata;
  const ends = deleting && hasFinalizer(resource) && (await namespaceEnds(ctx, namespace, signal));
  // The connection and the place are of one moment: were there an await between them, a link could come, and
  // "no link" would look like "nothing there".
  const connected = hasFanfare(ctx, namespace, spec.connectionRef.name);
  const connection = ctx.links.observe(namespace, spec.connectionRef.name, connected, deleting);
  const place = placeOf(ctx, resource);
  const name = place && kind.nameOf(resource, place.project);
  const base = {
    metadata,
    spec,
    paused: isPaused(resource),
    connection,
    applied: status?.applied,
    namespaceEnds: ends,
    finalizers: ctx.finalizers,
    finalizerTimeoutMs: ctx.finalizerTimeoutMs,
    nowMs: ctx.clock.nowMs(),
  };
  const unasked: Seen<Found, Create, Change> = {
    observed: {
      ...base,
      asked: false,
      claim: { kind: 'free' },
      gate: { kind: 'open' },
      desired: undefined,
      found: undefined,
      backlog: undefined,
    },
    place,
    name,
    found: undefined,
    failure: undefined,
  };
  const asks = deleting ? hasFinalizer(resource) && spec.deletionPolicy !== 'Retain' : !base.paused;
  if (!asks || place === undefined || name === undefined || connection.kind !== 'ready') return unasked;
  try {
    const view = place.link.view(place.project);
    const found = await kind.find(view, name, fresh, signal);
    const cluster = await ctx.clusterId(signal);
    const owner = ownerOf(cluster, metadata);
    const { gate, topic } = kind.gateOf(resource, place.project);
    const observed: DefinitionObserved<Create, Change> = {
      ...base,
      asked: true,
      claim: claimOf({
        self: metadata,
        cluster,
        rivals: rivalsOf(ctx, kind, resource, place, name),
        labels: found?.labels,
        resourceOf: (at, id): Metadata | 'unseen' | undefined =>
          ctx.watches(at) ? kind.latest.get(`${at}/${id}`)?.metadata : 'unseen',
        adopt: metadata.annotations?.[ADOPT_ANNOTATION] === 'true',
      }),
      gate,
      desired: kind.desired(resource, topic, owner),
      found: found && {
        incarnation: kind.incarnationOf(found),
        comparison: kind.compare(resource, topic, owner, found),
      },
      backlog:
        deleting && spec.deletionPolicy === 'DeleteIfEmpty' && found !== undefined
          ? await kind.backlogOf(place, name, signal)
          : undefined,
    };
    return { observed, place, name, found, failure: undefined };
  } catch (error) {
    if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
    if (!error.isAway) return { ...unasked, failure: planFailure(error.code, error.message) };
    const { health } = place.link;
    const reason = health.kind === 'away' ? health.reason : 'BrokerUnreachable';
    const away = { kind: 'unusable', reason, message: error.message } as const;
    return { ...unasked, observed: { ...unasked.observed, connection: away } };
  }
}

/** Living resources that name the same object of the same broker. */
function rivalsOf<R extends Topic | Subscription, Found extends FoundObject, Create, Change>(
  ctx: ControllerContext,
  kind: DefinitionKind<R, Found, Create, Change>,
  resource: R,
  { link }: Place,
  name: string,
): Metadata[] {
  return kind
    .candidates(resource)
    .filter((other) => {
      if (other.metadata.uid === resource.metadata.uid) return false;
      if (other.spec.managementPolicy === 'ObserveOnly') return false;
      // One that goes without touching the broker has let go already.
      if (other.metadata.deletionTimestamp !== undefined && !hasFinalizer(other)) return false;
      const theirs = placeOf(ctx, other);
      return theirs?.link.address === link.address && kind.nameOf(other, theirs.project) === name;
    })
    .map(({ metadata }) => metadata);
}

function hasFinalizer({ metadata }: KubeObject): boolean {
  return (metadata.finalizers ?? []).includes(FINALIZER);
}

interface Namespace extends KubeObject {
  readonly status?: { readonly phase?: string };
}

/**
 * Asked only for a resource that is being deleted. Throws KubeError Forbidden without the right to get
 * namespaces: then no deletion goes on.
 */
async function namespaceEnds(ctx: ControllerContext, name: string, signal: AbortSignal): Promise<boolean> {
  const found = await ctx.client('topic').get<Namespace>(NAMESPACES, { name }, signal);
  return found === undefined || found.metadata.deletionTimestamp !== undefined;
}

/** Whether somebody has asked for a look at the broker itself since the last one. */
export class ForcedSyncs {
  readonly #seen = new Map<string, string | undefined>();

  /**
   * True once for each new value of the annotation; not for one that was there at the start, since everything
   * is looked at then.
   */
  take(resource: KubeObject): boolean {
    const uid = resource.metadata.uid ?? '';
    const now = forceSyncOf(resource);
    const known = this.#seen.has(uid);
    const isNew = this.#seen.get(uid) !== now;
    this.#seen.set(uid, now);
    return known && isNew && now !== undefined;
  }

  forget(uid: string): void {
    this.#seen.delete(uid);
  }
}
