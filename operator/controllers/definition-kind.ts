// What differs between the two kinds of resource that stand for an object in a broker: Topic and
// Subscription.
import type { Subscription } from '../api/v1alpha1/subscription.ts';
import type { Topic } from '../api/v1alpha1/topic.ts';
import type { BrokerAdmin } from '../broker/admin.ts';
import type { Place } from '../broker/links.ts';
import type { ProjectView } from '../broker/project-view.ts';
import type { Comparison, Gate } from '../core/plan-definition.ts';
import type { Owner } from '../core/plan-owner.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Resource } from '../kube/objects.ts';
import type { Latest } from './latest.ts';

export interface FoundObject {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** One of the two kinds, R its resource. */
export interface DefinitionKind<R extends Topic | Subscription, Found extends FoundObject, Create, Change> {
  readonly resource: Resource;
  readonly client: KubeClient;
  readonly latest: Latest<R>;
  /** The name in the broker. */
  nameOf(resource: R, project: string): string;
  /** Resources that might name the same object: those whose id is the same, this one among them. */
  candidates(resource: R): readonly R[];
  gateOf(resource: R, project: string): { readonly gate: Gate; readonly topic?: string | undefined };
  desired(
    resource: R,
    topic: string | undefined,
    owner: Owner,
  ): { readonly create: Create; readonly hash: string } | undefined;
  compare(resource: R, topic: string | undefined, owner: Owner, found: Found): Comparison<Change>;
  incarnationOf(found: Found): string;
  find(view: ProjectView, name: string, fresh: boolean, signal: AbortSignal): Promise<Found | undefined>;
  note(view: ProjectView, name: string, found: Found | undefined): void;
  /** How many messages deleting the object would lose. */
  backlogOf(place: Place, name: string, signal: AbortSignal): Promise<number | undefined>;
  create(admin: BrokerAdmin, name: string, settings: Create, signal: AbortSignal): Promise<Found>;
  update(admin: BrokerAdmin, name: string, change: Change, signal: AbortSignal): Promise<Found>;
  delete(admin: BrokerAdmin, name: string, signal: AbortSignal): Promise<void>;
}
