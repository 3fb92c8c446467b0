// Counts what requests have brought that no handler has taken yet, and refuses what would be too much: too
// long for its method, compressed, more than a connection, a principal or the broker may have under way, or
// too slow to arrive. Invariant: bytes that are not handed to a handler are counted, whosever they are.
//
// grpc-js gathers a request's bytes before anybody is asked, has no bound but the longest message, gives back
// flow control as it receives, and unpacks every compressed message of a DATA frame at once. There is no hook
// below interceptors, so this takes the place of a call's decoder: grpc-js is pinned, and
// test/integration/receiving.test.ts fails when its innards change.
import { constants, type ServerHttp2Stream } from 'node:http2';
import { type ServerInterceptingCallInterface, status } from '@grpc/grpc-js';
import { Counts } from '../../core/counts.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { statusOf } from './status.ts';

export interface ReceivingLimits {
  /** Of all but brokers, and of brokers. */
  readonly maxBytes: number;
  readonly maxBrokerBytes: number;
  readonly maxPrincipalBytes: number;
  readonly maxConnectionBytes: number;
  /** So much a connection may always have: whoever sends little is not refused for what others send. */
  readonly freeConnectionBytes: number;
  /** How long a request may take from its first byte, or its headers, to its last byte. */
  readonly arrivalMs: number;
}

/** The connection that a call came over. */
export interface Receiver {
  readonly principal: string;
  readonly isBroker: boolean;
  /** Counted here. */
  receivedBytes: number;
}

/** A call of grpc-js before interceptors, as far as it is used here. */
export interface BaseCall extends ServerInterceptingCallInterface {
  readonly stream: ServerHttp2Stream;
  readonly incomingEncoding: string;
  decoder: Decoder;
}

interface Decoder {
  write(data: Buffer): Buffer[];
}

interface GrpcDecoder extends Decoder {
  maxReadMessageLength: number;
}

export interface ExpectedRequest {
  readonly maxBytes: number;
  /** One call brings many requests. */
  readonly isStreamed: boolean;
}

export class Receiving {
  readonly #limits: ReceivingLimits;
  readonly #clock: Clock;
  readonly #byPrincipal = new Counts();
  /** Requests that have begun to arrive, the oldest first. */
  readonly #arriving = new Set<Request>();
  /** Calls that were refused since the last sweep: their clients have time to hear of it. */
  readonly #refused = new Set<Request>();
  #bytes = 0;
  #brokerBytes = 0;

