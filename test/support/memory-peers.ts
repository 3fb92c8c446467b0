// The PeerConnector port in memory, on virtual time: links between members of one process that take time and
// can be cut, fall silent in one direction or both, or vanish with a member that dies. For tests and for the
// simulation of clusters.
//
// Objects arrive in their order in each direction, on the clock of the member that gets them: a paused one
// gets them when it goes on, a dead one never.
import type { Clock } from '../../services/broker/ports/clock.ts';
import type {
  PeerAnswer,
  PeerConnector,
  PeerLinkEvents,
  PeerLinkHandler,
  PeerLinkServer,
  PeerRequest,
} from '../../services/broker/ports/peer.ts';

export interface MemoryPeersOptions {
  readonly clock: Clock;
  /** One way; called for each object. Default 1. */
  readonly delayMs?: (from: string, to: string) => number;
  /** Most bytes on their way in one direction: beyond that `send` returns false. Default 2 MiB. */
  readonly maxPendingBytes?: number;
}

export type AcceptLink = (link: PeerLinkServer, relay: string) => PeerLinkHandler;

/** What went over the links between two members, by sender. */
export interface LinkTraffic {
  objects: number;
  chunkBytes: number;
  chunks: number;
  deliveries: number;
}

interface Listener {
  readonly memberId: string;
  readonly clock: Clock;
  readonly accept: AcceptLink;
}

export class MemoryPeers {
  readonly #options: MemoryPeersOptions;
  readonly #listeners = new Map<string, Listener>();
  readonly #links = new Set<MemoryLink>();
  /** "from to": nothing arrives, and nobody is told. */
  readonly #silent = new Set<string>();
  readonly #unreachable = new Set<string>();
  readonly #traffic = new Map<string, LinkTraffic>();

  constructor(options: MemoryPeersOptions) {
    this.#options = options;
  }

  /** From now on links to the address go to the member. */
  listen(memberId: string, address: string, clock: Clock, accept: AcceptLink): void {
    this.#listeners.set(address, { memberId, clock, accept });
  }

  connector(memberId: string, clock: Clock): PeerConnector {
    return {
      connect: (address, target, events) => {
        const listener = this.#listeners.get(address);
        const refusal =
          listener === undefined
            ? 'nobody listens there'
            : listener.memberId !== target
              ? `this is ${listener.memberId}, not ${target}`
              : this.#unreachable.has(pair(memberId, target))
                ? 'no route to host'
                : undefined;
        const link = new MemoryLink(this, memberId, clock, target, listener, events);
        if (refusal === undefined) {
          this.#links.add(link);
          link.open();
        } else link.refuse(refusal);
        return link;
      },
    };
  }

