// The Subscriber service on raw bytes: opens consumers, brings what they say to the engine, and writes frames
// as the engine cut them. What is written and not taken is bounded; a client that reads nothing for long is
// ended as SLOW_CONSUMER.
import { constants } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { Metadata } from '@grpc/grpc-js';
import { SubscribeResponseSchema, Subscriber } from '../../../gen/fanfare/v1/subscriber_pb.ts';
import type { SubscriptionDefinition } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import {
  parseAcknowledge,
  parseModifyAckDeadline,
  parseSubscribe,
  type SettleLimits,
  type StreamSettings,
  type UnarySettleRequest,
} from '../../core/settle-request.ts';
import type { Broker } from '../../engine/broker.ts';
import { type Consumer, type ConsumerSink, dismiss } from '../../engine/delivery/consumer.ts';
import type { DeliveredMessages } from '../../engine/delivery/delivered-messages.ts';
import type { Clock } from '../../ports/clock.ts';
import { type BidiCall, frameWriter, http2StreamOf, type WriteFrames } from './frame-writer.ts';
import { parsePull } from './hot-wire.ts';
import type { Authorize } from './identity.ts';
import type { Outbox, Outboxes } from './outboxes.ts';
import { peerAddressOf } from './peer-address.ts';
import { type GrpcService, grpcService, type RawBidiStream, type RpcBorder } from './rpc.ts';

export interface SubscriberOptions {
  readonly broker: Broker;
  readonly border: RpcBorder;
  readonly authorize: Authorize;
  readonly clock: Clock;
  readonly outboxes: Outboxes;
  /**
   * Whether leases live on when this broker stops, at the brokers to which it has handed its partitions over.
   */
  readonly leasesOutlive: () => boolean;
  readonly limits: SettleLimits & {
    readonly maxOutstandingMessages: number;
    readonly defaultOutstandingMessages: number;
    readonly maxOutstandingBytes: number;
    readonly defaultOutstandingBytes: number;
    readonly maxPullMessages: number;
    readonly maxPullWaitMs: number;
    /** A stream whose outbox is full and of which nothing is taken for so long is closed as SLOW_CONSUMER. */
    readonly slowConsumerMs: number;
  };
}

/**
 * This trailer says that what is outstanding stays leased to the client id until the deadlines; see
 * Subscribe.
 */
const LEASES_TRAILER = 'fanfare-leases';

const EMPTY = Buffer.alloc(0);
/** The most writes under way on a stream: small ones cost the transport more than their bytes. */
const OUTBOX_WRITES = 64;

export function subscriberService(options: SubscriberOptions): GrpcService {
  const { border } = options;
  return grpcService(Subscriber, {
    subscribe: subscribe(options),
    pull: border.rawUnary((request, principal, onGone, call) =>
      pull(options, request, principal, onGone, peerAddressOf(call)),
    ),
    acknowledge: border.rawUnary(async (request, principal) =>
      settle(options, parseAcknowledge(request, options.limits), principal),
    ),
    modifyAckDeadline: border.rawUnary(async (request, principal) =>
      settle(options, parseModifyAckDeadline(request, options.limits), principal),
    ),
  });
}

function subscribe(options: SubscriberOptions): RawBidiStream {
  const { border, limits } = options;
  return (call) => {
    let consumer: Consumer | undefined;
    let isNamed = false;
    let ownDeadline = false;
    let takesNoMore = false;
    const over = border.track(call, (reason, why) => dismissed(reason, why));
    const sink = new StreamSink(options, call, over, {
      onWritable: () => consumer?.pump(),
      onDescribed: ({ ackDeadlineMs }) => {
        if (consumer !== undefined && !ownDeadline && !takesNoMore)
          consumer.limits = { ...consumer.limits, ackDeadlineMs };
      },
    });
    const leave = (): void => consumer?.leave();
    over.addEventListener('abort', leave);
    /**
     * Ends the stream. What is outstanding waits for a client that can come back by its name, where the
     * broker can see to that.
     */
    const dismissed = async (reason: BrokerError, why: 'age' | 'stopping'): Promise<void> => {
      const kept =
        isNamed &&
        consumer !== undefined &&
        (why === 'age' || options.leasesOutlive()) &&
        (await dismiss(consumer, options.clock));
      if (!over.aborted) border.fail(call, reason, kept ? leasesKept() : undefined);
    };

    call.on('data', (request: Buffer) => {
      if (over.aborted) return;
      try {
        const message = parseSubscribe(request, limits);
        if (message.settings.ackDeadlineSeconds) ownDeadline = true;
        if (consumer === undefined) {
          options.authorize(border.principalOf(call), 'consume', message.settings.subscription ?? '');
          isNamed = (message.settings.clientId ?? '') !== '';
          consumer = open(options, sink, message.settings, peerAddressOf(call));
        } else if (message.settings.takesNoMore) {
          takesNoMore = true;
          void consumer.quiesce();
        } else if (!takesNoMore) change(options, consumer, message.settings);
        consumer.settle(message);
      } catch (error) {
        leave();
        border.fail(call, error);
      }
    });
    // A client that has said its last can no longer acknowledge anything: it is done.
    call.on('end', () => {
      leave();
      if (!over.aborted) call.end();
    });
  };
}

