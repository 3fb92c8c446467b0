// The links of this broker to others as a relay: one to each owner that somebody here needs, opened when the
// first one does and opened again when it breaks.
//
// A user keeps a link open from `use` until it releases it; a link that nobody uses is closed after a while.
import { BrokerError } from '../../../core/errors.ts';
import type { PeerConnector } from '../../../ports/peer.ts';
import type { EngineContext } from '../../context.ts';
import type { Route } from '../../membership/routes.ts';
import { RelayLink } from './relay-link.ts';

export interface LinkUser {
  /** The link can be used now. Called at once where it is up already. */
  up(link: RelayLink): void;
  /** The link takes more again. */
  writableAgain?(link: RelayLink): void;
  /** There will be no link any more: this broker stops. */
  over?(): void;
}

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 1_000;
const LINGER_MS = 30_000;

interface Peer {
  readonly route: Route;
  readonly users: Set<LinkUser>;
  link: RelayLink | undefined;
  backoffMs: number;
  /** There is no link; it is opened again when the backoff is over. */
  resting: boolean;
  /** Cancels the backoff, or the end of a link that nobody uses. */
  cancelTimer: () => void;
}

export class RelayLinks {
  readonly #connector: PeerConnector;
  readonly #context: EngineContext;
  readonly #onFirstMessage: (subscription: string) => void;
  readonly #peers = new Map<string, Peer>();
  #closed = false;

  constructor(
    connector: PeerConnector,
    context: EngineContext,
    onFirstMessage: (subscription: string) => void,
  ) {
    this.#connector = connector;
    this.#context = context;
    this.#onFirstMessage = onFirstMessage;
  }

  /**
   * Keeps the link to a member open, and opens it again when it breaks, until the returned function is
   * called.
   */
  use(route: Route, user: LinkUser): () => void {
    if (this.#closed) return () => undefined;
    const peer = this.#peers.get(route.memberId) ?? this.#add(route);
    peer.users.add(user);
    if (peer.link === undefined) {
      if (!peer.resting) this.#open(peer);
    } else {
      peer.cancelTimer();
      if (peer.link.state === 'up') user.up(peer.link);
    }
    return () => {
      if (peer.users.delete(user) && peer.users.size === 0) this.#rest(peer);
    };
  }

  /**
   * Resolves to the link once it is up; rejects with UNAVAILABLE after timeoutMs, or when this broker stops.
   */
  reach(route: Route, timeoutMs: number): Promise<{ link: RelayLink; release: () => void }> {
    return new Promise((resolve, reject) => {
      let release: (() => void) | undefined;
      const fail = (): void => {
        release?.();
        reject(new BrokerError('UNAVAILABLE', `broker ${route.name} can't be reached: try again`));
      };
      if (this.#closed) return fail();
      const cancelTimer = this.#context.clock.setTimer(timeoutMs, fail);
      let link: RelayLink | undefined;
      const arrived = (): void => {
        if (link === undefined || release === undefined) return;
        cancelTimer();
        resolve({ link, release });
      };
      const user: LinkUser = {
        up: (opened) => {
          link = opened;
          arrived();
        },
        over: () => {
          cancelTimer();
          fail();
        },
      };
      release = this.use(route, user);
      arrived();
    });
  }

  close(): void {
    this.#closed = true;
    const peers = [...this.#peers.values()];
    this.#peers.clear();
    for (const peer of peers) {
      const users = [...peer.users];
      peer.users.clear();
      for (const user of users) user.over?.();
      peer.cancelTimer();
      peer.link?.close('the broker is stopping');
    }
  }

  #add(route: Route): Peer {
    const peer: Peer = {
      route,
      users: new Set(),
      link: undefined,
      backoffMs: FIRST_BACKOFF_MS,
      resting: false,
      cancelTimer: () => undefined,
    };
    this.#peers.set(route.memberId, peer);
    return peer;
  }

  #open(peer: Peer): void {
    peer.cancelTimer();
    const { logger } = this.#context;
    const fields = { broker: peer.route.name, address: peer.route.address };
    // The connector may know at once that there is no link.
    let isOver = false;
    const link = new RelayLink(this.#connector, peer.route, this.#context, {
      up: () => {
        peer.backoffMs = FIRST_BACKOFF_MS;
        logger.info(fields, 'linked to a broker');
        for (const user of [...peer.users]) user.up(link);
      },
      writableAgain: () => {
        for (const user of [...peer.users]) user.writableAgain?.(link);
      },
      closed: (reason) => {
        isOver = true;
        peer.link = undefined;
        if (this.#peers.get(peer.route.memberId) !== peer) return;
        // Logged once, not for each try to reach a broker that is down.
        if (peer.backoffMs === FIRST_BACKOFF_MS)
          logger.warn({ ...fields, reason }, 'a link to a broker closed');
        this.#retry(peer);
      },
      firstMessage: this.#onFirstMessage,
    });
    if (!isOver) peer.link = link;
  }

  #retry(peer: Peer): void {
    peer.cancelTimer();
    peer.resting = true;
    peer.cancelTimer = this.#context.clock.setTimer(peer.backoffMs, () => {
      peer.resting = false;
      if (peer.users.size > 0) this.#open(peer);
      else this.#peers.delete(peer.route.memberId);
    });
    peer.backoffMs = Math.min(peer.backoffMs * 2, MAX_BACKOFF_MS);
  }

  #rest(peer: Peer): void {
    if (peer.link === undefined) return;
    peer.cancelTimer();
    peer.cancelTimer = this.#context.clock.setTimer(LINGER_MS, () => {
      this.#peers.delete(peer.route.memberId);
      const { link } = peer;
      peer.link = undefined;
      link?.close('nobody needs it');
    });
  }
}
