// How many resources are in which condition, for alerts: somebody should hear of a Topic that is not Synced
// for hours. Counted when metrics are read.
import type { Condition } from '../api/v1alpha1/conditions.ts';
import type { Informer } from '../kube/informer.ts';
import type { Metrics, Sample } from '../kube/metrics.ts';
import type { KubeObject } from '../kube/objects.ts';

const KINDS = ['fanfares', 'topics', 'subscriptions'];

export function conditionGauges(metrics: Metrics, informers: readonly Informer<KubeObject>[]): void {
  metrics.gauge(
    'fanfare_operator_resources',
    'Resources by condition and its status.',
    ['resource', 'condition', 'status'],
    () => informers.filter(({ resource }) => KINDS.includes(resource.plural)).flatMap(samples),
  );
}

function samples(informer: Informer<KubeObject>): Sample[] {
  const counts = new Map<string, number>();
  for (const object of informer.list()) {
    const { status } = object as KubeObject & { status?: { conditions?: readonly Condition[] } };
    for (const condition of status?.conditions ?? []) {
      const id = `${condition.type}\n${condition.status}`;
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  return [...counts].map(([id, value]) => ({ labels: [informer.resource.plural, ...id.split('\n')], value }));
}
