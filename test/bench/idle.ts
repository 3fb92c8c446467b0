// What idle subscribers cost: many streams over a few connections, none of which gets anything.
import { readFileSync } from 'node:fs';
import { connect } from '../../services/client/client.ts';
import { startBroker } from '../support/broker.ts';
import { cpuSeconds, memoryMb } from './process-stats.ts';

export interface IdleResult {
  readonly case: string;
  readonly streams: number;
  readonly connections: number;
  readonly rssMb: number;
  readonly baseRssMb: number;
  /** CPU in cores over the measured seconds. */
  readonly cpuShare: number;
}

const SUBSCRIPTIONS = 10;

export async function runIdle(streams: number, connections: number, seconds: number): Promise<IdleResult> {
  await using broker = await startBroker();
  const tls = {
    ca: readFileSync(broker.tls.ca),
    cert: readFileSync(broker.tls.cert),
    key: readFileSync(broker.tls.key),
  };
  const clients = Array.from({ length: connections }, () => connect({ address: broker.address, tls }));
  const { admin } = clients[0]!;
  await admin.createTopic('bench', { partitions: 8 });
  for (let i = 0; i < SUBSCRIPTIONS; i += 1) await admin.createSubscription(`bench-${i}`, { topic: 'bench' });
  const base = memoryMb(broker.pid).nowMb;
  for (let i = 0; i < streams; i += 1) {
    clients[i % connections]!.subscribeRaw(`bench-${i % SUBSCRIPTIONS}`, { onChunk: () => {} });
  }
  // The broker says when all streams are open.
  for await (const backlogs of admin.watchBacklog({ intervalMs: 500 })) {
    const open = backlogs.reduce((sum, { consumers }) => sum + consumers, 0);
    if (open === streams) break;
  }
  const before = cpuSeconds(broker.pid);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const result = {
    case: 'idle',
    streams,
    connections,
    rssMb: Math.round(memoryMb(broker.pid).nowMb),
    baseRssMb: Math.round(base),
    cpuShare: Math.round(((cpuSeconds(broker.pid) - before) / seconds) * 1000) / 1000,
  };
  for (const client of clients) await client.close();
  return result;
}
