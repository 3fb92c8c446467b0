// One client against a real broker with the heap that the chart gives it: whatever it does, memory stays
// bounded, a neighbour at 200 messages a second goes on, nothing of hers is lost, and the broker stops in
// order. What is too much is in the review that these attacks come from; each was fatal or nearly so once.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { memoryMb, resetPeak } from '../bench/process-stats.ts';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { startBeside } from '../support/fuzz-beside.ts';
import { FuzzConnection, type Outcome, outcomeOf } from '../support/fuzz-connection.ts';
import { framed } from '../support/fuzz-mutate.ts';

const MIB = 1024 * 1024;
const PEAK_MB = 1_600;
/** Beside an attacker and other tests on 2 cores. */
const BESIDE_P99_MS = 2_000;
const DRAIN_MS = 4_000;
const PUBLISH = '/fanfare.v1.Publisher/Publish';

/** Attacks a broker that has a neighbour, and holds it to what this file says. */
async function withstands(attack: (broker: BrokerProcess) => Promise<void>): Promise<void> {
  await using broker = await startBroker({
    args: ['--cache', '64MiB', '--drain-timeout', `${DRAIN_MS}ms`],
    nodeArgs: ['--max-old-space-size=1024'],
  });
  using beside = await startBeside(broker);
  resetPeak(broker.pid);
  await attack(broker);
  const report = await beside.stop();
  const { peakMb } = memoryMb(broker.pid);
  console.log(`broker: at most ${peakMb.toFixed()} MB; beside: ${JSON.stringify(report)}`);
  expect(report).toMatchObject({ problems: [], received: report.published });
  expect(report.p99Ms).toBeLessThan(BESIDE_P99_MS);
  expect(peakMb).toBeLessThan(PEAK_MB);
  const begun = performance.now();
  expect(await broker.stop()).toEqual({ code: 0, signal: null });
  // Node does not notice the end of a connection that takes nothing: such a one is cut off.
  expect(performance.now() - begun).toBeLessThan(DRAIN_MS + 2_000);
}

const ends = (outcomes: readonly Outcome[]): string[] => [...new Set(outcomes.map(({ end }) => end))].sort();

test('400 requests of 4 MiB of which the last bytes never come', { timeout: 120_000 }, async () => {
  await withstands(async (broker) => {
    const connections = await Promise.all([1, 2].map(() => FuzzConnection.open(broker.address, broker.tls)));
    const most = framed(Buffer.alloc(4 * MIB)).subarray(0, 4 * MIB - 1_024);
    const streams = connections.flatMap((each) => Array.from({ length: 200 }, () => each.start(PUBLISH)));
    const outcomes = streams.map((stream) => heldOr(outcomeOf(stream)));
    for (const stream of streams) stream.write(most);
    const heard = await Promise.all(outcomes);
    // A connection may have 64 MiB under way: some of them wait for their last bytes, all others are refused.
    const refused = heard.filter((each) => each !== HELD);
    expect(ends(refused)).toEqual(['RESOURCE_EXHAUSTED']);
    expect(heard.length - refused.length).toBeLessThanOrEqual(2 * 16);
    for (const { session } of connections) session.destroy();
  });
});

const HELD: Outcome = { end: 'HELD', details: '', messages: [] };

/** Of those that are not refused nothing is heard. */
async function heldOr(outcome: Promise<Outcome>): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const timer = setTimeout(() => resolve(HELD), 10_000);
  void outcome.then((ended) => {
    clearTimeout(timer);
    resolve(ended);
  });
  return promise;
}

test('100 streams of compressed requests that unpack to 8 MiB each', { timeout: 120_000 }, async () => {
  await withstands(async (broker) => {
    await using connection = await FuzzConnection.open(broker.address, broker.tls);
    const bomb = framed(gzipSync(Buffer.alloc(8 * MIB)), 1);
    const bombs = Buffer.concat([bomb, bomb, bomb]);
    for (let round = 0; round < 5; round += 1) {
      const outcomes = await Promise.all(
        Array.from({ length: 100 }, () =>
          connection.call('/fanfare.v1.Publisher/PublishStream', bombs, {
            headers: { 'grpc-encoding': 'gzip' },
          }),
        ),
      );
      expect(ends(outcomes)).toEqual(['UNIMPLEMENTED']);
    }
  });
});

test('400 streams of a client that stands still, with widest windows and a large backlog', {
  timeout: 180_000,
}, async () => {
  await withstands(async (broker) => {
    const client = broker.connect();
    await client.admin.createTopic('large', { partitions: 4 });
    const { name } = await client.admin.createSubscription('large', { topic: 'large' });
    const publisher = client.publisher('large');
    const data = Buffer.alloc(256 * 1024);
    for (let round = 0; round < 16; round += 1)
      await Promise.all(Array.from({ length: 50 }, () => publisher.publish({ data })));
    const plan = { address: broker.address, tls: broker.tls, subscription: name, streams: 400 };
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, '../support/frozen-reader-child.ts'), JSON.stringify(plan)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    child.kill('SIGSTOP');
    for (let round = 0; round < 16; round += 1)
      await Promise.all(Array.from({ length: 50 }, () => publisher.publish({ data })));
    await client.close();
    child.kill('SIGKILL');
  });
});

test('1,000 connections without a word, and they are there when the broker stops', {
  timeout: 120_000,
}, async () => {
  const sockets: ReturnType<typeof connect>[] = [];
  await withstands(async (broker) => {
    const [host, port] = broker.address.split(':');
    for (let nth = 0; nth < 1_000; nth += 1) {
      const socket = connect(Number(port), host === 'localhost' ? '127.0.0.1' : host).resume();
      socket.on('error', () => {});
      sockets.push(socket);
      if (nth % 100 === 0) await new Promise(setImmediate);
    }
    // Who has a certificate gets in meanwhile.
    await using connection = await FuzzConnection.open(broker.address, broker.tls);
    await connection.ping();
  });
  for (const socket of sockets) socket.destroy();
});
