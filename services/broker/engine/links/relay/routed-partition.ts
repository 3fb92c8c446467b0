// The publishes for one partition, with the link to its present target. Invariant: it uses the link to that
// member and no other.
import type { BrokerError } from '../../../core/errors.ts';
import type { PartitionId } from '../../../core/partition.ts';
import type { EngineContext } from '../../context.ts';
import type { Routes } from '../../membership/routes.ts';
import type { PeerHost } from '../peer-host.ts';
import type { RelayLink } from './relay-link.ts';
import type { LinkUser, RelayLinks } from './relay-links.ts';
import { RelayedPublishes } from './relayed-publishes.ts';

export interface RoutedPartitionOptions {
  readonly host: PeerHost;
  readonly routes: Routes;
  readonly context: EngineContext;
}

export class RoutedPartition implements LinkUser {
  readonly publishes: RelayedPublishes;
  readonly #peers: RelayLinks;
  readonly #routes: Routes;
  readonly #id: PartitionId;
  #link: RelayLink | undefined;
  /** The member whose link is used; empty: none. */
  #memberId = '';
  #release: () => void = () => undefined;

  constructor(
    topic: string,
    id: PartitionId,
    peers: RelayLinks,
    { routes, host, context }: RoutedPartitionOptions,
  ) {
    this.#peers = peers;
    this.#routes = routes;
    this.#id = id;
    this.publishes = new RelayedPublishes({
      topic,
      id,
      context,
      link: () => (this.#link?.state === 'up' ? this.#link : undefined),
      owner: () => host.owner(id),
      partitions: () => host.partitionsOf(id.logEpoch),
    });
    this.routed();
  }

  up(link: RelayLink): void {
    this.#link = link;
    this.publishes.pump();
  }

  routed(): void {
    const route = this.#routes.targetOf(this.#id);
    const memberId = route === undefined || route.memberId === this.#routes.selfId ? '' : route.memberId;
    if (memberId !== this.#memberId) {
      this.#memberId = memberId;
      this.#release();
      this.#link = undefined;
      this.#release = memberId === '' ? () => undefined : this.#peers.use(route!, this);
    }
    this.publishes.routed();
  }

  close(reason: BrokerError): void {
    this.#release();
    this.publishes.close(reason);
  }
}
