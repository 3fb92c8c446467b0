// fanfare.v1.Routing on one broker, which owns every partition. Registered by main.ts. With several brokers the routes will
// come from the assignment; the service stays as it is.
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type RouteSchema, Routing } from '../../../gen/fanfare/v1/routing_pb.ts';
import type { PartitionId } from '../../core/partition.ts';
import type { Definitions } from '../../engine/definitions.ts';
import type { Authorize } from './identity.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';
import { ChangeFlag, type WatchSlots } from './watch.ts';

export interface RoutingOptions {
  readonly border: RpcBorder;
  readonly definitions: Definitions;
  readonly authorize: Authorize;
  /** host:port by which clients reach this broker; asked at each call, since the port is known only after binding. */
  readonly address: () => string;
  /** 0 if the partition is not owned (yet). */
  readonly ownerEpochOf: (partition: PartitionId) => number;
  readonly watches: WatchSlots;
}

export function routingService(options: RoutingOptions): GrpcService {
  const { border, definitions, authorize, watches } = options;
  const { method } = Routing;
  return grpcService(Routing, {
    getRoutes: border.unary(method.getRoutes, ({ topic }, { principal }) => {
      authorize(principal, 'read', topic);
      return routesOf(topic, options);
    }),
    watchRoutes: border.serverStream(method.watchRoutes, async ({ topic }, stream, { principal, signal }) => {
      authorize(principal, 'read', topic);
      using _slot = watches.take();
      const changed = new ChangeFlag();
      const unlisten = definitions.onChange((change) => {
        if ('topic' in change && change.topic.name === topic) changed.raise();
      });
      try {
        while (!signal.aborted) {
          // Ends the stream with NOT_FOUND when the topic was deleted.
          await stream.send(routesOf(topic, options));
          await changed.wait(signal);
        }
      } finally {
        unlisten();
      }
    }),
  });
}

function routesOf(
  name: string,
  { definitions, address, ownerEpochOf }: RoutingOptions,
): { routes: MessageInitShape<typeof RouteSchema>[] } {
  const { logEpoch, partitions } = definitions.getTopic(name);
  const routes = Array.from({ length: partitions }, (_, partition) => {
    const ownerEpoch = ownerEpochOf({ logEpoch, partition });
    return { partition, address: ownerEpoch === 0 ? '' : address(), ownerEpoch: BigInt(ownerEpoch) };
  });
  return { routes };
}
