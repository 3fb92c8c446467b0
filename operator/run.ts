// The operator as a whole, put together from its parts. What tests replace (API server, brokers, clock,
// chance) comes in as arguments.
//
//   API server ── http ── informers ──► controllers ──► status, events, /scale
//                  │                     │      ▲
//                elector                 ▼      │ backlogs
//                (lease)               links ── brokers
//
// Standbys keep their caches warm and answer probes. But for the lease and the mark of the leader's pod,
// whatever writes or talks to brokers runs only while this process leads.
import { createAdminClient } from './broker/admin-client.ts';
import { readCredentials } from './broker/credentials.ts';
import { BrokerLinks, type LinksOptions } from './broker/links.ts';
import { keepOwnLink } from './broker/own-link.ts';
import type { Config } from './config.ts';
import { assemble } from './controllers/assemble.ts';
import { conditionGauges } from './controllers/condition-gauges.ts';
import { markLeader } from './controllers/leader-mark.ts';
import { type ScalerServer, startScalerServer } from './keda/server.ts';
import { type Clock, type Random, sleep } from './kube/clock.ts';
import { createEventRecorder } from './kube/events.ts';
import { createKubeHttp } from './kube/http.ts';
import { type Ending, LeaderElector, type LeaderTimes } from './kube/leader.ts';
import type { Logger } from './kube/logger.ts';
import { Metrics } from './kube/metrics.ts';
import { openProbes } from './kube/probes.ts';
import { createRuntime } from './kube/runtime.ts';
import type { Transport } from './kube/transport.ts';

export const LEASE_NAME = 'fanfare-operator';

export interface OperatorOptions {
  readonly config: Config;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly connect?: LinksOptions['connect'];
  readonly leaderTimes?: Partial<LeaderTimes>;
  /** How long a resource that nothing happens to is left until the next look at it. */
  readonly resyncMs?: number;
  /** How long running work may go on after the order to stop. */
  readonly graceMs?: number;
  readonly onListening?: (ports: { readonly probes: number; readonly keda: number | undefined }) => void;
  readonly metrics?: Metrics;
}

const RESYNC_MS = 300_000;
const CERTIFICATES_MS = 60_000;

/**
 * Resolves when everything has ended: 'stopped' on order, 'lost' if this process lost the lease. Throws
 * KubeError, CredentialsError or ScalerError if it can't run, and whatever a bug throws.
 */
export async function runOperator(options: OperatorOptions, stop: AbortSignal): Promise<Ending> {
  const { config, transport, clock, random, logger, resyncMs = RESYNC_MS } = options;
  const metrics = options.metrics ?? new Metrics();
  const identity = `${config.name}_${Math.floor(random() * 2 ** 48).toString(16)}`;
  const common = { transport, clock, random, metrics };
  const unguarded = createKubeHttp(common);
  const elector = new LeaderElector({
    ...common,
    logger,
    http: unguarded,
    namespace: config.namespace,
    name: LEASE_NAME,
    identity,
    times: options.leaderTimes ?? {},
  });
  const http = createKubeHttp({ ...common, mayWrite: () => elector.held() });
  const events = createEventRecorder({
    ...common,
    http,
    logger,
    controller: 'fanfare.dev/operator',
    instance: config.name,
  });
  const links = new BrokerLinks({
    clock,
    random,
    mayWrite: () => elector.held(),
    // All looks of one round share a listing; the next round makes a new one.
    maxAgeMs: 0.9 * resyncMs,
    calls: metrics.counter('fanfare_operator_broker_calls_total', 'Calls to brokers.', ['method', 'code']),
    connect: options.connect ?? createAdminClient,
  });
  const assembly = assemble({
    ...common,
    http,
    logger,
    events,
    links,
    namespaces: config.watchNamespaces,
    finalizers: config.finalizers,
    finalizerTimeoutMs: config.finalizerTimeoutMs,
    podDeletionCost: config.podDeletionCost,
    resyncMs,
  });
  conditionGauges(metrics, assembly.informers);
  const runtime = createRuntime({
    clock,
    logger,
    metrics,
    informers: assembly.informers,
    controllers: assembly.controllers,
    events,
    elector,
    ...(options.graceMs !== undefined && { graceMs: options.graceMs }),
    async whileLeading(_, signal) {
      const { address, tls } = config;
      const loops = [assembly.backlog.run(signal)];
      if (address !== undefined && tls !== undefined) {
        loops.push(keepOwnLink({ links, address, files: tls, clock, logger }, signal));
      }
      if (config.kedaListen !== undefined) loops.push(markLeader(http, config, true, signal));
      await Promise.all(loops);
    },
  });
  const probes = await openProbes({
    ...config.probesListen,
    metrics,
    ready: runtime.ready,
    live: runtime.live,
  });
  let keda: ScalerServer | undefined;
  using ended = disposableAbort();
  try {
    if (config.kedaListen !== undefined && config.tls !== undefined) {
      // This process does not lead yet, whatever a former process of this pod has left behind.
      await markLeader(unguarded, config, false, ended.signal);
      keda = await startScalerServer({
        source: assembly.source,
        listen: config.kedaListen,
        tls: await readCredentials(config.tls),
        onUnexpected: (error) => logger.error({ error }, 'the scaler for KEDA failed'),
      });
      void renewCertificates(keda, config.tls, clock, logger, ended.signal);
    }
    options.onListening?.({ probes: probes.port, keda: keda?.port });
    return await runtime.run(stop);
  } finally {
    ended.abort();
    await keda?.stop();
    links.close();
    await probes.close();
    http.close();
  }
}

async function renewCertificates(
  keda: ScalerServer,
  files: NonNullable<Config['tls']>,
  clock: Clock,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (await sleep(clock, CERTIFICATES_MS, signal)) {
    try {
      keda.updateTls(await readCredentials(files));
    } catch (error) {
      logger.error({ error }, "the scaler's certificate can't be renewed: the old one stays in use");
    }
  }
}

function disposableAbort(): AbortController & Disposable {
  const controller = new AbortController();
  return Object.assign(controller, { [Symbol.dispose]: () => controller.abort() });
}
