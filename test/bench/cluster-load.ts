// The same load on one embedded broker, on one broker over Redis, and on three brokers directly and through a
// relay: what each delivery costs all processes together, and what the hop adds.
import { join } from 'node:path';
import { THROUGHPUT } from './cases.ts';
import { type Rig, type RigProcess, type Side, startRig } from './cluster-rig.ts';
import type { LoadJob } from './load.ts';
import { type Cost, type Durations, type Measured, measure, rounded } from './measure.ts';

export interface ClusterCase {
  readonly name: string;
  readonly what: string;
  readonly messageBytes: number;
  /** As LoadJob.rate. */
  readonly rate: number;
  readonly outstandingMessages: number;
  readonly connections: LoadJob['connections'];
}

export interface SideResult {
  readonly case: string;
  readonly side: Side;
  readonly deliveriesPerS: number;
  readonly deliveriesPerBrokerCpuS: number;
  /** All brokers and Redis together. */
  readonly deliveriesPerCpuS: number;
  readonly publishedPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly publishP50Ms?: number;
  readonly publishP99Ms?: number;
  /** CPU in cores. */
  readonly ownerCpu: number;
  readonly relayCpu?: number;
  readonly otherCpu?: number;
  readonly redisCpu?: number;
  readonly ownerPeakRssMb: number;
  readonly relayPeakRssMb?: number;
  readonly redisPeakRssMb?: number;
}

/** What the hop costs in one case, in one run. */
export interface HopResult {
  readonly case: string;
  /** CPU of all processes per delivery, relayed ÷ direct. */
  readonly hopCpu: number;
  readonly hopP50Ms?: number;
  readonly hopP99Ms?: number;
  /** CPU of all processes per delivery, direct ÷ the other side. */
  readonly directCpuToRedis: number;
  readonly directCpuToEmbedded: number;
}

const SUBSCRIPTIONS = 8;
const SIDES: readonly Side[] = ['embedded', 'redis', 'direct', 'relayed'];

export const CLUSTER_CASES: readonly ClusterCase[] = [
  {
    ...THROUGHPUT,
    name: 'cluster-throughput',
    what: '1 publisher, 8 subscriptions, 256 B, as fast as it goes, 1 partition',
  },
  {
    ...THROUGHPUT,
    name: 'cluster-large',
    what: 'the same with messages of 64 KiB',
    messageBytes: 64 * 1024,
    outstandingMessages: 200,
  },
  {
    ...THROUGHPUT,
    name: 'cluster-latency',
    what: '1,000 messages/s to 8 subscriptions in one client process',
    rate: 1_000,
    connections: 'shared',
  },
];

export async function runClusterCase(
  bench: ClusterCase,
  durations: Durations,
  profileDir: string | undefined,
  onResult: (result: SideResult | HopResult) => void,
): Promise<void> {
  const results = new Map<Side, SideResult>();
  for (const side of SIDES) {
    const ownDir = profileDir && join(profileDir, `${bench.name}-${side}`);
    const result = await runSide(bench, side, durations, ownDir);
    onResult(result);
    results.set(side, result);
  }
  onResult(hopOf(bench, results));
}

async function runSide(
  { name, messageBytes, rate, outstandingMessages, connections }: ClusterCase,
  side: Side,
  durations: Durations,
  profileDir: string | undefined,
): Promise<SideResult> {
  const consumers = Array.from({ length: SUBSCRIPTIONS }, (_, i) => `bench-${i}`);
  await using rig: Rig = await startRig({ side, profileDir }, { topic: 'bench', subscriptions: consumers });
  const job: LoadJob = {
    ...rig.target,
    ...durations,
    topic: 'bench',
    consumers,
    connections,
    messageBytes,
    rate,
    keys: 0,
    outstandingMessages,
  };
  const measured = await measure(
    job,
    rig.processes.map(({ pid }) => pid),
  );
  if (profileDir !== undefined) await rig.stop();
  return { case: name, side, ...figuresOf(rig.processes, measured, rate > 0) };
}

function figuresOf(processes: readonly RigProcess[], measured: Measured, withPublish: boolean) {
  const { delivered, seconds, costs } = measured;
  const spent = (role: RigProcess['role']): Cost | undefined => costOf(processes, costs, role);
  const share = (role: RigProcess['role']) => rounded((spent(role)?.cpuSeconds ?? 0) / seconds);
  const redis = spent('redis');
  const all = costs.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
  const brokers = all - (redis?.cpuSeconds ?? 0);
  const relay = spent('relay');
  return {
    deliveriesPerS: Math.round(delivered / seconds),
    deliveriesPerBrokerCpuS: Math.round(delivered / brokers),
    deliveriesPerCpuS: Math.round(delivered / all),
    publishedPerS: Math.round(measured.published / seconds),
    p50Ms: rounded(measured.p50Ms),
    p99Ms: rounded(measured.p99Ms),
    p999Ms: rounded(measured.p999Ms),
    ...(withPublish && {
      publishP50Ms: rounded(measured.publishP50Ms),
      publishP99Ms: rounded(measured.publishP99Ms),
    }),
    ownerCpu: share('owner'),
    ...(relay && { relayCpu: share('relay') }),
    ...(spent('other') && { otherCpu: share('other') }),
    ...(redis && { redisCpu: share('redis') }),
    ownerPeakRssMb: Math.round(spent('owner')!.peakMb),
    ...(relay && { relayPeakRssMb: Math.round(relay.peakMb) }),
    ...(redis && { redisPeakRssMb: Math.round(redis.peakMb) }),
  };
}

/** The cost of all processes of that role; undefined: there is none. */
function costOf(
  processes: readonly RigProcess[],
  costs: readonly Cost[],
  role: RigProcess['role'],
): Cost | undefined {
  const own = costs.filter((_, i) => processes[i]!.role === role);
  if (own.length === 0) return undefined;
  return {
    cpuSeconds: own.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    peakMb: Math.max(...own.map(({ peakMb }) => peakMb)),
  };
}

function hopOf({ name, rate }: ClusterCase, results: ReadonlyMap<Side, SideResult>): HopResult {
  const of = (side: Side) => results.get(side)!;
  const cpuRatio = (a: Side, b: Side) => rounded(of(b).deliveriesPerCpuS / of(a).deliveriesPerCpuS);
  return {
    case: name,
    hopCpu: cpuRatio('relayed', 'direct'),
    // Under a load as fast as it goes, latency is only the queue that the load keeps.
    ...(rate > 0 && {
      hopP50Ms: rounded(of('relayed').p50Ms - of('direct').p50Ms),
      hopP99Ms: rounded(of('relayed').p99Ms - of('direct').p99Ms),
    }),
    directCpuToRedis: cpuRatio('direct', 'redis'),
    directCpuToEmbedded: cpuRatio('direct', 'embedded'),
  };
}
