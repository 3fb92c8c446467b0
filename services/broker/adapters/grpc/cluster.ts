// fanfare.v1.Cluster: who is alive, who should own what and does, and draining. Answers come from what this
// broker knows; only the owners of single partitions are asked of the store. A broker that is alone is a
// cluster of one.
import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type BrokerSchema,
  Cluster,
  type PartitionMoveSchema,
  type PartitionOwnershipSchema,
} from '../../../gen/fanfare/v1/cluster_pb.ts';
import { BrokerError } from '../../core/errors.ts';
import { quote } from '../../core/names.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { AuditRecord, Definitions } from '../../engine/definitions/definitions.ts';
import type { RecentMove } from '../../engine/membership/cluster-moves.ts';
import { eligibleMembers } from '../../engine/membership/coordinator.ts';
import type { SelfMember } from '../../engine/membership/membership-keeper.ts';
import type { Routes } from '../../engine/membership/routes.ts';
import { MAX_RESPONSE_BYTES } from '../../limits.ts';
import type { ClusterView } from '../../ports/membership-store.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import type { Authorize } from './identity.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';

/** The most partitions in one question to the store. */
const MAX_DESCRIBED = 500;
/** What a partition takes in an answer, besides the names. */
const PARTITION_BYTES = 32;
/** What access rules and the audit call the cluster. */
const RESOURCE = 'cluster';

/** What is known of the cluster. */
export interface ClusterStatus {
  readonly identity: string;
  readonly view: ClusterView | undefined;
  readonly moves: { list(): readonly RecentMove[] };
  setDrained(name: string, drained: boolean): Promise<void>;
}

export interface ClusterServiceOptions {
  readonly border: RpcBorder;
  readonly authorize: Authorize;
  readonly audit: (record: AuditRecord) => void;
  readonly definitions: Pick<Definitions, 'topics'>;
  readonly cluster: ClusterStatus;
  readonly routes: Routes;
  readonly ownership: Pick<OwnershipStore, 'describe'>;
}

/** The cluster of a broker without others. */
export function soleCluster(self: SelfMember): ClusterStatus {
  return {
    identity: '',
    get view() {
      const { id, name, version, address, load } = self;
      const member = { id, name, version, address: address(), draining: false, load: load() };
      return {
        members: [member],
        coordinator: { id, term: 0 },
        assignmentVersion: 0,
        drained: [],
        missed: false,
      };
    },
    moves: { list: () => [] },
    setDrained: async () => {},
  };
}

export function clusterService(options: ClusterServiceOptions): GrpcService {
  const { border, authorize, audit, cluster, routes } = options;
  const { method } = Cluster;
  return grpcService(Cluster, {
    getCluster: border.unary(method.getCluster, async ({ includePartitions }, { principal }) => {
      authorize(principal, 'read', RESOURCE);
      const view = viewOf(cluster);
      const partitions = [...partitionsOf(options)];
      const assigned = new Map<string, number>();
      for (const { id } of partitions) {
        const name = routes.targetOf(id)?.name ?? '';
        assigned.set(name, (assigned.get(name) ?? 0) + 1);
      }
      return {
        clusterId: cluster.identity,
        brokers: view.members.map((member) => brokerMessage(member, view, assigned.get(member.name) ?? 0)),
        coordinator: view.members.find(({ id }) => id === view.coordinator.id)?.name ?? '',
        coordinatorTerm: BigInt(view.coordinator.term),
        assignmentVersion: BigInt(view.assignmentVersion),
        partitions: includePartitions ? await ownerships(partitions, view, options) : [],
        recentMoves: recentMoves(options),
      };
    }),
    drainBroker: border.unary(method.drainBroker, async ({ name, revoke }, { principal }) => {
      authorize(principal, 'update', RESOURCE);
      const record = {
        principal,
        verb: 'update',
        resource: `${RESOURCE}/brokers/${name.slice(0, 255)}`,
      } as const;
      try {
        checkDrain(viewOf(cluster), name, revoke);
        await cluster.setDrained(name, !revoke);
        audit({ ...record, result: 'OK' });
        return {};
      } catch (error) {
        if (error instanceof BrokerError) audit({ ...record, result: error.code, message: error.message });
        throw error;
      }
    }),
  });
}

