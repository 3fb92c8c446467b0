// A small shop as the operator would report it: what `kubectl get` shows in test/golden/crd/get.txt and in
// the docs.
import type { Condition } from '../../operator/api/v1alpha1/conditions.ts';
import { type NewCondition, setConditions } from '../../operator/core/conditions.ts';
import type { Json, Kind } from './kube-crd-samples.ts';

export interface SceneResource {
  readonly kind: Kind;
  readonly name: string;
  readonly spec: Json;
  readonly status: Json;
}

const MINUTE_MS = 60_000;

export function GOLDEN_RESOURCES(nowMs: number): readonly SceneResource[] {
  const conditions = (...set: NewCondition[]): readonly Condition[] => setConditions([], set, 1, nowMs);
  const yes = (type: NewCondition['type'], reason: NewCondition['reason']): NewCondition => ({
    type,
    status: 'True',
    reason,
    message: '',
  });
  const no = (type: NewCondition['type'], reason: NewCondition['reason']): NewCondition => ({
    ...yes(type, reason),
    status: 'False',
  });
  const consumers = (name: string, maxReplicas: number) => ({ scaleTargetRef: { name }, maxReplicas });
  const ready = yes('Ready', 'Reconciled');
  return [
    {
      kind: 'Fanfare',
      name: 'default',
      spec: { address: 'fanfare.fanfare-system.svc:7443', tls: { secretName: 'fanfare-client' } },
      status: { conditions: conditions(ready), project: 'shop' },
    },
    {
      kind: 'Topic',
      name: 'orders',
      spec: { partitions: 12 },
      status: { conditions: conditions(ready), backlog: 48_211 },
    },
    {
      kind: 'Topic',
      name: 'clicks',
      spec: { durability: 'Replicated', retentionSeconds: 3_600 },
      status: { conditions: conditions(no('Ready', 'BrokerRefused')) },
    },
    {
      kind: 'Subscription',
      name: 'billing',
      spec: { topicRef: { name: 'orders' }, ordering: true, consumers: consumers('billing', 12) },
      status: {
        conditions: conditions(ready, yes('Scaling', 'Reconciled')),
        backlog: 48_211,
        // Whole hours: kubectl shows nothing finer beyond two days.
        oldestUnackedTime: new Date(nowMs - 25.5 * 60 * MINUTE_MS).toISOString(),
        arrivalRate: 812.5,
        replicas: 5,
        desiredReplicas: 9,
      },
    },
    {
      kind: 'Subscription',
      name: 'search-index',
      spec: { topicRef: { name: 'orders' }, consumers: consumers('indexer', 4) },
      status: {
        conditions: conditions(ready, yes('Scaling', 'AtMaxReplicas')),
        backlog: 0,
        arrivalRate: 812.5,
        replicas: 4,
        desiredReplicas: 4,
      },
    },
    {
      kind: 'Subscription',
      name: 'audit',
      spec: { topicRef: { name: 'clicks' } },
      status: { conditions: conditions(no('Ready', 'TopicNotReady')) },
    },
  ];
}
