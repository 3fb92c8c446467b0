// Between cluster-types.ts and the generated messages of cluster.proto. It needs protobuf-es, so it is for
// import() at the first call.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampDate } from '@bufbuild/protobuf/wkt';
import * as pb from '../gen/fanfare/v1/cluster_pb.ts';
import type { ClusterInfo } from './cluster-types.ts';

export function encodeGetCluster(includePartitions: boolean): Buffer {
  return Buffer.from(
    toBinary(pb.GetClusterRequestSchema, create(pb.GetClusterRequestSchema, { includePartitions })),
  );
}

export function encodeDrainBroker(name: string, revoke: boolean): Buffer {
  return Buffer.from(
    toBinary(pb.DrainBrokerRequestSchema, create(pb.DrainBrokerRequestSchema, { name, revoke })),
  );
}

export function decodeCluster(bytes: Uint8Array): ClusterInfo {
  const cluster = fromBinary(pb.GetClusterResponseSchema, bytes);
  return {
    clusterId: cluster.clusterId,
    brokers: cluster.brokers.map((broker) => ({
      name: broker.name,
      id: broker.id,
      address: broker.address,
      version: broker.version,
      draining: broker.draining,
      assignedPartitions: broker.assignedPartitions,
      ownedPartitions: broker.ownedPartitions,
      consumers: broker.consumers,
      publishedPerSecond: broker.publishedMessagesPerSecond,
      deliveredPerSecond: broker.deliveredMessagesPerSecond,
    })),
    coordinator: cluster.coordinator,
    coordinatorTerm: Number(cluster.coordinatorTerm),
    assignmentVersion: Number(cluster.assignmentVersion),
    partitions: cluster.partitions.map(({ topic, partition, assigned, owner, ownerEpoch }) => ({
      topic,
      partition,
      assigned,
      owner,
      ownerEpoch: Number(ownerEpoch),
    })),
    recentMoves: cluster.recentMoves.map(({ topic, partition, from, to, time, reason }) => ({
      topic,
      partition,
      from,
      to,
      time: time && timestampDate(time),
      reason,
    })),
  };
}
