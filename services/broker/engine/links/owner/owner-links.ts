// The links that relays have opened to this broker, one for each relay: the owner's side of links.
import type { PeerLinkHandler, PeerLinkServer } from '../../../ports/peer.ts';
import { OwnerLink, type OwnerLinkOptions } from './owner-link.ts';

export class OwnerLinks {
  readonly #options: OwnerLinkOptions;
  /** By the relay's member id. */
  readonly #links = new Map<string, OwnerLink>();

  constructor(options: OwnerLinkOptions) {
    this.#options = options;
  }

  get links(): number {
    return this.#links.size;
  }

  /**
   * A relay, named by its member id, has opened a link. An older link of the same relay is dead, whether that
   * is known yet or not.
   */
  accept(link: PeerLinkServer, relay: string): PeerLinkHandler {
    this.#links.get(relay)?.end('the relay has opened another link');
    const accepted = new OwnerLink(link, relay, this.#options, () => {
      if (this.#links.get(relay) === accepted) this.#links.delete(relay);
    });
    this.#links.set(relay, accepted);
    return accepted;
  }

  close(): void {
    for (const link of [...this.#links.values()]) link.end('the broker is stopping');
  }
}