  constructor(limits: ReceivingLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Received, and not taken by a handler. */
  get bytes(): number {
    return this.#bytes + this.#brokerBytes;
  }

  /** Why the call is refused before its body; undefined: it is not. */
  refusalOf({ incomingEncoding }: BaseCall): BrokerError | undefined {
    return incomingEncoding === 'identity' ? undefined : COMPRESSED;
  }

  /** From here on the call's requests are counted. Before any byte of them is read. */
  watch(call: BaseCall, from: Receiver, expected: ExpectedRequest): void {
    (call.decoder as GrpcDecoder).maxReadMessageLength = expected.maxBytes;
    const request = new Request(call, from, expected.isStreamed, this);
    if (!expected.isStreamed) this.arrives(request);
  }

  /** Ends the calls whose requests take too long, and those that go on although they were refused. */
  sweep(): void {
    for (const request of this.#refused) request.close();
    this.#refused.clear();
    const latestMs = this.#clock.monotonicMs() - this.#limits.arrivalMs;
    for (const request of this.#arriving) {
      if (request.sinceMs > latestMs) return;
      this.#arriving.delete(request);
      const seconds = this.#limits.arrivalMs / 1000;
      request.refuse(
        new BrokerError('DEADLINE_EXCEEDED', `the request did not arrive whole within ${seconds} s`),
      );
    }
  }

  // --- for Request ---

  arrives(request: Request): void {
    request.sinceMs = this.#clock.monotonicMs();
    this.#arriving.add(request);
  }

  refused(request: Request): void {
    this.#refused.add(request);
  }

  hasArrived(request: Request): void {
    this.#arriving.delete(request);
  }

  /** RESOURCE_EXHAUSTED if it is too much. */
  take(from: Receiver, bytes: number): void {
    const { maxBytes, maxBrokerBytes, maxPrincipalBytes, maxConnectionBytes, freeConnectionBytes } =
      this.#limits;
    const ofConnection = from.receivedBytes + bytes;
    if (ofConnection > maxConnectionBytes) throw tooMuch('this connection', maxConnectionBytes);
    if (ofConnection > freeConnectionBytes) {
      if (!from.isBroker && this.#byPrincipal.of(from.principal) + bytes > maxPrincipalBytes)
        throw tooMuch(from.principal, maxPrincipalBytes);
      const most = from.isBroker ? maxBrokerBytes : maxBytes;
      if ((from.isBroker ? this.#brokerBytes : this.#bytes) + bytes > most)
        throw tooMuch('this broker', most);
    }
    this.#count(from, bytes);
  }

  giveBack(from: Receiver, bytes: number): void {
    if (bytes > 0) this.#count(from, -bytes);
  }

  #count(from: Receiver, bytes: number): void {
    if (from.isBroker) this.#brokerBytes += bytes;
    else this.#bytes += bytes;
    from.receivedBytes += bytes;
    this.#byPrincipal.add(from.principal, bytes);
  }
}

/** What one call has brought and its handler has not taken. */
class Request implements Decoder {
  sinceMs = 0;
  readonly #call: BaseCall;
  readonly #from: Receiver;
  readonly #isStreamed: boolean;
  readonly #receiving: Receiving;
  /** grpc-js' own; undefined once the call is refused, and what comes is dropped. */
  #inner: Decoder | undefined;
  #bytes = 0;
  /** Of those, the bytes of a request that is not whole. */
  #partial = 0;
  /** The sizes of whole requests of a stream, of which the handler has the first if it has any. */
  #whole: number[] = [];
  #handed = false;
  #refusal: BrokerError | undefined;

  constructor(call: BaseCall, from: Receiver, isStreamed: boolean, receiving: Receiving) {
    this.#call = call;
    this.#from = from;
    this.#isStreamed = isStreamed;
    this.#receiving = receiving;
    this.#inner = call.decoder;
    call.decoder = this;
    call.stream.once('close', () => this.#over());
    // The handler has been called by then: grpc-js has listened for longer.
    if (!isStreamed) call.stream.once('end', () => this.#over());
    else this.#followReads();
    this.#explain();
  }

  write(data: Buffer): Buffer[] {
    if (this.#inner === undefined) return [];
    try {
      return this.#read(this.#inner, data);
    } catch (error) {
      if (error instanceof BrokerError) this.#refusal = error;
      throw error;
    }
  }

  refuse(why: BrokerError): void {
    this.#refusal = why;
    this.#call.sendStatus(statusOf(why));
  }

  /** Ends a refused call whose client goes on sending. */
  close(): void {
    this.#call.stream.close(constants.NGHTTP2_NO_ERROR);
  }

  #read(inner: Decoder, data: Buffer): Buffer[] {
    this.#receiving.take(this.#from, data.length);
    this.#bytes += data.length;
    const whole = inner.write(data);
    const hadBegun = this.#partial > 0;
    this.#partial += data.length;
    for (const message of whole) {
      if (message[0] !== 0) throw COMPRESSED;
      this.#partial -= message.length;
      if (this.#isStreamed) this.#whole.push(message.length);
    }
    if (!this.#isStreamed) return whole;
    if (whole.length > 0) this.#receiving.hasArrived(this);
    if (this.#partial > 0 && (whole.length > 0 || !hadBegun)) this.#receiving.arrives(this);
    return whole;
  }

  /** A handler that asks for the next request has done with the one before. */
  #followReads(): void {
    const call = this.#call;
    const startRead = call.startRead;
    call.startRead = () => {
      const taken = this.#handed ? this.#whole.shift() : undefined;
      this.#handed = true;
      if (taken !== undefined) {
        this.#bytes -= taken;
        this.#receiving.giveBack(this.#from, taken);
      }
      startRead.call(call);
    };
  }

  /**
   * Says why a call ends where grpc-js has its own words: whatever a decoder throws is RESOURCE_EXHAUSTED
   * there, which our API says of what may be tried again.
   */
  #explain(): void {
    const call = this.#call;
    const sendStatus = call.sendStatus;
    call.sendStatus = (ended) => {
      const refusal = this.#refusal ?? oversize(ended);
      sendStatus.call(call, refusal === undefined ? ended : statusOf(refusal));
      if (refusal === undefined) return;
      this.#inner = undefined;
      this.#over();
      this.#receiving.refused(this);
    };
  }

  #over(): void {
    this.#receiving.hasArrived(this);
    this.#receiving.giveBack(this.#from, this.#bytes);
    this.#bytes = 0;
    this.#whole = [];
  }
}

const COMPRESSED = new BrokerError(
  'UNIMPLEMENTED',
  'compressed requests are not taken: send them with grpc-encoding identity',
);

function tooMuch(who: string, bytes: number): BrokerError {
  const most = `${bytes / (1024 * 1024)} MiB`;
  return new BrokerError(
    'RESOURCE_EXHAUSTED',
    `${who} has ${most} of requests under way that have not arrived whole or not been looked at, which is the limit: send less at once`,
  );
}

/** grpc-js says "Received message larger than max (9 vs 8)". */
function oversize({ code, details }: Parameters<BaseCall['sendStatus']>[0]): BrokerError | undefined {
  if (code !== status.RESOURCE_EXHAUSTED) return undefined;
  const [, has, most] = /^Received message larger than max \((\d+) vs (\d+)\)$/.exec(details ?? '') ?? [];
  if (has === undefined) return undefined;
  return new BrokerError('INVALID_ARGUMENT', `the request has ${has} bytes; at most ${most} are read`);
}
