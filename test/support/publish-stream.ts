// A PublishStream without a client around it: requests as they are given, answers by their request ids.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { ClientDuplexStream, StatusObject } from '@grpc/grpc-js';
import {
  Publisher,
  PublishStreamRequestSchema,
  type PublishStreamResponse,
  PublishStreamResponseSchema,
} from '../../services/gen/fanfare/v1/publisher_pb.ts';
import type { TestClient } from './grpc-rig.ts';

export class RawPublishStream {
  /** How the stream ended. */
  readonly status: Promise<StatusObject>;
  readonly #call: ClientDuplexStream<Uint8Array, Buffer>;
  readonly #waiting = new Map<bigint, PromiseWithResolvers<PublishStreamResponse>>();
  #lastId = 0n;

  constructor(client: TestClient) {
    this.#call = client.bidi(Publisher.method.publishStream);
    this.status = new Promise((resolve) => this.#call.once('status', resolve));
    this.#call.on('error', () => {});
    this.#call.on('data', (bytes: Buffer) => {
      const answer = fromBinary(PublishStreamResponseSchema, bytes);
      this.#waiting.get(answer.requestId)?.resolve(answer);
      this.#waiting.delete(answer.requestId);
    });
    this.status.then(({ code, details }) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`ended with ${code}: ${details}`));
    });
  }

  /** Sends a request and resolves with its answer. Rejects if the stream ends first. */
  send(request: MessageInitShape<typeof PublishStreamRequestSchema>): Promise<PublishStreamResponse> {
    const requestId = ++this.#lastId;
    const waiting = Promise.withResolvers<PublishStreamResponse>();
    this.#waiting.set(requestId, waiting);
    const message = create(PublishStreamRequestSchema, { ...request, requestId });
    this.#call.write(toBinary(PublishStreamRequestSchema, message));
    return waiting.promise;
  }

  end(): void {
    this.#call.end();
  }
}