function viewOf({ view }: ClusterStatus): ClusterView {
  if (view !== undefined) return view;
  throw new BrokerError(
    'UNAVAILABLE',
    'this broker has not joined the cluster yet: ask again, or another one',
  );
}

function checkDrain(view: ClusterView, name: string, revoke: boolean): void {
  const lives = view.members.some((member) => member.name === name);
  const drained = view.drained.includes(name);
  if (revoke ? !lives && !drained : !lives) {
    const names = view.members.map((member) => member.name).slice(0, 20);
    throw new BrokerError(
      'NOT_FOUND',
      `no living broker is named ${quote(name)}: there are ${names.join(', ')}`,
    );
  }
  if (revoke || drained) return;
  const rest = { members: view.members.filter((member) => member.name !== name), drained: [] };
  const remaining = eligibleMembers(rest).filter((other) => !view.drained.includes(other));
  if (remaining.length > 0) return;
  throw new BrokerError(
    'FAILED_PRECONDITION',
    `${name} is the last broker that is not drained: start another one, or revoke the drain of one, and drain it then`,
  );
}

type Member = ClusterView['members'][number];

function brokerMessage(
  { name, id, address, version, draining, load }: Member,
  { drained }: ClusterView,
  assignedPartitions: number,
): MessageInitShape<typeof BrokerSchema> {
  return {
    name,
    id,
    address,
    version,
    draining: draining || drained.includes(name),
    assignedPartitions,
    ownedPartitions: load.partitions,
    consumers: load.consumers,
    publishedMessagesPerSecond: load.publishedPerSecond,
    deliveredMessagesPerSecond: load.deliveredPerSecond,
  };
}

interface TopicPartition {
  readonly topic: string;
  readonly id: PartitionId;
}

/** All partitions, by topic, then number. */
function* partitionsOf({ definitions }: ClusterServiceOptions): Iterable<TopicPartition> {
  const topics = [...definitions.topics()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name: topic, logEpoch, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition += 1) {
      yield { topic, id: { logEpoch, partition } };
    }
  }
}

async function ownerships(
  partitions: readonly TopicPartition[],
  view: ClusterView,
  { ownership, routes }: ClusterServiceOptions,
): Promise<MessageInitShape<typeof PartitionOwnershipSchema>[]> {
  const longest = Math.max(...view.members.map(({ name }) => name.length), 0);
  const bytes = partitions.reduce((sum, { topic }) => sum + topic.length + 2 * longest + PARTITION_BYTES, 0);
  if (bytes > MAX_RESPONSE_BYTES) {
    throw new BrokerError(
      'RESOURCE_EXHAUSTED',
      `${partitions.length} partitions exceed an answer's ${MAX_RESPONSE_BYTES} bytes: ask without include_partitions, or for the ` +
        'routes of single topics',
    );
  }
  const names = new Map(view.members.map(({ id, name }) => [id, name]));
  const messages: MessageInitShape<typeof PartitionOwnershipSchema>[] = [];
  for (let from = 0; from < partitions.length; from += MAX_DESCRIBED) {
    const some = partitions.slice(from, from + MAX_DESCRIBED);
    const states = await ownership.describe(some.map(({ id }) => id));
    for (const [index, { topic, id }] of some.entries()) {
      const { holder = '', ownerEpoch = 0 } = states[index] ?? {};
      messages.push({
        topic,
        partition: id.partition,
        assigned: routes.targetOf(id)?.name ?? '',
        owner: names.get(holder) ?? '',
        ownerEpoch: BigInt(ownerEpoch),
      });
    }
  }
  return messages;
}

/** The moves of topics that still exist. */
function recentMoves(options: ClusterServiceOptions): MessageInitShape<typeof PartitionMoveSchema>[] {
  const { cluster, definitions } = options;
  const moves = cluster.moves.list();
  if (moves.length === 0) return [];
  const names = new Map([...definitions.topics()].map(({ logEpoch, name }) => [logEpoch, name]));
  return moves.flatMap(({ partition: { logEpoch, partition }, from, to, timeMs, reason }) => {
    const topic = names.get(logEpoch);
    return topic === undefined ? [] : [{ topic, partition, from, to, time: timestampFromMs(timeMs), reason }];
  });
}
