// Both sides of this broker's links to the others, and what the two of them make of the whole cluster: its
// backlog and its draining consumers.
import type { TopicDefinition } from '../../core/definitions.ts';
import type { PeerConnector } from '../../ports/peer.ts';
import type { EngineContext } from '../context.ts';
import type { BacklogReporter } from '../delivery/backlog-types.ts';
import type { ConsumerDrain } from '../delivery/draining-consumers.ts';
import type { Routes } from '../membership/routes.ts';
import { OwnerLinks } from './owner/owner-links.ts';
import type { PeerHost } from './peer-host.ts';
import { ClusterBacklog } from './relay/cluster-backlog.ts';
import { ClusterDrain } from './relay/cluster-drain.ts';
import { Relay } from './relay/relay.ts';

export interface ClusterLinksOptions {
  readonly connector: PeerConnector;
  readonly routes: Routes;
  /** This broker, with the backlog of the partitions that it owns. */
  readonly host: PeerHost & { readonly context: EngineContext; readonly backlog: BacklogReporter };
  readonly topics: () => Iterable<TopicDefinition>;
  readonly maxConsumersPerSubscription: number;
}

export class ClusterLinks {
  readonly relay: Relay;
  readonly owner: OwnerLinks;
  readonly backlog: BacklogReporter;
  readonly draining: ConsumerDrain;

  constructor({ connector, routes, host, topics, maxConsumersPerSubscription }: ClusterLinksOptions) {
    const { context, backlog } = host;
    this.relay = new Relay({ connector, routes, host, context, topics });
    this.owner = new OwnerLinks({
      host,
      routes,
      context,
      remote: this.relay,
      backlog,
      topics,
      maxConsumersPerSubscription,
    });
    this.backlog = new ClusterBacklog(backlog, this.relay);
    this.draining = new ClusterDrain(host.draining, this.relay);
  }
}
