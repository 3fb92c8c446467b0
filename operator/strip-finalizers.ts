// Takes the operator's finalizers off all resources, before the operator is removed: afterwards nobody would,
// and no resource or namespace with one could be deleted any more.
//
// It takes the lease first, whoever has it, and keeps it when it ends: an operator that still runs notices,
// ends, and stands by for HOLD_MS, so that it does not put back what is taken away here.
import { FINALIZER } from './api/v1alpha1/group.ts';
import { SUBSCRIPTIONS } from './api/v1alpha1/subscription.ts';
import { TOPICS } from './api/v1alpha1/topic.ts';
import type { Config } from './config.ts';
import { resourceOf } from './controllers/context.ts';
import { createKubeClient } from './kube/client.ts';
import { type Clock, type Random, sleep } from './kube/clock.ts';
import { isConflict, KubeError } from './kube/errors.ts';
import { createKubeHttp } from './kube/http.ts';
import { firstTransitions, taken } from './kube/lease.ts';
import { leaseAccess } from './kube/lease-access.ts';
import type { Logger } from './kube/logger.ts';
import { Metrics } from './kube/metrics.ts';
import type { KubeObject } from './kube/objects.ts';
import type { Transport } from './kube/transport.ts';
import { LEASE_NAME } from './run.ts';

export interface StripOptions {
  readonly config: Config;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

const HOLD_MS = 300_000;
/** A former leader may write for up to 10 s after its last renewal: this is waited out. */
const SETTLE_MS = 11_000;
const LEASE_TRIES = 10;
const TRIES = 5;

/** Returns how many resources had one. Throws KubeError. */
export async function stripFinalizers(
  options: StripOptions,
  signal: AbortSignal,
): Promise<{ readonly stripped: number }> {
  const { config, transport, clock, random, logger } = options;
  const http = createKubeHttp({ transport, clock, random, metrics: new Metrics() });
  const client = createKubeClient(http, 'fanfare-operator/strip-finalizers');
  try {
    const ranUntilNow = await takeLease(options, http, signal);
    if (ranUntilNow) await sleep(clock, SETTLE_MS, signal);
    let stripped = 0;
    for (const resource of [resourceOf(SUBSCRIPTIONS), resourceOf(TOPICS)]) {
      const namespaces = config.watchNamespaces.length === 0 ? [undefined] : config.watchNamespaces;
      for (const namespace of namespaces) {
        const scope = namespace === undefined ? {} : { namespace };
        for (const object of await client.list<KubeObject>(resource, scope, signal)) {
          if (!(object.metadata.finalizers ?? []).includes(FINALIZER)) continue;
          await again(TRIES, async () => {
            const now = await client.get<KubeObject>(resource, object.metadata, signal);
            if (now !== undefined) await client.removeFinalizer(resource, now, FINALIZER, signal);
          });
          stripped += 1;
        }
      }
    }
    logger.info({ stripped }, 'finalizers are gone; what resources have made stays in brokers');
    return { stripped };
  } finally {
    http.close();
  }
}

/** Returns whether somebody held the lease. */
async function takeLease(
  { config, clock, logger }: StripOptions,
  http: ReturnType<typeof createKubeHttp>,
  signal: AbortSignal,
): Promise<boolean> {
  const access = leaseAccess(http, { namespace: config.namespace, name: LEASE_NAME });
  const identity = `strip-finalizers_${config.name}`;
  let held = false;
  await again(LEASE_TRIES, async () => {
    const lease = await access.get(signal);
    if (lease === undefined) {
      const from = {
        apiVersion: '',
        kind: '',
        metadata: { name: '' },
        spec: { leaseTransitions: firstTransitions(clock.nowMs()) },
      };
      await access.create(taken(from, identity, HOLD_MS, clock.nowMs()), signal);
      return;
    }
    held = (lease.spec?.holderIdentity ?? '') !== '';
    await access.put(lease, taken(lease, identity, HOLD_MS, clock.nowMs()), signal);
    logger.info({ from: lease.spec?.holderIdentity }, 'took the lease: the operator stands by');
  });
  return held;
}

async function again(tries: number, act: () => Promise<void>): Promise<void> {
  for (let left = tries - 1; ; left -= 1) {
    try {
      return await act();
    } catch (error) {
      const isQuick = error instanceof KubeError && (isConflict(error) || error.reason === 'AlreadyExists');
      if (!isQuick || left <= 0) throw error;
    }
  }
}
