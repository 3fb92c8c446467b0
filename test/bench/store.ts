// What the embedded store costs by itself: `npx node test/bench/store.ts`. Prints, per case, the CPU and the
// time of a commit. The CPU is the process's, with LMDB's threads and the file system's work.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type EmbeddedStore, openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';

const SMALL_BYTES = 300;
const SMALL_RATE_PER_S = 1_000;
const SMALL_SECONDS = 5;
const LARGE_TOTAL_BYTES = 256 << 20;

const cases = process.argv.slice(2);
if (cases.length === 0 || cases.includes('small')) await withStore(smallCommits);
for (const kib of [64, 256, 1024]) {
  for (const partitions of [1, 8]) {
    if (cases.length === 0 || cases.includes('large')) {
      await withStore((store) => largeCommits(store, kib << 10, partitions));
    }
  }
}

async function withStore(run: (store: EmbeddedStore) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-bench-'));
  const store = await openEmbeddedStore({ dir, onWarning: console.error });
  try {
    await run(store);
  } finally {
    await store.close();
    await rm(dir, { recursive: true });
  }
}

async function smallCommits(store: EmbeddedStore): Promise<void> {
  const append = appender(store, { logEpoch: 1, partition: 0 }, SMALL_BYTES);
  const latencies: number[] = [];
  const underWay: Promise<void>[] = [];
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  // One append at a time per partition, as the port asks: a late one delays the next, and its latency counts
  // from when it was due.
  let chain = Promise.resolve();
  for (let i = 0; i < SMALL_RATE_PER_S * SMALL_SECONDS; i++) {
    const dueMs = startMs + (i * 1_000) / SMALL_RATE_PER_S;
    while (performance.now() < dueMs) await delay(1);
    const beganMs = performance.now();
    chain = chain.then(append).then(() => {
      latencies.push(performance.now() - beganMs);
    });
    underWay.push(chain);
  }
  await Promise.all(underWay);
  const cpu = process.cpuUsage(startCpu);
  const count = latencies.length;
  console.log(
    `small commits at ${SMALL_RATE_PER_S}/s: ${((cpu.user + cpu.system) / count).toFixed(0)} us CPU a commit, ` +
      `p50 ${percentile(latencies, 0.5)} ms, p99 ${percentile(latencies, 0.99)} ms, p99.9 ${percentile(latencies, 0.999)} ms, ` +
      `max ${percentile(latencies, 1)} ms; ${JSON.stringify(store.stats())}`,
  );
}

async function largeCommits(store: EmbeddedStore, chunkBytes: number, partitions: number): Promise<void> {
  const latencies: number[] = [];
  const perPartition = LARGE_TOTAL_BYTES / chunkBytes / partitions;
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  await Promise.all(
    Array.from({ length: partitions }, async (_, partition) => {
      const append = appender(store, { logEpoch: 1, partition }, chunkBytes);
      for (let i = 0; i < perPartition; i++) {
        const beganMs = performance.now();
        await append();
        latencies.push(performance.now() - beganMs);
      }
    }),
  );
  const elapsedMs = performance.now() - startMs;
  const cpu = process.cpuUsage(startCpu);
  const megabytes = LARGE_TOTAL_BYTES / 1e6;
  console.log(
    `${chunkBytes >> 10} KiB chunks, ${partitions} partitions back to back: ${((megabytes / elapsedMs) * 1e3).toFixed(0)} MB/s, ` +
      `${((cpu.user + cpu.system) / megabytes).toFixed(0)} us CPU a MB, p50 ${percentile(latencies, 0.5)} ms, ` +
      `p99 ${percentile(latencies, 0.99)} ms; ${JSON.stringify(store.stats())}`,
  );
}

function appender(store: EmbeddedStore, partition: PartitionId, bytes: number): () => Promise<void> {
  const frames = Buffer.alloc(bytes, 7);
  let offset = 0;
  return async () => {
    const firstOffset = offset++;
    const chunk = {
      firstOffset,
      count: 1,
      publishTimeMs: Date.now(),
      startByte: firstOffset * bytes,
      bytes: frames,
    };
    await store.log.append(partition, 0, firstOffset, [chunk]);
  };
}

function percentile(values: number[], p: number): string {
  values.sort((a, b) => a - b);
  return (values[Math.min(values.length - 1, Math.floor(values.length * p))] ?? 0).toFixed(2);
}
