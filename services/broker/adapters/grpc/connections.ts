// Every connection from accept to end: where it comes from, whose it is, how far it is and what it holds.
// Invariant: a socket that was accepted is in here until it is closed, so that nothing holds one that nobody
// knows of; one that has said nothing useful in time, or whose certificate is not good any more, is ended.
//
//   accepted ─handshake─▶ secured ─the client's SETTINGS─▶ open ─▶ closed
//        └ 3 s                └ 5 s                          └ certificate, caps
//
// Who has not shown a certificate yet must not keep out who has one: where too many are on their way, the
// oldest of the address that has most of them makes room.
import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import { Counts } from '../../core/counts.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { PLAINTEXT_PRINCIPAL, principalOfCertificate } from './identity.ts';
import type { Receiver } from './receiving.ts';

export interface ConnectionLimits {
  /** Of all; the process' own limit of descriptors may be lower. */
  readonly maxConnections: number;
  readonly maxPerAddress: number;
  readonly maxPerPrincipal: number;
  /** On their way: without a certificate that was looked at, or without a word of HTTP/2. */
  readonly maxUnauthenticated: number;
  readonly handshakeMs: number;
  readonly prefaceMs: number;
}

export interface ConnectionsOptions {
  readonly limits: ConnectionLimits;
  readonly clock: Clock;
  /** There is no TLS. */
  readonly plaintext: boolean;
  /** Brokers are not counted by principal: they share one. */
  readonly isBroker: (principal: string) => boolean;
  /** A connection was ended, and its client may wonder why. */
  readonly onEnded: (
    connection: { readonly address: string; readonly principal: string },
    why: string,
  ) => void;
}

/** Why connections were not taken, or ended: the numbers since the start. */
export interface ConnectionCounts {
  open: number;
  refused: number;
  ended: number;
}

export type ConnectionState = 'accepted' | 'secured' | 'open';

export class Connection implements Receiver {
  /** The other end's address and port. */
  readonly key: string;
  readonly address: string;
  readonly acceptedMs: number;
  readonly #socket: Socket;
  state: ConnectionState = 'accepted';
  /** Empty until it is known. */
  principal = '';
  isBroker = false;
  /** Its client's certificate: when it expires, by the wall clock, and which one it is. */
  expiresMs = Number.POSITIVE_INFINITY;
  fingerprint = '';
  receivedBytes = 0;
  tls: TLSSocket | undefined;
  session: ServerHttp2Session | undefined;
  /** Calls that are open. */
  calls = 0;
  /** Its client may send as much ahead as those that publish. */
  isWide = false;

  constructor(socket: Socket, key: string, address: string, acceptedMs: number) {
    this.#socket = socket;
    this.key = key;
    this.address = address;
    this.acceptedMs = acceptedMs;
  }

  destroy(): void {
    this.session?.destroy();
    this.#socket.destroy();
  }
}

