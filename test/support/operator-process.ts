// The operator in a process of its own, as main.ts puts it together, with what tests need besides: a clock
// that runs faster, short leases, and a fault point at which it kills itself as by kill -9. It gets its
// options as JSON.
//
// A fault point is the n-th call that matches, to the API server ("PATCH topics/status") or to a broker
// ("createTopic"), just before it is sent, or just after its answer was got and before anybody has seen it.
import type { BrokerAdmin } from '../../operator/broker/admin.ts';
import { createAdminClient } from '../../operator/broker/admin-client.ts';
import { parseConfig } from '../../operator/config.ts';
import { type Clock, systemClock } from '../../operator/kube/clock.ts';
import type { LeaderTimes } from '../../operator/kube/leader.ts';
import { kubeTransport, loadKubeConfig, type Transport } from '../../operator/kube/transport.ts';
import { createLog } from '../../operator/log.ts';
import { runOperator } from '../../operator/run.ts';

export interface FaultPoint {
  readonly call: string;
  readonly when: 'before' | 'after';
}

export interface ProcessOptions {
  /** How many times faster than the wall clock its clock runs. */
  readonly speed?: number;
  readonly leaderTimes?: Partial<LeaderTimes>;
  readonly resyncMs?: number;
  readonly fault?: FaultPoint;
}

const BROKER_WRITES = [
  'createTopic',
  'updateTopic',
  'deleteTopic',
  'createSubscription',
  'updateSubscription',
  'deleteSubscription',
] as const satisfies readonly (keyof BrokerAdmin)[];

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  // Nothing of this process runs any more; the compiler can't know.
  for (;;) {}
}

async function around<T>(fault: FaultPoint | undefined, call: string, send: () => Promise<T>): Promise<T> {
  if (fault?.call !== call) return send();
  if (fault.when === 'before') die();
  await send();
  die();
}

function faultyTransport(transport: Transport, fault: FaultPoint | undefined): Transport {
  return {
    send: (request) => {
      const [path = ''] = request.path.split('?');
      const [, , plural = '', , sub] =
        /\/namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+)(?:\/([^/]+))?)?$/.exec(path) ?? [];
      const call = `${request.method} ${plural}${sub === undefined ? '' : `/${sub}`}`;
      return around(fault, call, () => transport.send(request));
    },
    refresh: () => transport.refresh(),
    close: () => transport.close(),
  };
}

function faultyAdmin(admin: BrokerAdmin, fault: FaultPoint | undefined): BrokerAdmin {
  const wrapped = { ...admin };
  for (const name of BROKER_WRITES) {
    const method = admin[name] as (...args: unknown[]) => Promise<unknown>;
    Object.assign(wrapped, { [name]: (...args: unknown[]) => around(fault, name, () => method(...args)) });
  }
  return wrapped;
}

function fasterClock(speed: number): Clock {
  const start = { nowMs: Date.now(), monotonicMs: performance.now() };
  return {
    nowMs: () => start.nowMs + (Date.now() - start.nowMs) * speed,
    monotonicMs: () => (performance.now() - start.monotonicMs) * speed,
    setTimer: (delayMs, fn) => systemClock.setTimer(delayMs / speed, fn),
  };
}

const { speed, leaderTimes, resyncMs, fault } = JSON.parse(process.argv[2] ?? '{}') as ProcessOptions;
const config = parseConfig(process.env);
const logger = createLog(config.logLevel, 'json');
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const ending = await runOperator(
  {
    config,
    logger,
    random: Math.random,
    clock: speed === undefined ? systemClock : fasterClock(speed),
    transport: faultyTransport(kubeTransport(loadKubeConfig(), systemClock), fault),
    connect: (options) => faultyAdmin(createAdminClient(options), fault),
    onListening: (ports) => logger.info(ports, 'started'),
    ...(leaderTimes && { leaderTimes }),
    ...(resyncMs !== undefined && { resyncMs }),
  },
  stop.signal,
);
logger.info({ ending }, 'ended');
process.exitCode = ending === 'stopped' ? 0 : 1;
