// What grpc-js alone reaches when it moves the same bytes over mutual TLS: the same requests come in, the
// same frames go out to every subscriber through grpc-js's own write, and there is nothing else: no log, no
// cursors, no leases; acks are read and forgotten. It speaks as much of the protocol as load.ts needs.
import { readFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import { encodePublishStreamResponse } from '../../services/broker/adapters/grpc/hot-wire.ts';
import { cutChunk } from '../../services/broker/core/chunk.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import { MAX_REQUEST_BYTES, PUBLISH_LIMITS } from '../../services/broker/limits.ts';
import { receiveJob, report } from './child.ts';

export interface CeilingJob {
  readonly certs: string;
}

type Call = grpc.ServerDuplexStream<Buffer, Buffer>;

/** Chunks that may wait on one stream; beyond that, publishers are not read. */
const MAX_WAITING = 4;

const job = await receiveJob<CeilingJob>();
const subscribers = new Set<Call>();
const publishers = new Set<Call>();
const partition = { logEpoch: 1, partition: 0 };
let nextOffset = 0;

function onPublish(call: Call): void {
  publishers.add(call);
  call.on('data', (request: Buffer) => {
    const batch = parsePublish(request, PUBLISH_LIMITS);
    const slices = [{ batch, indexes: undefined }];
    const chunk = cutChunk(slices, partition, nextOffset, Date.now(), Buffer.allocUnsafeSlow);
    const runs = [{ partition: 0, firstOffset: nextOffset, count: batch.count }];
    nextOffset += batch.count;
    call.write(encodePublishStreamResponse(batch.requestId, 1, runs, 4));
    // The 'drain' event would come too late: it follows only a write that was too many, and grpc-js takes
    // more than MAX_WAITING before that.
    for (const subscriber of subscribers) subscriber.write(chunk.bytes as Buffer, onTaken);
    if (isFull()) call.pause();
  });
  call.on('end', () => call.end());
  forgetAtEnd(call, publishers);
}

function onSubscribe(call: Call): void {
  subscribers.add(call);
  // Everything a subscriber says counts as an ack, and is ignored.
  call.on('data', () => {});
  call.on('end', () => call.end());
  forgetAtEnd(call, subscribers);
}

function isFull(): boolean {
  for (const { writableLength } of subscribers) if (writableLength > MAX_WAITING) return true;
  return false;
}

function onTaken(): void {
  if (isFull()) return;
  for (const publisher of publishers) if (publisher.isPaused()) publisher.resume();
}

function forgetAtEnd(call: Call, set: Set<Call>): void {
  const forget = (): void => {
    set.delete(call);
    for (const publisher of publishers) publisher.resume();
  };
  call.on('cancelled', forget);
  call.on('close', forget);
  call.on('error', forget);
}

const raw = (bytes: Buffer): Buffer => bytes;
const bidi = (path: string) => ({
  path,
  requestStream: true as const,
  responseStream: true as const,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw,
});
const server = new grpc.Server({ 'grpc.max_receive_message_length': MAX_REQUEST_BYTES });
server.addService(
  {
    publish: bidi('/fanfare.v1.Publisher/PublishStream'),
    subscribe: bidi('/fanfare.v1.Subscriber/Subscribe'),
  },
  { publish: onPublish, subscribe: onSubscribe },
);
const pem = (name: string): Buffer => readFileSync(`${job.certs}/${name}`);
const keyPair = { private_key: pem('server.key'), cert_chain: pem('server.crt') };
const credentials = grpc.ServerCredentials.createSsl(pem('ca.crt'), [keyPair], true);
server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
  if (error) throw error;
  report('listening', { address: `127.0.0.1:${port}` });
});
