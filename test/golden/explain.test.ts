// What `fanfare explain scale` prints for statuses as the operator writes them. `vitest run --project golden
// -u` writes the files anew; commit only a difference that you can explain.
import { describe, expect, test } from 'vitest';
import type { AutoscalingStatus } from '../../operator/api/v1alpha1/autoscaling-status.ts';
import type { Condition } from '../../operator/api/v1alpha1/conditions.ts';
import { explainScale, type ScaledSubscription, whyUndecided } from '../../services/cli/scale-text.ts';

const NOW_MS = Date.parse('2026-11-21T12:00:00Z');

function condition(some: Pick<Condition, 'type' | 'status' | 'reason'> & { message?: string }): Condition {
  return { message: '', lastTransitionTime: '2026-11-21T11:56:30Z', ...some };
}

const BUSY: AutoscalingStatus = {
  desired: 7,
  recommended: 7,
  current: 5,
  need: 11.3,
  active: true,
  reason: 'Backlog',
  limitedBy: 'ScaleUpPolicy',
  message: '7 replicas (11.3 needed): Backlog, limited by ScaleUpPolicy',
  since: '2026-11-21T11:57:50Z',
  lastScaleTime: '2026-11-21T11:57:50Z',
  inputs: {
    backlog: 12_400,
    outstanding: 1_200,
    blocked: 17,
    oldestUnackedAgeSeconds: 95.4,
    arrivalRate: 180.25,
    slowArrivalRate: 60,
    ackRate: 120,
    consumers: 5,
    replicas: 5,
    readyReplicas: 5,
    partitions: 8,
    measureTime: '2026-11-21T11:59:58Z',
  },
  opinions: [
    {
      rule: 'drain-up',
      replicas: 12,
      says: '180/s arriving at 75 % utilization and 12383 messages to drain in 60 s, by replicas of 24.0/s measured: 11.30',
    },
    { rule: 'depth', says: 'mode is Drain' },
    { rule: 'idle', says: 'there is work' },
  ],
  learned: { ratePerReplica: 24, bestRatePerReplica: 26.5, outstandingPerConsumer: 240, startupSeconds: 12 },
};

function subscription(
  autoscaling: AutoscalingStatus | undefined,
  ...conditions: Condition[]
): ScaledSubscription {
  return {
    metadata: { name: 'invoices', namespace: 'shop' },
    spec: {
      consumers: {
        scaleTargetRef: { kind: 'Deployment', name: 'invoicing' },
        ...{ strategy: 'Internal', minReplicas: 1, maxReplicas: 20 },
      },
    },
    status: { conditions, autoscaling },
  };
}

const READY = condition({ type: 'Ready', status: 'True', reason: 'Reconciled' });

test.each([
  [
    'busy',
    subscription(
      BUSY,
      READY,
      condition({ type: 'Scaling', status: 'True', reason: 'Reconciled', message: 'as wanted' }),
    ),
  ],
  [
    'draining',
    subscription(
      {
        ...BUSY,
        desired: 3,
        recommended: 3,
        current: 5,
        draining: 2,
        reason: 'LessLoad',
        limitedBy: undefined,
      },
      READY,
      condition({
        type: 'Scaling',
        status: 'True',
        reason: 'Draining',
        message: 'waiting for 2 pods to finish, which hold 31 messages',
      }),
      condition({ type: 'Degraded', status: 'True', reason: 'ReplicasContended', message: 'by argocd' }),
    ),
  ],
  [
    'little-known',
    subscription(
      {
        desired: 1,
        reason: 'MetricsUnavailable',
        opinions: [{ rule: 'metrics', says: 'nothing was heard for 40 s' }],
      },
      condition({ type: 'Ready', status: 'False', reason: 'BrokerUnreachable', message: 'no answer' }),
      condition({
        type: 'Scaling',
        status: 'Unknown',
        reason: 'MetricsUnavailable',
        message: 'left as they are',
      }),
    ),
  ],
  [
    'dry-run',
    subscription(
      { ...BUSY, desired: 5, recommended: 7, reason: 'DryRun', learned: undefined, since: 'now' },
      READY,
    ),
  ],
])('%s', async (name, resource) => {
  expect(whyUndecided(resource)).toBeUndefined();
  await expect(`${explainScale(resource, NOW_MS)}\n`).toMatchFileSnapshot(`explain/${name}.txt`);
});

describe('nothing was decided', () => {
  test.each<[string, ScaledSubscription]>([
    [
      'no operator has looked at invoices yet: is one running, and does it watch this namespace?',
      { ...subscription(undefined), status: undefined },
    ],
    [
      'invoices has no spec.consumers: nothing scales its consumers. Name a target there',
      { ...subscription(undefined, READY), spec: {} },
    ],
    [
      'nothing was decided for invoices yet: ScaleTargetOwnedByHPA: HorizontalPodAutoscaler invoicing scales it',
      subscription(
        undefined,
        READY,
        condition({
          type: 'Scaling',
          status: 'False',
          reason: 'ScaleTargetOwnedByHPA',
          message: 'HorizontalPodAutoscaler invoicing scales it',
        }),
      ),
    ],
    [
      'nothing was decided for invoices yet: BrokerUnreachable',
      subscription(undefined, condition({ type: 'Ready', status: 'False', reason: 'BrokerUnreachable' })),
    ],
    ['nothing was decided for invoices yet', subscription(undefined, READY)],
  ])('%s', (says, resource) => {
    expect(whyUndecided(resource)).toBe(says);
  });
});
