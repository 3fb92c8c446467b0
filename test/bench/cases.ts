// The cases of the bench: what each loads the broker with, and how it is measured.
//
// The broker is a process of its own with its default settings (mutual TLS, LMDB, durable), the load is
// another one, the ceiling a third. The CPU counted is the whole broker process's: all its threads, and the
// kernel's work for it.
import { startBroker } from '../support/broker.ts';
import { startChild } from './child.ts';
import type { LoadJob } from './load.ts';
import { type Durations, measure, rounded } from './measure.ts';

export interface BenchCase {
  readonly name: string;
  readonly what: string;
  readonly partitions: number;
  readonly subscriptions: number;
  readonly consumersPerSubscription: number;
  readonly messageBytes: number;
  /** Messages a second; 0: as fast as they are acknowledged. */
  readonly rate: number;
  readonly ordering: boolean;
  readonly keys: number;
  readonly outstandingMessages: number;
  readonly connections: LoadJob['connections'];
  /** Messages published before the measurement and read by nobody. */
  readonly backlogMessages?: number;
}

export interface CaseResult {
  readonly case: string;
  readonly deliveriesPerS: number;
  readonly deliveriesPerBrokerCpuS: number;
  readonly publishedPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly peakRssMb: number;
  /** Deliveries of grpc-js alone, measured right after the broker in the same run. */
  readonly ceilingDeliveriesPerCpuS: number;
}

export const THROUGHPUT: BenchCase = {
  name: 'throughput',
  what: '1 publisher, 8 subscriptions, 256 B, as fast as it goes',
  partitions: 1,
  subscriptions: 8,
  consumersPerSubscription: 1,
  messageBytes: 256,
  rate: 0,
  ordering: false,
  keys: 0,
  outstandingMessages: 20_000,
  connections: 'separate',
};

export const CASES: readonly BenchCase[] = [
  THROUGHPUT,
  {
    ...THROUGHPUT,
    name: 'large',
    what: 'the same with messages of 64 KiB',
    messageBytes: 64 * 1024,
    outstandingMessages: 200,
  },
  {
    ...THROUGHPUT,
    name: 'latency',
    what: '1,000 messages/s to 8 subscriptions in one client process (one connection)',
    rate: 1000,
    connections: 'shared',
  },
  {
    ...THROUGHPUT,
    name: 'latency-8-connections',
    what: 'the same, each subscription on a connection of its own',
    rate: 1000,
  },
  {
    ...THROUGHPUT,
    name: 'ordered',
    what: '1 subscription with ordering, 8 consumers, 1,000 keys, 4 partitions',
    partitions: 4,
    subscriptions: 1,
    consumersPerSubscription: 8,
    ordering: true,
    keys: 1000,
  },
  { ...THROUGHPUT, name: 'fan-out-1', what: '1 subscription', subscriptions: 1 },
  { ...THROUGHPUT, name: 'fan-out-64', what: '64 subscriptions', subscriptions: 64, connections: 'shared' },
];

export async function runCase(
  bench: BenchCase,
  durations: Durations,
  profileDir: string | undefined,
): Promise<CaseResult> {
  await using broker = await startBroker({
    nodeArgs: profileDir === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`],
  });
  await using client = broker.connect();
  await client.admin.createTopic('bench', { partitions: bench.partitions });
  const consumers: string[] = [];
  for (let i = 0; i < bench.subscriptions; i += 1) {
    const name = `bench-${i}`;
    await client.admin.createSubscription(name, {
      topic: 'bench',
      ordering: bench.ordering,
      ackDeadlineSeconds: 60,
    });
    for (let k = 0; k < bench.consumersPerSubscription; k += 1) consumers.push(name);
  }
  const certs = `${broker.dataDir}/certs`;
  const job: LoadJob = { ...bench, ...durations, address: broker.address, certs, topic: 'bench', consumers };
  const measured = await measure(job, [broker.pid]);
  if (profileDir !== undefined) await broker.stop();
  const ceiling = startChild('./ceiling-server.ts', { certs });
  const { address } = await ceiling.next<{ address: string }>('listening');
  const most = await measure({ ...job, address }, [ceiling.pid]);
  await ceiling.stop();
  return {
    case: bench.name,
    deliveriesPerS: Math.round(measured.delivered / measured.seconds),
    deliveriesPerBrokerCpuS: Math.round(measured.delivered / measured.costs[0]!.cpuSeconds),
    publishedPerS: Math.round(measured.published / measured.seconds),
    p50Ms: rounded(measured.p50Ms),
    p99Ms: rounded(measured.p99Ms),
    p999Ms: rounded(measured.p999Ms),
    peakRssMb: Math.round(measured.costs[0]!.peakMb),
    ceilingDeliveriesPerCpuS: Math.round(most.delivered / most.costs[0]!.cpuSeconds),
  };
}
