// fanfare.v1.Routing: where the partitions of a topic are, after engine/membership/routes. A watcher gets the
// routes again only when they have changed.
import { Routing } from '../../../gen/fanfare/v1/routing_pb.ts';
import type { Definitions } from '../../engine/definitions/definitions.ts';
import type { Routes } from '../../engine/membership/routes.ts';
import type { Authorize } from './identity.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';
import { ChangeFlag, type WatchSlots } from './watch.ts';

export interface RoutingOptions {
  readonly border: RpcBorder;
  readonly definitions: Definitions;
  readonly authorize: Authorize;
  readonly watches: WatchSlots;
  readonly routes: Routes;
}

export function routingService(options: RoutingOptions): GrpcService {
  const { border, definitions, authorize, watches, routes } = options;
  const { method } = Routing;
  return grpcService(Routing, {
    getRoutes: border.unary(method.getRoutes, ({ topic }, { principal }) => {
      authorize(principal, 'read', topic);
      return { routes: routesOf(topic, definitions, routes) };
    }),
    watchRoutes: border.serverStream(method.watchRoutes, async ({ topic }, stream, { principal, signal }) => {
      authorize(principal, 'read', topic);
      using _slot = watches.take(principal, 'routes');
      const changed = new ChangeFlag();
      const unlisten = [
        definitions.onChange((change) => {
          if ('topic' in change && change.topic.name === topic) changed.raise();
        }),
        routes.onChange(() => changed.raise()),
      ];
      let sent: string | undefined;
      try {
        while (!signal.aborted) {
          // Ends the stream with NOT_FOUND when the topic was deleted.
          const found = routesOf(topic, definitions, routes);
          // Most changes of a cluster concern other topics.
          const outline = found.map(({ address, ownerEpoch }) => `${address} ${ownerEpoch}`).join('\n');
          if (outline !== sent) await stream.send({ routes: found });
          sent = outline;
          await changed.wait(signal);
        }
      } finally {
        for (const end of unlisten) end();
      }
    }),
  });
}

interface RouteMessage {
  readonly partition: number;
  readonly address: string;
  readonly ownerEpoch: bigint;
}

function routesOf(name: string, definitions: Definitions, routes: Routes): RouteMessage[] {
  const { logEpoch, partitions } = definitions.getTopic(name);
  return Array.from({ length: partitions }, (_, partition) => {
    const route = routes.targetOf({ logEpoch, partition });
    return { partition, address: route?.address ?? '', ownerEpoch: BigInt(route?.version ?? 0) };
  });
}
