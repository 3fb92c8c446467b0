// One step of a plan, carried out: the calls, what they answer, the event.
import { FINALIZER } from '../api/v1alpha1/group.ts';
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import type { BrokerCallError } from '../broker/admin.ts';
import type { Place } from '../broker/links.ts';
import type { Action } from '../core/plan-definition.ts';
import type { KubeObject } from '../kube/objects.ts';
import type { ControllerContext } from './context.ts';
import type { DefinitionKind, FoundObject } from './definition-kind.ts';

/** Returns the resource as it is now; undefined: there is no more to do for it. */
export async function perform<R extends Topic | Subscription, Found extends FoundObject, Create, Change>(
  ctx: ControllerContext,
  kind: DefinitionKind<R, Found, Create, Change>,
  resource: R,
  action: Action<Create, Change>,
  place: Place | undefined,
  name: string | undefined,
  signal: AbortSignal,
): Promise<R | undefined> {
  const tell = (type: 'Normal' | 'Warning', reason: string, note: string): void =>
    ctx.events.record(resource, { type, reason, action: 'Reconcile', note });
  switch (action.kind) {
    case 'addFinalizer':
      return kind.latest.note(await kind.client.addFinalizer(kind.resource, resource, FINALIZER, signal));
    case 'removeFinalizer': {
      const rest = await kind.client.removeFinalizer(kind.resource, resource, FINALIZER, signal);
      // Told once, by whoever really took the finalizer off.
      if (rest !== undefined && action.left !== undefined) leftBehind(ctx, resource, action.left, tell);
      if (rest === undefined || resource.metadata.deletionTimestamp !== undefined) return undefined;
      return kind.latest.note(rest);
    }
  }
  // The plan has no such steps without a connection.
  if (place === undefined || name === undefined) return undefined;
  const { admin } = place.link;
  const view = place.link.view(place.project);
  switch (action.kind) {
    case 'create': {
      kind.note(view, name, await kind.create(admin, name, action.settings, signal));
      if (action.again)
        tell('Warning', 'Recreated', `${name} was not in the broker any more and was made anew, empty`);
      else tell('Normal', 'Created', `made ${name}`);
      return resource;
    }
    case 'update': {
      kind.note(view, name, await kind.update(admin, name, action.change, signal));
      const what = Object.keys(action.change as object).join(', ');
      tell(action.why === 'DriftRepaired' ? 'Warning' : 'Normal', action.why, `set ${what} of ${name}`);
      return resource;
    }
    case 'delete': {
      await kind.delete(admin, name, signal);
      kind.note(view, name, undefined);
      tell('Normal', 'Deleted', `deleted ${name}`);
      return resource;
    }
  }
}

function leftBehind(
  ctx: ControllerContext,
  { kind, metadata }: KubeObject,
  why: string,
  tell: (type: 'Warning', reason: string, note: string) => void,
): void {
  ctx.metrics
    .counter(
      'fanfare_operator_left_behind_total',
      'Objects left in a broker though they should have been deleted.',
      ['kind'],
    )
    .add([kind]);
  ctx.logger.warn(
    { kind, namespace: metadata.namespace, name: metadata.name, reason: why },
    'left behind in the broker',
  );
  tell('Warning', 'LeftBehind', `it stays in the broker: ${why}`);
}

/** Whether the step failed because the view was older than the broker. */
export function isStale({ code }: BrokerCallError, action: Action<unknown, unknown>): boolean {
  if (code === 'ALREADY_EXISTS') return action.kind === 'create';
  return code === 'NOT_FOUND' && action.kind === 'update';
}
