// The owner's side of links over gRPC: fanfare.peer.v1.Peer. It brings a relay's requests to a
// PeerLinkHandler, and the answers back.
//
// The caller's certificate must say that it is a broker. Links are not ended with other streams at their
// maximum age: leases hang on them. They end when the broker stops.

import { Metadata } from '@grpc/grpc-js';
import { Peer } from '../../../gen/fanfare/peer/v1/peer_pb.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { PeerAnswer, PeerLinkHandler, PeerLinkServer } from '../../ports/peer.ts';
import type { BrokerPrincipals } from './broker-identity.ts';
import { type BidiCall, http2StreamOf } from './frame-writer.ts';
import { answerBytes, encodeAnswers } from './peer-answers.ts';
import { decodeRequests } from './peer-requests.ts';
import { PeerWriter, type WriterOptions } from './peer-writer.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';

/** The caller's member id, and the one that it means to reach. */
export const FROM_HEADER = 'fanfare-from';
export const TO_HEADER = 'fanfare-to';

export interface PeerServiceOptions {
  readonly border: RpcBorder;
  readonly clock: Clock;
  /** This broker's member id. */
  readonly selfId: string;
  readonly isBroker: BrokerPrincipals;
  /** Called when somebody who is no broker has tried to open a link. */
  readonly onRefused: (caller: { readonly principal: string; readonly address: string }) => void;
  /** Takes a link that a relay, by its member id, has opened. */
  readonly accept: (link: PeerLinkServer, relay: string) => PeerLinkHandler;
}

export function peerService(options: PeerServiceOptions): GrpcService {
  const { border } = options;
  return grpcService(Peer, {
    link: (call: BidiCall) => {
      try {
        serve(options, call, admit(options, call));
      } catch (error) {
        border.fail(call, error);
      }
    },
  });
}

/**
 * Returns the relay's member id. PERMISSION_DENIED: the caller is no broker. FAILED_PRECONDITION: it means
 * another member. INVALID_ARGUMENT: it does not say who it is.
 */
function admit({ border, isBroker, onRefused, selfId }: PeerServiceOptions, call: BidiCall): string {
  const principal = border.principalOf(call);
  if (!isBroker(principal)) {
    onRefused({ principal, address: call.getPeer() });
    throw new BrokerError(
      'PERMISSION_DENIED',
      `${principal} is no broker: links are for brokers of this cluster only`,
    );
  }
  const [from, to] = [FROM_HEADER, TO_HEADER].map((header) => call.metadata.get(header)[0]?.toString() ?? '');
  if (!from) throw new BrokerError('INVALID_ARGUMENT', `the header ${FROM_HEADER} is missing`);
  if (to !== selfId)
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `this is broker ${selfId}, not ${to}: it has been started again`,
    );
  return from;
}

function serve(options: PeerServiceOptions, call: BidiCall, relay: string): void {
  let over = false;
  const writer = new PeerWriter<PeerAnswer>({
    clock: options.clock,
    encode: encodeAnswers,
    bytesOf: answerBytes,
    write: writeTo(call),
    writableAgain: () => handler.writableAgain(),
  });
  const end = (): void => {
    if (over) return;
    over = true;
    writer.close();
  };
  const handler = options.accept(
    {
      send: (answer) => writer.send(answer),
      close: () => {
        if (over) return;
        writer.flush();
        end();
        options.border.fail(call, new BrokerError('UNAVAILABLE', 'the link was ended'));
      },
    },
    relay,
  );
  const onOver = (): void => {
    if (over) return;
    end();
    handler.closed();
  };
  call.on('data', (bytes: Buffer) => {
    if (over) return;
    try {
      for (const request of decodeRequests(bytes)) handler.request(request);
    } catch (error) {
      onOver();
      options.border.fail(call, error);
    }
  });
  // 'cancelled' comes after every end, 'close' when it was destroyed.
  call.on('cancelled', onOver);
  call.on('close', onOver);
  call.on('end', () => {
    onOver();
    call.end();
  });
}

const HEADER_BYTES = 5;
/** Up to this size one copy is cheaper than several writes. */
const COPY_BYTES = 16 * 1024;

/**
 * Writes to the HTTP/2 stream itself, so that chunks are not copied; through grpc-js where it can't be found.
 * See frame-writer.ts.
 */
function writeTo(call: BidiCall): WriterOptions<PeerAnswer>['write'] {
  const stream = http2StreamOf(call);
  if (stream === undefined) return (parts, _bytes, taken) => void call.write(Buffer.concat(parts), taken);
  call.sendMetadata(new Metadata());
  return (parts, bytes, taken) => {
    if (stream.destroyed || stream.closed || stream.writableEnded) return;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32BE(bytes, 1);
    const onTaken = (error?: Error | null): void => {
      if (!error) taken();
    };
    const pieces = joinSmall([header, ...parts]);
    stream.cork();
    for (const [at, piece] of pieces.entries())
      stream.write(piece, at === pieces.length - 1 ? onTaken : undefined);
    stream.uncork();
  };
}

/** Joins small neighbours. */
function joinSmall(parts: readonly Buffer[]): Buffer[] {
  const joined: Buffer[] = [];
  let small: Buffer[] = [];
  const join = (): void => {
    if (small.length > 0) joined.push(small.length === 1 ? small[0]! : Buffer.concat(small));
    small = [];
  };
  for (const part of parts) {
    if (part.length <= COPY_BYTES) small.push(part);
    else {
      join();
      joined.push(part);
    }
  }
  join();
  return joined;
}
