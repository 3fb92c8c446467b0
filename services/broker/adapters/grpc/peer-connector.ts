// The relay's side of links over gRPC: opens one to another broker, with this broker's certificate.
//
// Every link has a connection of its own, which ends with it. The certificate files are read for each link,
// so that renewed ones are used; while they can't be, those that could be used last are.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { Peer } from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { PeerConnector, PeerLink, PeerLinkEvents, PeerRequest } from '../../ports/peer.ts';
import { type BrokerPrincipals, checkBrokerIdentity } from './broker-identity.ts';
import { FROM_HEADER, TO_HEADER } from './peer.ts';
import { decodeAnswers } from './peer-answers.ts';
import { encodeRequests, requestBytes } from './peer-requests.ts';
import { PeerWriter } from './peer-writer.ts';

export interface PeerConnectorOptions {
  /** This broker's member id. */
  readonly selfId: string;
  readonly clock: Clock;
  /** Paths of PEM files. Undefined: plaintext. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly isBroker: BrokerPrincipals;
}

const PATH = `/${Peer.typeName}/${Peer.method.link.name}`;
/** Room for a chunk with a message of the largest size, and more. */
const MAX_RECEIVE_BYTES = 8 * 1024 * 1024;
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

export function peerConnector(options: PeerConnectorOptions): PeerConnector {
  const readPems = options.tls === undefined ? undefined : pemReader(options.tls);
  return {
    connect(address, memberId, events) {
      try {
        const client = new Client(address, channelCredentials(options, readPems?.(), address), {
          ...CHANNEL_OPTIONS,
          // TLS names no IP addresses to the server (RFC 6066): it gets a name instead, and the certificate
          // is checked for the address.
          ...(readPems !== undefined &&
            isIP(hostOf(address)) !== 0 && { 'grpc.ssl_target_name_override': 'localhost' }),
        });
        return new GrpcPeerLink(options, client, memberId, events);
      } catch (error) {
        // The caller gets its link before it hears that there is none.
        const reason = error instanceof Error ? error.message : String(error);
        options.clock.defer(() => events.closed(reason));
        return { send: () => true, close: () => undefined };
      }
    },
  };
}

const CLOSE_GRACE_MS = 500;

const CHANNEL_OPTIONS: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
  // A link that broke is opened anew, as another one; grpc-js' own retries would keep copies of what was
  // sent.
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
  'grpc.enable_channelz': 0,
  // Brokers of a cluster are neighbours: the proxies that the environment names are for what is far away.
  'grpc.enable_http_proxy': 0,
};

class GrpcPeerLink implements PeerLink {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #writer: PeerWriter<PeerRequest>;
  readonly #events: PeerLinkEvents;
  #over = false;

  constructor(
    { selfId, clock }: PeerConnectorOptions,
    client: Client,
    memberId: string,
    events: PeerLinkEvents,
  ) {
    this.#client = client;
    this.#clock = clock;
    this.#events = events;
    const metadata = new Metadata();
    metadata.set(FROM_HEADER, selfId);
    metadata.set(TO_HEADER, memberId);
    const call = client.makeBidiStreamRequest(PATH, raw, raw, metadata);
    this.#call = call;
    this.#writer = new PeerWriter<PeerRequest>({
      clock,
      encode: encodeRequests,
      bytesOf: requestBytes,
      write: (parts, _bytes, taken) =>
        void call.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts), taken),
      writableAgain: () => events.writableAgain(),
    });
    call.on('data', (bytes: Buffer) => {
      if (this.#over) return;
      try {
        for (const answer of decodeAnswers(bytes)) if (!this.#over) events.answer(answer);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        this.#end(error.message);
      }
    });
    call.on('error', (error: ServiceError) => this.#end(reasonOf(error)));
    call.on('end', () => this.#end('the other side has ended it'));
  }

  send(request: PeerRequest): boolean {
    return this.#over || this.#writer.send(request);
  }

  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#writer.flush();
    this.#writer.close();
    this.#call.end();
    // What was said last arrives before the other side ends the call. That side may be dead: it gets only
    // CLOSE_GRACE_MS.
    const cancelTimer = this.#clock.setTimer(CLOSE_GRACE_MS, () => this.#call.cancel());
    this.#call.on('status', () => {
      cancelTimer();
      this.#client.close();
    });
  }

  #end(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#writer.close();
    this.#call.cancel();
    this.#client.close();
    this.#events.closed(reason);
  }
}

/**
 * The reason in words, where grpc-js can tell only when it was: node's TLS ends a connection whose
 * certificate it does not accept.
 */
function reasonOf({ details, message }: ServiceError): string {
  const reason = details || message;
  return /Last error: Failed to connect \(/.test(reason)
    ? 'it ended the connection after the TLS handshake: it seems not to accept the certificate of this broker'
    : reason;
}

interface Pems {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca: Buffer;
}

function channelCredentials(
  { isBroker }: PeerConnectorOptions,
  pems: Pems | undefined,
  address: string,
): ChannelCredentials {
  if (pems === undefined) return credentials.createInsecure();
  const host = hostOf(address);
  return credentials.createSsl(pems.ca, pems.key, pems.cert, {
    checkServerIdentity: (_name, certificate) => checkBrokerIdentity(host, certificate, isBroker),
  });
}

/** Reads the files, and gives the newest content whose certificate and key were a pair. */
function pemReader(files: { cert: string; key: string; ca: string }): () => Pems {
  let good: Pems | undefined;
  return () => {
    try {
      const pems = {
        cert: readFileSync(files.cert),
        key: readFileSync(files.key),
        ca: readFileSync(files.ca),
      };
      const matches = new X509Certificate(pems.cert).checkPrivateKey(createPrivateKey(pems.key));
      // The files are in the middle of a renewal.
      if (!matches) throw new Error(`${files.key} is not the key of ${files.cert}`);
      good = pems;
    } catch (error) {
      if (good === undefined) throw error;
    }
    return good;
  };
}

function hostOf(address: string): string {
  return address.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

function raw(bytes: Buffer): Buffer {
  return bytes;
}