export class Connections {
  readonly counts: ConnectionCounts = { open: 0, refused: 0, ended: 0 };
  readonly #options: ConnectionsOptions;
  /** By the other end's address and port, in the order in which they came. */
  readonly #all = new Map<string, Connection>();
  /** Those that are not open, the oldest first. */
  readonly #young = new Set<Connection>();
  readonly #bySession = new WeakMap<object, Connection>();
  readonly #byAddress = new Counts();
  readonly #byPrincipal = new Counts();
  #onEmpty: () => void = () => undefined;
  /** False: whoever has no call is gone. */
  #lingers = true;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** Takes the socket in. False: there is no room, and it is destroyed. */
  accept(socket: Socket): boolean {
    const { maxConnections, maxPerAddress, maxUnauthenticated } = this.#options.limits;
    const key = keyOf(socket);
    const address = socket.remoteAddress;
    if (key === undefined || address === undefined) {
      // It was closed before anybody looked.
      socket.destroy();
      return false;
    }
    const isFull = this.#young.size >= maxUnauthenticated || this.#all.size >= maxConnections;
    if (isFull) this.#makeRoom();
    if (this.#all.size >= maxConnections || this.#byAddress.of(address) >= maxPerAddress) {
      this.counts.refused += 1;
      socket.destroy();
      return false;
    }
    const connection = new Connection(socket, key, address, this.#options.clock.monotonicMs());
    this.#all.set(key, connection);
    this.#young.add(connection);
    this.#byAddress.add(address, 1);
    this.counts.open += 1;
    // An error is followed by the close.
    socket.on('error', () => {});
    socket.once('close', () => this.#forget(connection));
    return true;
  }

  /** The handshake is done, and the certificate was found good. */
  secured(tls: TLSSocket): void {
    const connection = this.#of(tls);
    if (connection === undefined) {
      tls.destroy();
      return;
    }
    connection.tls = tls;
    connection.state = 'secured';
    const certificate = tls.getPeerCertificate();
    connection.expiresMs = Date.parse(certificate.valid_to);
    connection.fingerprint = certificate.fingerprint256;
    this.#identify(connection, certificate);
  }

  /** There is an HTTP/2 session, of which the client has said nothing yet. */
  began(session: ServerHttp2Session): void {
    const connection = session.socket && this.#of(session.socket);
    if (connection === undefined) {
      session.destroy();
      return;
    }
    connection.session = session;
    this.#bySession.set(session, connection);
    if (this.#options.plaintext) this.#isOf(connection, PLAINTEXT_PRINCIPAL);
    session.once('remoteSettings', () => {
      connection.state = 'open';
      this.#young.delete(connection);
    });
  }

  /** The connection of a session; undefined once it is closed. */
  of(session: object): Connection | undefined {
    return this.#bySession.get(session);
  }

  /**
   * Ends those that have taken too long to say who they are, or whose certificate has expired. Call it now
   * and then.
   */
  sweep(): void {
    const { clock, limits } = this.#options;
    const { handshakeMs, prefaceMs } = limits;
    for (const connection of this.#young) {
      const ageMs = clock.monotonicMs() - connection.acceptedMs;
      if (ageMs < handshakeMs) break;
      if (connection.state === 'accepted' || ageMs >= handshakeMs + prefaceMs)
        this.#end(connection, undefined);
    }
    const nowMs = clock.nowMs();
    for (const connection of this.#all.values())
      if (connection.expiresMs <= nowMs) this.#end(connection, 'its certificate has expired');
  }

  /** Whom to trust has changed: ends each connection whose client has a problem now. */
  review(problemOf: (tls: TLSSocket) => string | undefined): void {
    const seen = new Map<string, string | undefined>();
    for (const connection of this.#all.values()) {
      const { tls, fingerprint } = connection;
      if (tls === undefined) continue;
      if (!seen.has(fingerprint)) seen.set(fingerprint, problemOf(tls));
      const why = seen.get(fingerprint);
      if (why !== undefined) this.#end(connection, why);
    }
  }

  /**
   * Nothing new is to come: resolves when all calls are over and their connections closed. Those without a
   * call are told to go, and have `lingerMs` to do so.
   */
  async drained(lingerMs: number): Promise<void> {
    for (const { session } of this.#all.values()) session?.close();
    const cancelLinger = this.#options.clock.setTimer(lingerMs, () => {
      this.#lingers = false;
      for (const connection of [...this.#all.values()]) if (connection.calls === 0) connection.destroy();
    });
    await new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
      if (this.#all.size === 0) resolve();
    });
    cancelLinger();
  }

  /** A call has begun. Returns what to call when it is over. */
  called(connection: Connection): () => void {
    connection.calls += 1;
    return () => {
      connection.calls -= 1;
      if (connection.calls === 0 && !this.#lingers) connection.destroy();
    };
  }

  destroyAll(): void {
    for (const connection of [...this.#all.values()]) connection.destroy();
  }

  #identify(connection: Connection, certificate: PeerCertificate): void {
    try {
      this.#isOf(connection, principalOfCertificate(certificate));
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      // Its calls are refused, and say why.
    }
  }

  #isOf(connection: Connection, principal: string): void {
    const { limits, isBroker } = this.#options;
    connection.principal = principal;
    connection.isBroker = isBroker(principal);
    const count = this.#byPrincipal.add(principal, 1);
    if (connection.isBroker || count <= limits.maxPerPrincipal) return;
    this.counts.refused += 1;
    this.#end(connection, `it has ${limits.maxPerPrincipal} connections already, which is the limit`);
  }

  /** Of those on their way, the oldest of the address that has most goes. */
  #makeRoom(): void {
    const ofAddress = new Counts();
    let most = 0;
    for (const { address } of this.#young) most = Math.max(most, ofAddress.add(address, 1));
    for (const connection of this.#young) {
      if (ofAddress.of(connection.address) !== most) continue;
      this.counts.refused += 1;
      // It makes room at once, though its socket closes a moment later.
      this.#forget(connection);
      connection.destroy();
      return;
    }
  }

  #end(connection: Connection, why: string | undefined): void {
    this.counts.ended += 1;
    if (why !== undefined) this.#options.onEnded(connection, why);
    connection.destroy();
  }

  #forget(connection: Connection): void {
    if (this.#all.get(connection.key) !== connection) return;
    this.#all.delete(connection.key);
    this.#young.delete(connection);
    this.#byAddress.add(connection.address, -1);
    if (connection.principal !== '') this.#byPrincipal.add(connection.principal, -1);
    this.counts.open -= 1;
    if (this.#all.size === 0) this.#onEmpty();
  }

  #of(socket: {
    remoteAddress?: string | undefined;
    remotePort?: number | undefined;
  }): Connection | undefined {
    const key = keyOf(socket);
    return key === undefined ? undefined : this.#all.get(key);
  }
}

function keyOf({
  remoteAddress,
  remotePort,
}: {
  remoteAddress?: string | undefined;
  remotePort?: number | undefined;
}): string | undefined {
  return remoteAddress === undefined ? undefined : `${remoteAddress}|${remotePort}`;
}
