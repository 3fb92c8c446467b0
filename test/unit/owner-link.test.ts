// engine/links/owner/owner-links.ts by itself: what a link answers to each request, played by hand.
import { beforeEach, expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { BEAT_MS, SILENT_BEATS } from '../../services/broker/engine/links/heartbeat.ts';
import type { PeerAnswer, PeerLinkHandler, PeerRequest } from '../../services/broker/ports/peer.ts';
import { keyOfPartition } from '../support/keys.ts';
import { messageBytes, requestOf } from '../support/publish-requests.ts';
import { createSharedMemory, PROJECT, RelayNode, TestRoutes, TOPIC } from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

let clock: VirtualClock;
let routes: TestRoutes;
let node: RelayNode;
let id: PartitionId;

/** A relay that says what the test says. */
class Link {
  readonly answers: PeerAnswer[] = [];
  readonly handler: PeerLinkHandler;
  accepts = true;
  closed = false;

  constructor(relay: string) {
    this.handler = node.peers.accept(
      {
        send: (answer) => {
          this.answers.push(answer);
          return this.accepts;
        },
        close: () => {
          this.closed = true;
        },
      },
      relay,
    );
  }

  say(...requests: PeerRequest[]): void {
    for (const request of requests) this.handler.request(request);
  }

  of<K extends PeerAnswer['kind']>(kind: K): (PeerAnswer & { kind: K })[] {
    return this.answers.filter((answer): answer is PeerAnswer & { kind: K } => answer.kind === kind);
  }
}

const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);

function publish(
  call: number,
  attempt: number,
  messages = requestOf([Buffer.from([0x0a, 1, call])]),
): PeerRequest {
  return { kind: 'publish', call, topic: TOPIC, partition: id, attempt, messages: Buffer.from(messages) };
}

function attach(consumer: number, incarnation: number): PeerRequest {
  return {
    kind: 'attach',
    consumer,
    subscription: `${PROJECT}/subscriptions/audit`,
    incarnation,
    client: { kind: 'stream', id: '', hash: 7, stream: 'x/1' },
    resumes: false,
    fresh: false,
  };
}

function credit(consumer: number, sequence: number, messages: number): PeerRequest {
  return {
    kind: 'credit',
    consumer,
    sequence,
    maxOutstandingMessages: messages,
    maxOutstandingBytes: 1_000_000,
    ackDeadlineMs: 10_000,
  };
}

beforeEach(async () => {
  clock = new VirtualClock();
  routes = new TestRoutes();
  routes.add('me', 'me:1');
  routes.add('other', 'other:1');
  const memory = createSharedMemory({ clock });
  const connector = { connect: () => ({ send: () => true, close: () => {} }) };
  node = new RelayNode({ id: 'me', clock, memory, routes, connector });
  await run(node.start());
  [id] = (await run(node.createTopic(1))) as [PartitionId];
  await run(node.createSubscription('audit'));
  routes.set(id, 'me');
});

const incarnation = (): number =>
  node.definitions.subscription(`${PROJECT}/subscriptions/audit`)!.incarnation;

test('what is behind a publish that belongs elsewhere goes back with it', async () => {
  await run(node.definitions.deleteTopic('me', TOPIC, { force: true }));
  [id] = (await run(node.createTopic(2))) as [PartitionId];
  routes.set(id, 'me');
  const link = new Link('x');
  const elsewhere = keyOfPartition(1, 2);
  const here = keyOfPartition(0, 2);
  const keyed = (call: number, ...keys: string[]) =>
    publish(
      call,
      1,
      requestOf(keys.map((orderingKey) => messageBytes({ data: Buffer.of(call), orderingKey }))),
    );
  // The relay takes the topic for smaller. The publishes wait until the partition is open.
  link.say(keyed(1, here), keyed(2, here, elsewhere), keyed(3, here));
  await run(node.own(id));
  await clock.advance(100);
  expect(link.of('published').map(({ call }) => call)).toEqual([1]);
  expect(link.of('refused')).toEqual([
    { kind: 'refused', call: 2, reason: 'NOT_OWNER', message: 'the topic has grown' },
    { kind: 'refused', call: 3, reason: 'NOT_OWNER', message: 'the topic has grown' },
  ]);
});

test('a publish that was refused is not overtaken by one behind it, whatever happens meanwhile', async () => {
  const link = new Link('x');
  routes.set(id, 'other');
  link.say(publish(1, 1));
  // This broker becomes the owner before the next one, sent before the refusal was heard, arrives.
  routes.set(id, 'me');
  await run(node.own(id));
  link.say(publish(2, 1));
  expect(link.of('refused').map(({ call, reason }) => [call, reason])).toEqual([
    [1, 'NOT_OWNER'],
    [2, 'NOT_OWNER'],
  ]);
  link.say(publish(3, 2), publish(4, 2));
  await clock.advance(20);
  expect(link.of('published').map(({ call, firstOffset }) => [call, firstOffset])).toEqual([
    [3, 0],
    [4, 1],
  ]);
});

