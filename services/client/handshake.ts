// From an open socket to one that HTTP/2 is spoken on: through the proxy, TLS with this client's certificate
// and the broker's first word, all within HANDSHAKE_TIMEOUT_MS; and if that fails, why. grpc-js takes it as
// a channel's credentials.
//
// It overrides members of ChannelCredentials that grpc-js has for its own subclasses:
// test/integration/client-tls.test.ts notices when they change. createSsl() would keep for ever the
// certificates it was given, and tell of a failure neither whose certificate is to blame nor what is wrong
// with it; grpc-js' certificate providers drop connections while files are bad.
import type { X509Certificate } from 'node:crypto';
import { request } from 'node:http';
import { isIP, type Socket } from 'node:net';
import { checkServerIdentity, connect as connectTls, type TLSSocket } from 'node:tls';
import { ChannelCredentials, credentials } from '@grpc/grpc-js';
import { type Address, formatAddress } from './address.ts';
import type { Certificates } from './certificates.ts';
import type { HttpProxy, UnusableProxy } from './proxy.ts';
import {
  alertOf,
  type ConnectAttempt,
  markedFailure,
  refusedBroker,
  refusedCertificate,
  silent,
  tcpFailure,
  throughProxy,
  type Unreachable,
} from './unreachable.ts';

export interface HandshakeOptions {
  readonly address: Address;
  /** Undefined: plaintext. */
  readonly certificates: Certificates | undefined;
  /** The name that the broker's certificate must have, if that is not the address's host. */
  readonly serverName: string | undefined;
  readonly proxy: HttpProxy | UnusableProxy | undefined;
  /** Whether HTTP/2 has been agreed on. */
  readonly isReady: () => boolean;
}

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

const HANDSHAKE_TIMEOUT_MS = 10_000;

export class BrokerCredentials extends ChannelCredentials {
  readonly #options: HandshakeOptions;
  #isSilent = false;

  constructor(options: HandshakeOptions) {
    super();
    this.#options = options;
  }

  /** What is known of the attempt now, for explanations. */
  get attempt(): ConnectAttempt {
    const { address, proxy, certificates } = this.#options;
    const own = certificates?.own;
    return {
      address: formatAddress(address),
      proxy,
      own: own && {
        subject: oneLine(own.subject),
        issuer: oneLine(own.issuer),
        validFromMs: own.validFromDate.getTime(),
        validToMs: own.validToDate.getTime(),
        problem: certificates?.problem,
      },
      silentMs: this.#isSilent ? HANDSHAKE_TIMEOUT_MS : undefined,
      nowMs: Date.now(),
    };
  }

  override _isSecure(): boolean {
    return this.#options.certificates !== undefined;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(): SecureConnector {
    const { certificates, proxy } = this.#options;
    const none = credentials.createEmpty();
    return {
      // grpc-js calls this before every connection.
      waitForReady: async () => {
        if (proxy?.kind === 'unusable') {
          throw new Error(proxy.problem);
        }
        await certificates?.refresh();
      },
      connect: (socket) => this.#connect(socket),
      getCallCredentials: () => none,
      destroy: () => {},
    };
  }

  async #connect(socket: Socket): Promise<{ socket: Socket; secure: boolean }> {
    const { address, proxy, certificates } = this.#options;
    this.#isSilent = false;
    const timer = setTimeout(() => {
      if (this.#options.isReady()) return;
      this.#isSilent = true;
      socket.destroy();
    }, HANDSHAKE_TIMEOUT_MS).unref();
    socket.once('close', () => clearTimeout(timer));
    try {
      if (proxy?.kind === 'proxy') await openTunnel(socket, proxy, formatAddress(address));
      if (certificates === undefined) return { socket, secure: false };
      return { socket: await this.#secure(socket, certificates), secure: true };
    } catch (failure) {
      socket.destroy();
      throw this.#isSilent ? markedFailure(silent(HANDSHAKE_TIMEOUT_MS)) : failure;
    }
  }

  #secure(socket: Socket, certificates: Certificates): Promise<TLSSocket> {
    const { address, serverName } = this.#options;
    const name = serverName ?? address.host;
    return new Promise((resolve, reject) => {
      const secured = connectTls({
        socket,
        secureContext: certificates.context,
        ALPNProtocols: ['h2'],
        host: name,
        // TLS names no IP addresses to the server (RFC 6066).
        ...(isIP(name) === 0 && { servername: name.replace(/\.$/, '') }),
        checkServerIdentity: (_host, certificate) => checkServerIdentity(name, certificate),
        // So that a certificate that is no good can still be read; the connection is
        // given up all the same, below.
        rejectUnauthorized: false,
      });
      secured.once('secureConnect', () => {
        if (secured.authorized) return resolve(secured);
        const expected = { name, caSource: certificates.caSource, nowMs: Date.now() };
        const code = String(secured.authorizationError);
        reject(markedFailure(refusedBroker(code, secured.getPeerCertificate(true), expected)));
        secured.destroy();
      });
      // This listener stays for the life of the socket: later errors are heard by HTTP/2, too.
      secured.on('error', (error) => reject(markedFailure(this.#tlsFailure(error))));
      secured.once('close', () =>
        reject(markedFailure(tcpFailure('the connection was closed in the TLS handshake'))),
      );
    });
  }

  #tlsFailure(error: NodeJS.ErrnoException): Unreachable {
    const alert = alertOf(error.message);
    if (alert !== undefined) return refusedCertificate(alert, this.attempt);
    const code = error.code ?? '';
    if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG') {
      return {
        reason: 'protocol',
        text: 'what listens there speaks no TLS: is the port right? A broker with --insecure-plaintext wants insecure instead of tls',
      };
    }
    if (/alert no application protocol/.test(error.message)) {
      return {
        reason: 'protocol',
        text: 'what listens there speaks no HTTP/2, and so no gRPC: is the port right?',
      };
    }
    if (code === 'ECONNRESET') {
      return {
        reason: 'protocol',
        text: `the connection was closed in the TLS handshake (${error.message}): does a broker with TLS listen there?`,
      };
    }
    return { reason: 'other', text: `TLS failed: ${error.message}` };
  }
}

/** Asks the proxy for a connection to the broker; the socket is the broker's from then on. */
function openTunnel(socket: Socket, proxy: HttpProxy, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(markedFailure(throughProxy(proxy, why)));
    const asked = request({
      method: 'CONNECT',
      path: address,
      createConnection: () => socket,
      headers: {
        Host: address,
        ...(proxy.credentials !== undefined && {
          'Proxy-Authorization': `Basic ${Buffer.from(proxy.credentials).toString('base64')}`,
        }),
      },
    });
    asked.once('connect', (answer, tunnel: Socket, first) => {
      if (answer.statusCode !== 200) {
        return fail(`it refuses to connect to ${address} (${answer.statusCode} ${answer.statusMessage})`);
      }
      if (first.length > 0) tunnel.unshift(first);
      resolve();
    });
    asked.once('response', (answer) => fail(`it answers ${answer.statusCode} ${answer.statusMessage}`));
    asked.on('error', (error) => fail(error.message));
    asked.end();
  });
}

/** A distinguished name on one line; node gives it with one part a line. */
function oneLine(name: X509Certificate['subject']): string {
  return name?.replaceAll('\n', ', ') || 'without a name';
}
