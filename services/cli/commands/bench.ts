// fanfare bench: a load test from the user's side. It makes a topic of its own and some subscriptions,
// and tells how fast messages came through. The numbers in the README are from test/bench, which looks
// at the broker's side too.
import { randomUUID } from 'node:crypto';
import type { Client } from '../../client/client.ts';
import type { Subscription } from '../../client/subscription.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { sayWhenCutOff } from '../interruption.ts';
import { printOne } from '../output.ts';
import { withClient } from '../session.ts';
import { formatCount, formatSize } from '../units.ts';

export interface BenchFlags extends CommonFlags {
  readonly messages: number;
  readonly size: number;
  readonly subscriptions: number;
  readonly partitions: number;
  /** Messages a second; undefined: as fast as it goes. */
  readonly rate?: number;
}

interface BenchResult {
  readonly messages: number;
  readonly bytes: number;
  readonly publishedPerS: number;
  readonly deliveries: number;
  readonly deliveredPerS: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
}

/** The latency of each delivery is kept in memory. */
const MAX_DELIVERIES = 100_000_000;

export async function bench(flags: BenchFlags, signal: AbortSignal): Promise<void> {
  if (flags.messages * flags.subscriptions > MAX_DELIVERIES) {
    throw new CliError(
      `--messages × --subscriptions is ${formatCount(flags.messages * flags.subscriptions)}: give at most ${formatCount(MAX_DELIVERIES)} deliveries in all`,
      EXIT.usage,
    );
  }
  const result = await withClient(flags, async (client) => {
    const topic = `bench-${randomUUID().slice(0, 8)}`;
    sayWhenCutOff(() => `the topic ${topic} may be left: topic delete --force ${topic}`);
    await client.admin.createTopic(topic, { partitions: flags.partitions });
    try {
      return await measure(client, topic, flags, signal);
    } finally {
      await client.admin.deleteTopic(topic, { force: true });
    }
  });
  if (signal.aborted) throw new CliError('interrupted: nothing was measured', EXIT.interrupted);
  await printOne(flags.output, result, {
    published: (r) =>
      `${formatCount(r.messages)} of ${formatSize(flags.size)}, ${formatCount(r.publishedPerS)}/s`,
    delivered: (r) => `${formatCount(r.deliveries)}, ${formatCount(r.deliveredPerS)}/s`,
    latency: (r) =>
      `p50 ${r.p50Ms.toFixed(2)} ms, p99 ${r.p99Ms.toFixed(2)} ms, p99.9 ${r.p999Ms.toFixed(2)} ms`,
  });
}

async function measure(
  client: Client,
  topic: string,
  flags: BenchFlags,
  signal: AbortSignal,
): Promise<BenchResult> {
  const names = Array.from({ length: flags.subscriptions }, (_, n) => `${topic}-${n}`);
  await Promise.all(names.map((name) => client.admin.createSubscription(name, { topic })));
  const latencies = new Float64Array(flags.messages * flags.subscriptions);
  let deliveries = 0;
  const startMs = performance.now();
  const consumers = names.map((name) =>
    consume(client.subscribe(name, { signal }), flags.messages, (latencyMs) => {
      latencies[deliveries++] = latencyMs;
    }),
  );
  await publishAll(client, topic, flags, signal);
  const publishedMs = performance.now() - startMs;
  await Promise.all(consumers);
  const deliveredMs = performance.now() - startMs;
  const sorted = latencies.subarray(0, deliveries).sort();
  const percentile = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return {
    messages: flags.messages,
    bytes: flags.messages * flags.size,
    publishedPerS: (flags.messages / publishedMs) * 1_000,
    deliveries,
    deliveredPerS: (deliveries / deliveredMs) * 1_000,
    p50Ms: percentile(0.5),
    p99Ms: percentile(0.99),
    p999Ms: percentile(0.999),
  };
}

async function publishAll(
  client: Client,
  topic: string,
  flags: BenchFlags,
  signal: AbortSignal,
): Promise<void> {
  await using publisher = client.publisher(topic, { signal });
  const failures: Error[] = [];
  const startMs = performance.now();
  for (let n = 0; n < flags.messages && failures.length === 0; n++) {
    if (flags.rate !== undefined) await until(startMs + (n * 1_000) / flags.rate);
    if (publisher.isFull) await publisher.ready();
    const data = Buffer.alloc(flags.size, 'x');
    data.writeDoubleLE(performance.now());
    publisher.publish({ data }).catch((error) => failures.push(error));
    // Answers are read between turns of the event loop, not within this loop.
    if (flags.rate === undefined && n % 1_000 === 999) await new Promise(setImmediate);
  }
  await publisher.flush();
  if (failures.length > 0) throw failures[0];
}

async function consume(
  subscription: Subscription,
  messages: number,
  onMessage: (latencyMs: number) => void,
): Promise<void> {
  let received = 0;
  for await (const message of subscription) {
    onMessage(performance.now() - message.data.readDoubleLE());
    message.ack();
    if (++received === messages) return;
  }
}

/**
 * Waits until about that time: timers are good to a millisecond or so, and several
 * messages may be due at once.
 */
async function until(timeMs: number): Promise<void> {
  const waitMs = timeMs - performance.now();
  if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
}