function leasesKept(): Metadata {
  const metadata = new Metadata();
  metadata.set(LEASES_TRAILER, 'kept');
  return metadata;
}

/** Opens the consumer that the first request of a stream asks for. */
function open(
  { broker, limits }: SubscriberOptions,
  sink: ConsumerSink,
  settings: StreamSettings,
  peerAddress: string,
): Consumer {
  if (settings.takesNoMore)
    throw new BrokerError('INVALID_ARGUMENT', 'takes_no_more is for later requests of a stream only');
  const messages = settings.maxOutstandingMessages || limits.defaultOutstandingMessages;
  const bytes = settings.maxOutstandingBytes || limits.defaultOutstandingBytes;
  checkCredit(limits, messages, bytes);
  return broker.subscribe(
    settings.subscription ?? '',
    sink,
    {
      maxOutstandingMessages: messages,
      maxOutstandingBytes: bytes,
      ackDeadlineMs: settings.ackDeadlineSeconds ? settings.ackDeadlineSeconds * 1000 : undefined,
    },
    {
      ownedOnly: settings.ownedOnly,
      resumes: settings.resumes,
      origin: { clientId: settings.clientId ?? '', peerAddress },
    },
  );
}

/** Later requests of a stream may change its limits, nothing else. */
function change({ limits }: SubscriberOptions, consumer: Consumer, settings: StreamSettings): void {
  const { subscription, clientId, ackDeadlineSeconds, maxOutstandingMessages, maxOutstandingBytes } =
    settings;
  if (subscription !== undefined && subscription !== '')
    throw new BrokerError('INVALID_ARGUMENT', 'subscription is for the first request of a stream only');
  if (clientId !== undefined && clientId !== '')
    throw new BrokerError('INVALID_ARGUMENT', 'client_id is for the first request of a stream only');
  if (settings.resumes)
    throw new BrokerError('INVALID_ARGUMENT', 'resumes is for the first request of a stream only');
  if (settings.ownedOnly)
    throw new BrokerError('INVALID_ARGUMENT', 'owned_only is for the first request of a stream only');
  if (!ackDeadlineSeconds && !maxOutstandingMessages && !maxOutstandingBytes) return;
  const messages = maxOutstandingMessages || consumer.limits.maxOutstandingMessages;
  const bytes = maxOutstandingBytes || consumer.limits.maxOutstandingBytes;
  checkCredit(limits, messages, bytes);
  consumer.limits = {
    maxOutstandingMessages: messages,
    maxOutstandingBytes: bytes,
    ackDeadlineMs: ackDeadlineSeconds ? ackDeadlineSeconds * 1000 : consumer.limits.ackDeadlineMs,
  };
}

function checkCredit(limits: SubscriberOptions['limits'], messages: number, bytes: number): void {
  if (messages < 1 || messages > limits.maxOutstandingMessages) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `max_outstanding_messages must be from 1 to ${limits.maxOutstandingMessages}`,
    );
  }
  if (bytes < 1 || bytes > limits.maxOutstandingBytes) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `max_outstanding_bytes must be from 1 to ${limits.maxOutstandingBytes}`,
    );
  }
}

interface SinkListener {
  onWritable(): void;
  onDescribed(definition: SubscriptionDefinition): void;
}

function encodeProperties({ ordering, ackDeadlineMs, incarnation }: SubscriptionDefinition): Buffer {
  const subscriptionProperties = {
    messageOrderingEnabled: ordering,
    ackDeadlineSeconds: ackDeadlineMs / 1000,
    incarnation: BigInt(incarnation),
  };
  return Buffer.from(
    toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { subscriptionProperties })),
  );
}

