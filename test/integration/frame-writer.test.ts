// Decision 0002: chunks go to the HTTP/2 stream behind a call. This fails when grpc-js has changed so that
// they no longer do.
import * as grpc from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import {
  type BidiCall,
  frameWriter,
  http2StreamOf,
} from '../../services/broker/adapters/grpc/frame-writer.ts';

const raw = (bytes: Buffer): Buffer => bytes;
const definition = {
  chat: {
    path: '/test/Chat',
    requestStream: true as const,
    responseStream: true as const,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  },
};

test('the stream behind a call is found, and messages of any size arrive whole, in order, before the status', async () => {
  const sizes = [0, 1, 4096, 4097, 70_000, 1 << 20];
  let found = false;
  const server = new grpc.Server();
  server.addService(definition, {
    chat: (call: BidiCall) => {
      found = http2StreamOf(call) !== undefined;
      const write = frameWriter(call);
      let taken = 0;
      for (const [i, size] of sizes.entries()) {
        write(Buffer.alloc(size, i), () => {
          taken += 1;
          if (taken === sizes.length)
            call.emit('error', { code: grpc.status.UNAVAILABLE, details: 'that was all' });
        });
      }
    },
  });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const call = client.makeBidiStreamRequest('/test/Chat', raw, raw);
  const received: Buffer[] = [];
  call.on('data', (message: Buffer) => received.push(message));
  const status = await new Promise<grpc.StatusObject>((resolve) => {
    call.on('error', () => {});
    call.on('status', resolve);
  });
  expect(found).toBe(true);
  expect(received.map((message) => message.length)).toEqual(sizes);
  expect(received.every((message, i) => message.every((byte) => byte === i))).toBe(true);
  expect(status).toMatchObject({ code: grpc.status.UNAVAILABLE, details: 'that was all' });
  client.close();
  server.forceShutdown();
});
