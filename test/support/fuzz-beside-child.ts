// A well-behaved publisher and subscriber, in a process of their own so that a flood made elsewhere does not
// slow them. It is told the broker's address and certificates, and stopped by a line on stdin. Then it prints
// what it has seen as one line of JSON.
import { once } from 'node:events';
import { connect } from '../../services/client/client.ts';
import type { BesideReport } from './fuzz-beside.ts';

const KEYS = 8;
const EVERY_MS = 5;

if (import.meta.main) await run(JSON.parse(process.argv[2] ?? '{}'));

async function run({
  address,
  tls,
}: {
  address: string;
  tls: { ca: string; cert: string; key: string };
}): Promise<void> {
  const problems: string[] = [];
  const latenciesMs: number[] = [];
  /** The number of the newest message that arrived, by key. */
  const arrived = new Map<string, number>();
  let published = 0;
  let received = 0;

  const client = connect({ address, tls, project: 'beside' });
  await client.admin.createTopic('quiet', { partitions: 2 });
  await client.admin.createSubscription('quiet', { topic: 'quiet', ordering: true, ackDeadlineSeconds: 60 });
  const { promise: allArrived, resolve } = Promise.withResolvers<void>();
  let stopping = false;
  const subscriber = client.subscriber(
    'quiet',
    (message) => {
      const { number, sentMs } = JSON.parse(Buffer.from(message.data).toString());
      const expected = (arrived.get(message.orderingKey) ?? 0) + 1;
      if (number !== expected) problems.push(`key ${message.orderingKey}: ${number} instead of ${expected}`);
      if (message.deliveryAttempt !== 1) problems.push(`key ${message.orderingKey}: ${number} came again`);
      arrived.set(message.orderingKey, number);
      latenciesMs.push(Date.now() - sentMs);
      received += 1;
      if (stopping && received >= published) resolve();
    },
    { onRetry: (error) => problems.push(`subscriber: ${error.code} ${error.message}`) },
  );
  subscriber.closed.catch((error) => problems.push(`subscriber ended: ${error}`));
  const publisher = client.publisher('quiet', {
    onRetry: (error) => problems.push(`publisher: ${error.code} ${error.message}`),
  });
  const timer = setInterval(() => {
    const orderingKey = `k${published % KEYS}`;
    const number = Math.floor(published / KEYS) + 1;
    published += 1;
    publisher
      .publish({ orderingKey, data: JSON.stringify({ number, sentMs: Date.now() }) })
      .catch((error) => problems.push(`publish: ${error}`));
  }, EVERY_MS);

  process.stdout.write('ready\n');
  await once(process.stdin, 'data');
  clearInterval(timer);
  await publisher.flush();
  stopping = true;
  if (received < published) await Promise.race([allArrived, new Promise((late) => setTimeout(late, 20_000))]);
  // A message that comes twice may come late.
  await client.close();
  latenciesMs.sort((a, b) => a - b);
  const report: BesideReport = {
    published,
    received,
    problems,
    p50Ms: latenciesMs[Math.floor(latenciesMs.length / 2)] ?? Number.NaN,
    p99Ms: latenciesMs[Math.floor(latenciesMs.length * 0.99)] ?? Number.NaN,
    maxMs: latenciesMs.at(-1) ?? Number.NaN,
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  process.exit(0);
}