  /** Links between the two break, and both hear of it; new ones can be made. */
  cut(a: string, b: string): void {
    for (const link of [...this.#links]) if (link.isBetween(a, b)) link.break('connection reset');
  }

  /** Links between the two break and new ones are refused until heal(). */
  separate(a: string, b: string): void {
    this.#unreachable.add(pair(a, b)).add(pair(b, a));
    this.cut(a, b);
  }

  /** From now on nothing that `from` sends reaches `to`, without a word to either. */
  silence(from: string, to: string): void {
    this.#silent.add(pair(from, to));
  }

  /**
   * Separated members reach each other again. What silence has swallowed is gone, and so are its links: what
   * comes later would have a gap.
   */
  heal(): void {
    for (const link of [...this.#links]) if (link.hasGap) link.break('connection timed out');
    this.#silent.clear();
    this.#unreachable.clear();
  }

  /** The member's process dies: its links break for the others. */
  kill(memberId: string): void {
    for (const [address, listener] of this.#listeners)
      if (listener.memberId === memberId) this.#listeners.delete(address);
    for (const link of [...this.#links]) if (link.concerns(memberId)) link.break('connection reset');
  }

  /** Open links from one member to another. */
  linksBetween(relay: string, owner: string): number {
    return [...this.#links].filter((link) => link.relay === relay && link.owner === owner).length;
  }

  traffic(from: string, to: string): LinkTraffic {
    const key = pair(from, to);
    let traffic = this.#traffic.get(key);
    if (traffic === undefined) {
      traffic = { objects: 0, chunkBytes: 0, chunks: 0, deliveries: 0 };
      this.#traffic.set(key, traffic);
    }
    return traffic;
  }

  /** Whether nothing that `from` sends arrives at `to`. */
  isSilent(from: string, to: string): boolean {
    return this.#silent.has(pair(from, to));
  }

  delayMs(from: string, to: string): number {
    return this.#options.delayMs?.(from, to) ?? 1;
  }

  get clock(): Clock {
    return this.#options.clock;
  }

  get maxPendingBytes(): number {
    return this.#options.maxPendingBytes ?? 2 * 1024 * 1024;
  }

  ended(link: MemoryLink): void {
    this.#links.delete(link);
  }
}

/** One direction of a link. */
class Way {
  readonly #peers: MemoryPeers;
  readonly #from: string;
  readonly #to: string;
  readonly #writableAgain: () => void;
  #busyUntilMs = 0;
  #pendingBytes = 0;
  #full = false;
  hasGap = false;

  constructor(peers: MemoryPeers, from: string, to: string, writableAgain: () => void) {
    this.#peers = peers;
    this.#from = from;
    this.#to = to;
    this.#writableAgain = writableAgain;
  }

  send(object: PeerRequest | PeerAnswer, arrive: () => void): boolean {
    const bytes = sizeOf(object);
    this.#count(object);
    this.#pendingBytes += bytes;
    if (this.#pendingBytes > this.#peers.maxPendingBytes) this.#full = true;
    this.#later(() => {
      if (this.#peers.isSilent(this.#from, this.#to)) {
        this.hasGap = true;
        return;
      }
      // Behind a gap nothing arrives: a transport with order has no holes.
      if (this.hasGap) return;
      this.#pendingBytes -= bytes;
      arrive();
      if (!this.#full || this.#pendingBytes > this.#peers.maxPendingBytes / 2) return;
      this.#full = false;
      this.#writableAgain();
    });
    return !this.#full;
  }

  /** Runs it in order behind what was sent. */
  after(arrive: () => void): void {
    this.#later(arrive);
  }

  #later(fn: () => void): void {
    const { clock } = this.#peers;
    const nowMs = clock.monotonicMs();
    this.#busyUntilMs = Math.max(this.#busyUntilMs, nowMs + this.#peers.delayMs(this.#from, this.#to));
    clock.setTimer(this.#busyUntilMs - nowMs, fn);
  }

  #count(object: PeerRequest | PeerAnswer): void {
    const traffic = this.#peers.traffic(this.#from, this.#to);
    traffic.objects += 1;
    if (object.kind === 'deliver') traffic.deliveries += 1;
    if (object.kind !== 'chunk') return;
    traffic.chunks += 1;
    traffic.chunkBytes += object.bytes.length;
  }
}

class MemoryLink {
  readonly relay: string;
  readonly owner: string;
  readonly #peers: MemoryPeers;
  readonly #relayClock: Clock;
  readonly #listener: Listener | undefined;
  readonly #events: PeerLinkEvents;
  readonly #requests: Way;
  readonly #answers: Way;
  #handler: PeerLinkHandler | undefined;
  #relayOpen = true;
  #ownerOpen = true;

  constructor(
    peers: MemoryPeers,
    relay: string,
    relayClock: Clock,
    owner: string,
    listener: Listener | undefined,
    events: PeerLinkEvents,
  ) {
    this.#peers = peers;
    this.relay = relay;
    this.owner = owner;
    this.#relayClock = relayClock;
    this.#listener = listener;
    this.#events = events;
    this.#requests = new Way(peers, relay, owner, () => this.#atRelay(() => events.writableAgain()));
    this.#answers = new Way(peers, owner, relay, () => this.#atOwner((handler) => handler.writableAgain()));
  }

  get hasGap(): boolean {
    return this.#requests.hasGap || this.#answers.hasGap;
  }

  isBetween(a: string, b: string): boolean {
    return (this.relay === a && this.owner === b) || (this.relay === b && this.owner === a);
  }

  concerns(member: string): boolean {
    return this.relay === member || this.owner === member;
  }

  open(): void {
    this.#requests.after(() => {
      // Nobody hears that it is opened, nor that it is not.
      if (this.#peers.isSilent(this.relay, this.owner)) return;
      this.#listener!.clock.defer(() => {
        if (!this.#ownerOpen) return;
        this.#handler = this.#listener!.accept(
          {
            send: (answer) =>
              !this.#ownerOpen ||
              this.#answers.send(answer, () => this.#atRelay(() => this.#events.answer(answer))),
            close: () => {
              this.#ownerOpen = false;
              this.#answers.after(() => this.#closeRelay('the owner has ended it'));
              this.#peers.ended(this);
            },
          },
          this.relay,
        );
      });
    });
  }

  refuse(reason: string): void {
    this.#answers.after(() => this.#closeRelay(reason));
  }

  send(request: PeerRequest): boolean {
    if (!this.#relayOpen) return true;
    return this.#requests.send(request, () => this.#atOwner((handler) => handler.request(request)));
  }

  close(): void {
    if (!this.#relayOpen) return;
    this.#relayOpen = false;
    this.#peers.ended(this);
    this.#requests.after(() => {
      if (!this.#peers.isSilent(this.relay, this.owner)) this.#closeOwner();
    });
  }

  break(reason: string): void {
    this.#peers.ended(this);
    this.#closeRelay(reason);
    this.#closeOwner();
  }

  #closeRelay(reason: string): void {
    this.#atRelay(() => {
      this.#relayOpen = false;
      this.#events.closed(reason);
    });
  }

  #closeOwner(): void {
    this.#listener?.clock.defer(() => {
      if (!this.#ownerOpen) return;
      this.#ownerOpen = false;
      this.#handler?.closed();
    });
  }

  #atRelay(fn: () => void): void {
    this.#relayClock.defer(() => {
      if (this.#relayOpen) fn();
    });
  }

  #atOwner(fn: (handler: PeerLinkHandler) => void): void {
    this.#listener?.clock.defer(() => {
      if (this.#ownerOpen && this.#handler !== undefined) fn(this.#handler);
    });
  }
}

function sizeOf(object: PeerRequest | PeerAnswer): number {
  if (object.kind === 'chunk') return 64 + object.bytes.length;
  return object.kind === 'publish' ? 64 + object.messages.length : 64;
}

function pair(from: string, to: string): string {
  return `${from} ${to}`;
}
