// What HTTP/2 is told about turns and windows, so that streams of one connection don't wait for each other:
// consumers on a full connection all get on, and a sender is not held up before it has sent a good deal.

import { readFileSync } from 'node:fs';
import { connect as openHttp2 } from 'node:http2';
import { expect, test } from 'vitest';
import { STREAM_WINDOW_BYTES } from '../../services/broker/limits.ts';
import { startBroker } from '../support/broker.ts';

const MESSAGE_BYTES = 16 * 1024;
const MESSAGES = 1_200;
const CONSUMERS = 6;

test('consumers that share a full connection get on alike', async () => {
  await using broker = await startBroker();
  await using client = broker.connect();
  await client.admin.createTopic('turns', { partitions: 1 });
  for (let i = 0; i < CONSUMERS; i += 1) {
    await client.admin.createSubscription(`turns-${i}`, { topic: 'turns', start: 'earliest' });
  }
  const publisher = client.publisher('turns');
  for (let i = 0; i < MESSAGES; i += 1) {
    await publisher.ready();
    void publisher.publish({ data: Buffer.alloc(MESSAGE_BYTES) });
  }
  await publisher.close();

  const received = new Array<number>(CONSUMERS).fill(0);
  const first = Promise.withResolvers<void>();
  for (let i = 0; i < CONSUMERS; i += 1) {
    client.subscribeRaw(`turns-${i}`, {
      maxOutstandingMessages: 100_000,
      maxOutstandingBytes: 64 * 1024 * 1024,
      onChunk: (bytes, settle) => {
        settle.ack();
        received[i]! += bytes.length;
        if (received[i]! >= MESSAGES * MESSAGE_BYTES) first.resolve();
      },
    });
  }
  await first.promise;
  // They join one after the other, and a turn of the last may be under way.
  expect(Math.min(...received)).toBeGreaterThan(Math.max(...received) / 2);
});

test('a stream may carry 1 MiB before anything of it is read, once its client publishes', async () => {
  await using broker = await startBroker();
  const session = openHttp2(`https://${broker.address}`, {
    ca: readFileSync(broker.tls.ca),
    cert: readFileSync(broker.tls.cert),
    key: readFileSync(broker.tls.key),
    servername: 'localhost',
  });
  const told = new Promise<number>((resolve) =>
    session.on('remoteSettings', ({ initialWindowSize = 0 }) => {
      if (initialWindowSize > 65_535) resolve(initialWindowSize);
    }),
  );
  session
    .request({
      ':method': 'POST',
      ':path': '/fanfare.v1.Publisher/Publish',
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    .end(Buffer.alloc(5));
  expect(await told).toBe(STREAM_WINDOW_BYTES);
  session.destroy();
});
