// Loads servers with a job and takes what that costs them over exactly the time that the load measures.
import { startChild } from './child.ts';
import type { LoadJob, LoadResult } from './load.ts';
import { cpuSeconds, memoryMb, resetPeak } from './process-stats.ts';

export interface Durations {
  readonly seconds: number;
  readonly warmupSeconds: number;
}

export interface Cost {
  readonly cpuSeconds: number;
  readonly peakMb: number;
}

export interface Measured extends LoadResult {
  /** The cost of each process, in the order of the pids. */
  readonly costs: readonly Cost[];
}

/** `onEdge` is called at the beginning and at the end of the measured time. Rejects if a publish fails. */
export async function measure(
  job: LoadJob,
  pids: readonly number[],
  onEdge: () => void = () => {},
): Promise<Measured> {
  const load = startChild('./load.ts', job);
  await load.next('ready');
  load.send('start');
  await load.next('measuring');
  for (const pid of pids) resetPeak(pid);
  const before = pids.map(cpuSeconds);
  onEdge();
  const result = await load.next<LoadResult>('measured');
  onEdge();
  const costs = pids.map((pid, i) => ({
    cpuSeconds: cpuSeconds(pid) - before[i]!,
    peakMb: memoryMb(pid).peakMb,
  }));
  await load.gone;
  if (result.failure !== undefined) throw new Error(`a publish failed: ${result.failure}`);
  return { ...result, costs };
}

/** Rounds to two decimals. */
export function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

/** Rounds to three significant digits: for figures far below 1, such as CPU shares. */
export function significant(value: number): number {
  return Number(value.toPrecision(3));
}
