// fanfare cluster | cluster drain: shows the brokers of a cluster, and lets one give its partitions away.
import { delay } from '../../client/backoff.ts';
import type { Client } from '../../client/client.ts';
import type {
  BrokerInfo,
  ClusterInfo,
  PartitionInfo,
  PartitionMoveInfo,
} from '../../client/cluster-types.ts';
import { FanfareError } from '../../client/errors.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { notice } from '../notice.ts';
import { type Columns, formatTable, printOver, printText } from '../output.ts';
import { withClient } from '../session.ts';
import { standardOutput } from '../standard-output.ts';
import { formatCount } from '../units.ts';

export interface ClusterFlags extends CommonFlags {
  readonly partitions?: boolean;
  readonly watch?: boolean;
}

export interface DrainFlags extends CommonFlags {
  readonly revoke?: boolean;
  readonly wait?: boolean;
}

const WATCH_MS = 1_000;
const WAIT_POLL_MS = 200;
/** How many moves the table shows; more are in the JSON. */
const MOVES_SHOWN = 10;

const BROKERS: Columns<BrokerInfo> = {
  broker: (broker) => broker.name,
  address: (broker) => broker.address,
  state: (broker) => (broker.draining ? 'draining' : 'serving'),
  version: (broker) => broker.version,
  assigned: (broker) => broker.assignedPartitions,
  owned: (broker) => broker.ownedPartitions,
  consumers: (broker) => broker.consumers,
  'publish/s': (broker) => formatCount(broker.publishedPerSecond),
  'deliver/s': (broker) => formatCount(broker.deliveredPerSecond),
};

const PARTITIONS: Columns<PartitionInfo> = {
  topic: ({ topic }) => shortName(topic),
  partition: ({ partition }) => partition,
  owner: ({ owner }) => owner || '-',
  assigned: ({ assigned }) => assigned || '-',
  epoch: ({ ownerEpoch }) => ownerEpoch,
};

const MOVES: Columns<PartitionMoveInfo> = {
  time: ({ time }) => time?.toISOString() ?? '-',
  topic: ({ topic }) => shortName(topic),
  partition: ({ partition }) => partition,
  from: ({ from }) => from || '-',
  to: ({ to }) => to || '-',
  reason: ({ reason }) => reason,
};

export async function showCluster(flags: ClusterFlags, signal: AbortSignal): Promise<void> {
  const options = { partitions: flags.partitions ?? false, signal };
  await withClient(flags, async (client) => {
    if (!flags.watch) {
      await print(await client.cluster.get(options), flags);
      return;
    }
    while (!signal.aborted) {
      await print(await client.cluster.get(options), flags);
      await pause(WATCH_MS, signal);
    }
  });
  if (signal.aborted) throw new CliError('', EXIT.interrupted);
}

export async function drainBroker(name: string, flags: DrainFlags, signal: AbortSignal): Promise<void> {
  const revoke = flags.revoke ?? false;
  await withClient(flags, async (client) => {
    try {
      await client.cluster.drain(name, { revoke, signal });
    } catch (error) {
      // The broker's message names the brokers that there are: more use than the usual advice.
      if (error instanceof FanfareError && error.code === 'NOT_FOUND') {
        throw new CliError(error.message, EXIT.notFound, { cause: error });
      }
      throw error;
    }
    if (flags.wait) await waitForDrain(client, name, revoke, signal);
  });
  if (signal.aborted) throw new CliError('', EXIT.interrupted);
}

/** Waits until the broker has no partitions left or is gone; with `revoke`, until it takes some again. */
async function waitForDrain(
  client: Client,
  name: string,
  revoke: boolean,
  signal: AbortSignal,
): Promise<void> {
  let shown = -1;
  while (!signal.aborted) {
    const { brokers, partitions } = await client.cluster.get({ partitions: true, signal });
    const broker = brokers.find((each) => each.name === name);
    if (revoke) {
      if (broker === undefined)
        throw new CliError(`no living broker has the name ${name} any more`, EXIT.notFound);
      if (!broker.draining) return;
    } else {
      // Assigned ones count, too: the broker may be about to own them.
      const left = partitions.filter(({ owner, assigned }) => owner === name || assigned === name).length;
      if (broker === undefined || left === 0) return;
      if (left !== shown) notice(`${name} has ${left} ${left === 1 ? 'partition' : 'partitions'} left`);
      shown = left;
    }
    await pause(WAIT_POLL_MS, signal);
  }
}

function print(cluster: ClusterInfo, flags: ClusterFlags): Promise<void> {
  if (flags.output === 'json') {
    return printText(flags.watch ? JSON.stringify(cluster) : JSON.stringify(cluster, null, 2));
  }
  const text = describe(cluster, flags.partitions ?? false);
  return flags.watch && standardOutput().isTerminal ? printOver(text) : printText(text);
}

/** The cluster as text, for people. */
export function describe(cluster: ClusterInfo, withPartitions: boolean): string {
  const { clusterId, coordinator, coordinatorTerm, assignmentVersion, recentMoves } = cluster;
  const head =
    clusterId === ''
      ? 'one broker on an embedded store, no cluster'
      : `cluster ${clusterId}, coordinator ${coordinator || 'none'} (term ${coordinatorTerm}), assignment ${assignmentVersion}`;
  const parts = [head, formatTable(cluster.brokers, BROKERS)];
  if (withPartitions) {
    parts.push(
      cluster.partitions.length === 0 ? 'no partitions' : formatTable(cluster.partitions, PARTITIONS),
    );
  }
  if (recentMoves.length > 0) {
    const more = recentMoves.length > MOVES_SHOWN ? `, the last ${MOVES_SHOWN} of ${recentMoves.length}` : '';
    parts.push(`recent moves${more}:\n${formatTable(recentMoves.slice(0, MOVES_SHOWN), MOVES)}`);
  }
  return parts.join('\n\n');
}

/** "orders" in the default project, "other/orders" in another. */
function shortName(topic: string): string {
  const [, project, , id] = topic.split('/');
  return project === 'default' ? (id ?? topic) : `${project}/${id}`;
}

/** Resolves after `ms`, or early when the signal is aborted: look at the signal afterwards. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, signal).catch((error) => {
    if (!signal.aborted) throw error;
  });
}
