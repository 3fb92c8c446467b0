// Publishing and reading with little and with much backlog: one subscription lags behind by that much while
// another one keeps up; then the first one reads it all.
import { startBroker } from '../support/broker.ts';
import type { LoadJob } from './load.ts';
import { type Durations, measure } from './measure.ts';

export interface BacklogResult {
  readonly case: string;
  readonly backlogMessages: number;
  /** Messages published while another subscription has that backlog and this one keeps up. */
  readonly publishedPerBrokerCpuS: number;
  /** Messages delivered while the backlog is read from the disk, from its beginning. */
  readonly readPerBrokerCpuS: number;
  readonly peakRssMb: number;
}

export async function runBacklog(backlogMessages: number, durations: Durations): Promise<BacklogResult> {
  await using broker = await startBroker();
  await using client = broker.connect();
  await client.admin.createTopic('bench', { partitions: 1 });
  await client.admin.createSubscription('bench-lagging', { topic: 'bench', ackDeadlineSeconds: 60 });
  await client.admin.createSubscription('bench-live', { topic: 'bench', ackDeadlineSeconds: 60 });
  const job: LoadJob = {
    address: broker.address,
    certs: `${broker.dataDir}/certs`,
    topic: 'bench',
    consumers: [],
    connections: 'shared',
    messageBytes: 256,
    rate: 0,
    keys: 0,
    outstandingMessages: 20_000,
    ...durations,
  };
  await measure({ ...job, publishCount: backlogMessages }, [broker.pid]);
  const live = await measure({ ...job, consumers: ['bench-live'] }, [broker.pid]);
  const reading = await measure({ ...job, consumers: ['bench-lagging'], publishCount: 0 }, [broker.pid]);
  return {
    case: 'backlog',
    backlogMessages,
    publishedPerBrokerCpuS: Math.round(live.published / live.costs[0]!.cpuSeconds),
    readPerBrokerCpuS: Math.round(reading.delivered / reading.costs[0]!.cpuSeconds),
    peakRssMb: Math.round(reading.costs[0]!.peakMb),
  };
}
