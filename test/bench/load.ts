// The load of one bench case, a process of its own: a publisher and the consumers, on the client library.
// Each message carries the time it was published at, so that latency needs one clock only.
import { readFileSync } from 'node:fs';
import { connect } from '../../services/client/client.ts';
import { walkFrames } from '../../services/client/frames.ts';
import { receiveJob, report, told } from './child.ts';

export interface LoadJob {
  readonly address: string;
  /** The publisher's address, if not the same. */
  readonly publisherAddress?: string;
  /** Go to the owners of partitions instead of staying at the address. Default false. */
  readonly direct?: boolean;
  readonly certs: string;
  readonly topic: string;
  /** The subscription of each consumer. */
  readonly consumers: readonly string[];
  /** All consumers on one connection, or each on its own. */
  readonly connections: 'shared' | 'separate';
  readonly messageBytes: number;
  /** Messages a second; 0: as fast as they are acknowledged. */
  readonly rate: number;
  readonly seconds: number;
  readonly warmupSeconds: number;
  /** Ordering keys to choose from; 0: none. */
  readonly keys: number;
  /** Most messages the publisher may have unanswered. */
  readonly outstandingMessages: number;
  /**
   * Publish so many and no more, without warm-up; the measured time ends with the last answer, or, with
   * `untilDelivered`, when every consumer has had them all (each of a subscription of its own). 0: nothing is
   * published.
   */
  readonly publishCount?: number;
  readonly untilDelivered?: boolean;
}

export interface LoadResult {
  readonly published: number;
  readonly delivered: number;
  /** Bytes of the chunks, as the client got them. */
  readonly deliveredBytes: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  /** Milliseconds from publish() to its answer; 0 unless there is a rate. */
  readonly publishP50Ms: number;
  readonly publishP99Ms: number;
  /** CPU of this process over the same time. */
  readonly clientCpuSeconds: number;
  /** Why the first failed publish failed; the figures are then worth nothing. */
  readonly failure?: string;
}

/** Latencies kept; later ones are not sampled. */
const MAX_SAMPLES = 1_000_000;

const job = await receiveJob<LoadJob>();
const pem = (file: string): Buffer => readFileSync(`${job.certs}/${file}`);
const tls = { ca: pem('ca.crt'), cert: pem('client.crt'), key: pem('client.key') };
const open = (address: string) => connect({ address, tls, direct: job.direct ?? false });
const publisherClient = open(job.publisherAddress ?? job.address);
const shared = open(job.address);

let measuring = false;
let delivered = 0;
let deliveredBytes = 0;
let samples: number[] = [];
let publishSamples: number[] = [];
const allDelivered = Promise.withResolvers<void>();
const wanted = job.untilDelivered ? job.publishCount! * job.consumers.length : Number.POSITIVE_INFINITY;
const epoch = performance.timeOrigin;
const nowMs = (): number => performance.now();

const consumers = job.consumers.map((subscription) => {
  const client = job.connections === 'shared' ? shared : open(job.address);
  return client.subscribeRaw(subscription, {
    maxOutstandingMessages: 100_000,
    maxOutstandingBytes: 64 * 1024 * 1024,
    onChunk: (bytes, settle) => {
      settle.ack();
      delivered += countAndSample(bytes, measuring);
      deliveredBytes += bytes.length;
      if (delivered >= wanted) allDelivered.resolve();
    },
  });
});

/**
 * Samples every message if there is a rate; otherwise only the first of each chunk, which has waited longest.
 */
function countAndSample(bytes: Buffer, sample: boolean): number {
  let count = 0;
  walkFrames(bytes, (start) => {
    if (sample && (count === 0 || job.rate > 0) && samples.length < MAX_SAMPLES)
      samples.push(nowMs() - publishedAtMs(bytes, start));
    count += 1;
  });
  return count;
}

/** A frame is the ack id, then the message, whose first field is the data; its first 8 bytes are the time. */
function publishedAtMs(bytes: Buffer, start: number): number {
  let at = start + 2 + bytes[start + 1]!;
  at += 1;
  while (bytes[at]! >= 0x80) at += 1;
  at += 2;
  while (bytes[at]! >= 0x80) at += 1;
  return bytes.readDoubleLE(at + 1) - epoch;
}

const publisher = publisherClient.publisher(job.topic, {
  maxOutstandingMessages: job.outstandingMessages,
  maxOutstandingBytes: 64 * 1024 * 1024,
});
let published = 0;
let failure: string | undefined;
let stopping = false;

function publishOne(): void {
  const data = Buffer.allocUnsafe(job.messageBytes);
  const atMs = nowMs();
  data.writeDoubleLE(epoch + atMs, 0);
  const orderingKey = job.keys > 0 ? `key-${published % job.keys}` : undefined;
  published += 1;
  const answered = publisher.publish(orderingKey === undefined ? { data } : { data, orderingKey });
  const refused = (error: unknown): void => {
    failure ??= String(error);
  };
  // Without a rate the wait is the publisher's own queue, and not worth one more promise.
  if (job.rate === 0) answered.catch(refused);
  else answered.then(() => measuring && publishSamples.push(nowMs() - atMs), refused);
}

/** Publishes between two turns of the event loop: about a batch. */
const BURST = 250;

const most = job.publishCount ?? Number.POSITIVE_INFINITY;

async function publishFast(): Promise<void> {
  while (!stopping && published < most) {
    await publisher.ready();
    for (let i = 0; i < BURST && !publisher.isFull && !stopping && published < most; i += 1) publishOne();
  }
}

/** An open loop: a message is due at its time, whatever became of those before it. */
async function publishAtRate(): Promise<void> {
  const startMs = nowMs();
  let sent = 0;
  while (!stopping && sent < most) {
    const due = Math.min(most, Math.floor(((nowMs() - startMs) * job.rate) / 1000));
    for (; sent < due; sent += 1) publishOne();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function sorted(values: number[]): (q: number) => number {
  values.sort((a, b) => a - b);
  return (q) => values[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0;
}

await publisherClient.admin.getTopic(job.topic).catch(() => undefined);
report('ready');
await told('start');
const publishing = job.rate > 0 ? publishAtRate() : publishFast();
if (job.publishCount === undefined)
  await new Promise((resolve) => setTimeout(resolve, job.warmupSeconds * 1000));

report('measuring');
measuring = true;
const before = { published, delivered, deliveredBytes, atMs: nowMs(), cpu: process.cpuUsage() };
samples = [];
publishSamples = [];
// A fixed number of messages takes as long as it takes.
if (job.publishCount) {
  await publishing.then(() => publisher.close());
  if (job.untilDelivered) await allDelivered.promise;
} else await new Promise((resolve) => setTimeout(resolve, job.seconds * 1000));
const seconds = (nowMs() - before.atMs) / 1000;
const cpu = process.cpuUsage(before.cpu);
measuring = false;
const quantile = sorted(samples);
const publishQuantile = sorted(publishSamples);
const result: LoadResult = {
  published: published - before.published,
  delivered: delivered - before.delivered,
  deliveredBytes: deliveredBytes - before.deliveredBytes,
  seconds,
  p50Ms: quantile(0.5),
  p99Ms: quantile(0.99),
  p999Ms: quantile(0.999),
  publishP50Ms: publishQuantile(0.5),
  publishP99Ms: publishQuantile(0.99),
  clientCpuSeconds: (cpu.user + cpu.system) / 1e6,
  ...(failure !== undefined && { failure }),
};
report('measured', result);
stopping = true;
await publishing;
await publisher.close();
await Promise.all(consumers.map((consumer) => consumer.close()));
process.exit(0);
