// The Publisher service on raw request bytes: messages are parsed where they lie and handed to the engine,
// results answered.
//
// A bad request on a stream harms no other: it is answered, the stream goes on, and the topic that it named
// is the stream's from then on.
import { Publisher } from '../../../gen/fanfare/v1/publisher_pb.ts';
import type { DurabilityLevel } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import {
  BadMessage,
  type PublishBatch,
  type PublishLimits,
  parsePublish,
  requestHead,
} from '../../core/publish-batch.ts';
import type { Broker } from '../../engine/broker.ts';
import type { PublishedRun } from '../../engine/routed-batch.ts';
import { encodePublishResponse, encodePublishStreamError, encodePublishStreamResponse } from './hot-wire.ts';
import type { Authorize } from './identity.ts';
import { type GrpcService, grpcService, type RawBidiStream, type RpcBorder } from './rpc.ts';
import { statusCodeOf } from './status.ts';

export interface PublisherOptions {
  readonly broker: Pick<Broker, 'publish' | 'topicDefinition'>;
  readonly border: RpcBorder;
  readonly authorize: Authorize;
  readonly limits: PublishLimits & {
    readonly maxRequestBytes: number;
    /** How much may be received on one stream and not answered; beyond, the stream is not read. */
    readonly maxStreamBytes: number;
  };
}

/** The numbers of the Durability enum. */
const DURABILITY: Record<DurabilityLevel, number> = { memory: 1, stored: 2, replicated: 3, fsync: 4 };

export function publisherService(options: PublisherOptions): GrpcService {
  return grpcService(Publisher, {
    publish: options.border.rawUnary((request, principal) => publish(options, request, principal)),
    publishStream: publishStream(options),
  });
}

async function publish(options: PublisherOptions, request: Buffer, principal: string): Promise<Buffer> {
  const batch = parseRequest(options, request);
  options.authorize(principal, 'publish', batch.topic);
  const { logEpoch, durability } = options.broker.topicDefinition(batch.topic);
  return new Promise((resolve, reject) => {
    options.broker.publish(
      batch.topic,
      batch,
      (runs) => resolve(encodePublishResponse(logEpoch, runs, DURABILITY[durability])),
      reject,
    );
  });
}

function publishStream(options: PublisherOptions): RawBidiStream {
  const { border, limits } = options;
  return (call) => {
    let unanswered = 0;
    let unansweredBytes = 0;
    /** The topic that was named last. */
    let topic = '';
    /** The topic that the caller may publish to. */
    let allowed = '';
    /** Answers wait for the client to read. */
    let blocked = false;
    /**
     * How the stream ends once all is answered: the client has sent its last request, or with this status.
     */
    let ending: BrokerError | 'ok' | undefined;
    const over = border.track(call, (reason) => end(reason));

    const end = (how: BrokerError | 'ok'): void => {
      ending ??= how;
      if (unanswered > 0 || over.aborted) return;
      if (ending === 'ok') call.end();
      else border.fail(call, ending);
    };
    const readOrWait = (): void => {
      if (blocked || unansweredBytes > limits.maxStreamBytes) call.pause();
      else if (ending === undefined) call.resume();
    };
    const answer = (response: Buffer, requestBytes: number): void => {
      unanswered -= 1;
      unansweredBytes -= requestBytes;
      if (over.aborted) return;
      // A client that does not read its answers is not read either.
      if (!call.write(response)) blocked = true;
      readOrWait();
      if (ending !== undefined) end(ending);
    };
    const accept = (request: Buffer): void => {
      // Only the length: the callbacks below wait for the answer, and must not hold the request beside the
      // batch.
      const requestBytes = request.length;
      const refuse = (error: BrokerError, requestId: number): void => {
        const index = error instanceof BadMessage ? error.index : undefined;
        const code = statusCodeOf(error.code);
        answer(encodePublishStreamError(requestId, code, error.message, index), requestBytes);
      };
      unanswered += 1;
      unansweredBytes += requestBytes;
      try {
        const batch = parseRequest(options, request);
        const { requestId } = batch;
        if (batch.topic !== '') topic = batch.topic;
        if (topic !== allowed) {
          options.authorize(border.principalOf(call), 'publish', topic);
          allowed = topic;
        }
        const { logEpoch, durability } = options.broker.topicDefinition(topic);
        const done = (runs: PublishedRun[]): void =>
          answer(
            encodePublishStreamResponse(requestId, logEpoch, runs, DURABILITY[durability]),
            requestBytes,
          );
        options.broker.publish(topic, batch, done, (error) => refuse(error, requestId));
      } catch (error) {
        const head = error instanceof BrokerError ? requestHead(request) : undefined;
        if (error instanceof BrokerError && head !== undefined) {
          if (head.topic !== '') topic = head.topic;
          refuse(error, head.requestId);
          return;
        }
        // Bytes that are no request have no request_id to answer to.
        unanswered -= 1;
        unansweredBytes -= requestBytes;
        if (error instanceof BrokerError) end(error);
        else border.fail(call, error);
      }
    };

    call.on('data', (request: Buffer) => {
      if (ending !== undefined) return;
      accept(request);
      readOrWait();
    });
    call.on('end', () => end('ok'));
    call.on('drain', () => {
      blocked = false;
      readOrWait();
    });
  };
}

function parseRequest({ limits }: PublisherOptions, request: Buffer): PublishBatch {
  if (request.length > limits.maxRequestBytes) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `the request has ${request.length} bytes; at most ${limits.maxRequestBytes} are allowed: send several`,
    );
  }
  return parsePublish(request, limits);
}