/** A stream's way out, bounded in bytes and writes. Full: nothing is leased to it. */
class StreamSink implements ConsumerSink {
  readonly #call: BidiCall;
  readonly #write: WriteFrames;
  readonly #options: SubscriberOptions;
  readonly #over: AbortSignal;
  readonly #listener: SinkListener;
  readonly #outbox: Outbox;
  #writes = 0;
  #taken = 0;
  /** It has said that it takes nothing, and is to say when it does. */
  #stalled = false;
  #cancelWatch: (() => void) | undefined;

  constructor(options: SubscriberOptions, call: BidiCall, over: AbortSignal, listener: SinkListener) {
    this.#options = options;
    this.#call = call;
    this.#write = frameWriter(call);
    this.#over = over;
    this.#listener = listener;
    this.#outbox = options.outboxes.open(options.border.nameOf(call));
    over.addEventListener('abort', () => this.#cancelWatch?.());
    // What is written holds its memory until the stream is gone.
    http2StreamOf(call)?.once('close', () => this.#outbox.close());
  }

  get writable(): boolean {
    const isWritable = this.#outbox.hasRoom && this.#writes < OUTBOX_WRITES && !this.#over.aborted;
    if (!isWritable) this.#stalled = true;
    return isWritable;
  }

  deliver({ frames }: DeliveredMessages): void {
    this.#send(frames);
  }

  describe(definition: SubscriptionDefinition): void {
    this.#send(encodeProperties(definition));
    this.#listener.onDescribed(definition);
  }

  close(error: BrokerError): void {
    if (!this.#over.aborted) this.#options.border.fail(this.#call, error);
  }

  #send(response: Buffer): void {
    this.#outbox.add(response.length);
    this.#writes += 1;
    this.#write(response, () => {
      this.#outbox.take(response.length);
      this.#writes -= 1;
      this.#taken += 1;
      if (!this.#stalled || !this.writable) return;
      this.#stalled = false;
      this.#listener.onWritable();
    });
    if (!this.writable && this.#cancelWatch === undefined) this.#watch();
  }

  /**
   * Looks again after slowConsumerMs: if nothing was taken meanwhile, nobody reads, and the stream is closed.
   */
  #watch(): void {
    const { clock, broker, limits } = this.#options;
    const before = this.#taken;
    this.#cancelWatch = clock.setTimer(limits.slowConsumerMs, () => {
      this.#cancelWatch = undefined;
      if (this.#writes === 0) return;
      if (this.#taken > before) {
        if (!this.writable) this.#watch();
        return;
      }
      broker.stats.slowConsumers += 1;
      this.close(
        new BrokerError(
          'RESOURCE_EXHAUSTED',
          `SLOW_CONSUMER: nothing was read for ${limits.slowConsumerMs / 1000} s while messages were waiting`,
        ),
      );
      // Who does not even read that is cut off, or what was written would stay.
      const stream = http2StreamOf(this.#call);
      const cancel = clock.setTimer(limits.slowConsumerMs, () => stream?.close(constants.NGHTTP2_CANCEL));
      stream?.once('close', cancel);
    });
  }
}

async function pull(
  options: SubscriberOptions,
  request: Buffer,
  principal: string,
  onGone: (over: () => void) => void,
  peerAddress: string,
): Promise<Buffer> {
  const { broker, limits } = options;
  const { subscription, maxMessages, maxWaitMs } = parsePull(request);
  options.authorize(principal, 'consume', subscription);
  if (!(maxMessages >= 1 && maxMessages <= limits.maxPullMessages))
    throw new BrokerError('INVALID_ARGUMENT', `max_messages must be from 1 to ${limits.maxPullMessages}`);
  if (maxWaitMs > limits.maxPullWaitMs)
    throw new BrokerError('INVALID_ARGUMENT', `max_wait must be at most ${limits.maxPullWaitMs / 1000} s`);
  const origin = { clientId: '', peerAddress };
  return Buffer.concat(await broker.pull(subscription, maxMessages, maxWaitMs, onGone, origin));
}

async function settle(
  options: SubscriberOptions,
  request: UnarySettleRequest,
  principal: string,
): Promise<Buffer> {
  options.authorize(principal, 'consume', request.subscription);
  await options.broker.settle(request);
  return EMPTY;
}