test('waits while it is to own the partition; what waits for a relay that has gone is dropped', async () => {
  const link = new Link('x');
  const gone = new Link('y');
  gone.say(publish(1, 1));
  link.say(publish(1, 1));
  gone.handler.closed();
  await clock.advance(500);
  expect(link.answers).toEqual([]);
  await run(node.own(id));
  await clock.advance(20);
  expect(link.answers).toEqual([{ kind: 'published', call: 1, firstOffset: 0, count: 1 }]);
  expect(gone.answers).toEqual([]);
  expect(node.broker.stats.publishedMessages).toBe(1);
});

test('what breaks a frame is refused, and so is a deleted topic', async () => {
  await run(node.own(id));
  const link = new Link('x');
  link.say(publish(1, 1, Buffer.from([0x12, 5, 1])));
  link.say({
    ...(publish(2, 1) as PeerRequest & { kind: 'publish' }),
    partition: { logEpoch: id.logEpoch - 1, partition: 0 },
  });
  expect(link.of('refused').map(({ reason }) => reason)).toEqual(['INVALID_ARGUMENT', 'NOT_FOUND']);
});

test('credit is confirmed, and what is outstanding above a lower limit is told as it ends', async () => {
  await run(node.own(id));
  const link = new Link('x');
  link.say(attach(1, incarnation()));
  await run(node.publish(Array.from({ length: 5 }, () => ({ data: 'x' }))));
  expect(link.of('deliver')).toEqual([]);
  link.say(credit(1, 1, 3));
  await clock.advance(10);
  expect(link.of('deliver').map(({ messages }) => messages)).toEqual([3]);
  expect(link.of('credited')).toMatchObject([{ sequence: 1, outstandingMessages: 3 }]);
  expect(link.of('wants')).toMatchObject([{ more: true }]);
  link.say(credit(1, 2, 1));
  for (const last of [0, 1, 2]) {
    const operation = { kind: 'ack' as const, ...id, first: last, last, seconds: 0 };
    link.say({ kind: 'settle', consumer: 1, operations: [operation] });
    await clock.advance(10);
  }
  // Once the limit is reached, nothing more is said of it.
  expect(link.of('credited').slice(1)).toMatchObject([
    { sequence: 2, outstandingMessages: 3 },
    { sequence: 2, outstandingMessages: 2 },
    { sequence: 2, outstandingMessages: 1 },
  ]);
  const elsewhere = {
    kind: 'ack' as const,
    logEpoch: id.logEpoch,
    partition: 9,
    first: 0,
    last: 0,
    seconds: 0,
  };
  link.say({ kind: 'settle', consumer: 1, operations: [elsewhere] });
  expect(link.of('bounced')).toEqual([{ kind: 'bounced', consumer: 1, operations: [elsewhere] }]);
});

test('of an incarnation that is not known here, later, or not any more', () => {
  const link = new Link('x');
  link.say(attach(1, incarnation() + 1), attach(2, incarnation() - 1));
  expect(link.of('ended').map(({ consumer, code }) => [consumer, code])).toEqual([
    [1, 'UNAVAILABLE'],
    [2, 'NOT_FOUND'],
  ]);
});

test('a link that takes nothing more gets nothing until it does; its consumers leave with it', async () => {
  await run(node.own(id));
  const link = new Link('x');
  link.say(attach(1, incarnation()), credit(1, 1, 1_000));
  link.accepts = false;
  await run(node.publish([{ data: 'a' }]));
  await run(node.publish([{ data: 'b' }]));
  await clock.advance(10);
  expect(link.of('deliver')).toHaveLength(1);
  link.accepts = true;
  link.handler.writableAgain();
  expect(link.of('deliver')).toHaveLength(2);
  expect(node.broker.runtimeOf(`${PROJECT}/subscriptions/audit`).consumers).toBe(1);
  // A relay has only one link: the newest.
  const next = new Link('x');
  expect(link.closed).toBe(true);
  expect(node.broker.runtimeOf(`${PROJECT}/subscriptions/audit`).consumers).toBe(0);
  expect(node.peers.links).toBe(1);
  await clock.advance((SILENT_BEATS + 2) * BEAT_MS);
  expect(next.closed).toBe(true);
  expect(node.peers.links).toBe(0);
});
