// What a relay (x) and owners (y, z) say to each other, as dialogues. `vitest -u` rewrites them: commit only
// a difference that you can explain.
import { expect, test } from 'vitest';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { LinkDialogue } from '../support/link-dialogue.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import { createSharedMemory, move, RelayNode, TestRoutes } from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

interface Stage {
  readonly clock: VirtualClock;
  readonly peers: MemoryPeers;
  readonly routes: TestRoutes;
  readonly dialogue: LinkDialogue;
  /** x has the clients and owns nothing. */
  readonly nodes: readonly RelayNode[];
  readonly ids: readonly PartitionId[];
}

async function stage(
  title: string,
  partitions: number,
  owner: (partition: number) => number,
): Promise<Stage> {
  const clock = new VirtualClock();
  const peers = new MemoryPeers({ clock });
  const routes = new TestRoutes();
  const memory = createSharedMemory({ clock });
  const dialogue = new LinkDialogue(title);
  const nodes = ['x', 'y', 'z'].map((id) => {
    routes.add(id, `${id}:1`);
    return new RelayNode({
      id,
      clock,
      memory,
      routes,
      connector: dialogue.heard(id, peers.connector(id, clock)),
    });
  });
  await clock.finish(Promise.all(nodes.map((node) => node.start())));
  for (const node of nodes)
    peers.listen(
      node.id,
      `${node.id}:1`,
      clock,
      dialogue.answering(node.id, (link, relay) => node.peers.accept(link, relay)),
    );
  const ids = await clock.finish(nodes[0]!.createTopic(partitions));
  await clock.finish(nodes[0]!.createSubscription('audit'));
  for (const node of nodes) await clock.finish(node.definitions.refresh());
  for (const id of ids) {
    const node = nodes[owner(id.partition)]!;
    routes.set(id, node.id);
    await clock.finish(node.own(id));
  }
  return { clock, peers, routes, dialogue, nodes, ids };
}

test('a consumer behind a relay: attach, credit, deliver, settle, leave', async () => {
  const { clock, dialogue, nodes } = await stage('A consumer behind a relay', 1, () => 1);
  const [x] = nodes;
  dialogue.tell('a consumer with room for 2 messages subscribes at x');
  const consumer = x!.subscribe('audit', { maxMessages: 2, manual: true, clientId: 'a' });
  await clock.advance(50);
  dialogue.tell('3 messages are published at x');
  await clock.finish(x!.publish([{ data: 'one' }, { data: 'two' }, { data: 'three' }]));
  await clock.advance(50);
  dialogue.tell('it acknowledges the first, and gives the second back');
  consumer.ack(consumer.messages.slice(0, 1));
  consumer.nack(consumer.messages.slice(1, 2));
  await clock.advance(50);
  dialogue.tell('it acknowledges what it has, and leaves');
  consumer.ack(consumer.messages.slice(2));
  consumer.consumer.leave();
  await clock.advance(50);
  await expect(dialogue.text).toMatchFileSnapshot('links/consumer.txt');
});

test('credit is shared out among owners and moves to the one that wants it', async () => {
  const { clock, dialogue, nodes } = await stage('Credit of one consumer at two owners', 2, (p) => 1 + p);
  const [x, y] = nodes;
  dialogue.tell('a consumer with room for 4 messages subscribes at x');
  const consumer = x!.subscribe('audit', { maxMessages: 4, manual: true, clientId: 'a' });
  await clock.advance(50);
  dialogue.tell('4 messages are published at y');
  await clock.finish(y!.publish(['one', 'two', 'three', 'four'].map((data) => ({ data, key: 'k' }))));
  await clock.advance(400);
  dialogue.tell('it lowers its credit to 1');
  consumer.consumer.limits = {
    maxOutstandingMessages: 1,
    maxOutstandingBytes: 1_000,
    ackDeadlineMs: 10_000,
  };
  await clock.advance(200);
  await expect(dialogue.text).toMatchFileSnapshot('links/credit.txt');
});

test('a consumer drains', async () => {
  const { clock, dialogue, nodes } = await stage('A consumer drains', 1, () => 1);
  const [x] = nodes;
  const consumer = x!.subscribe('audit', { manual: true, clientId: 'a' });
  await clock.finish(x!.publish([{ data: 'one' }]));
  await clock.advance(50);
  dialogue.tell('y is asked to have it drain');
  const draining = nodes[1]!.draining.drain({
    subscription: 'projects/p/subscriptions/audit',
    clientIds: ['a'],
    peerAddresses: [],
    ttlMs: 10_000,
  });
  await clock.advance(50);
  await draining;
  dialogue.tell('2 messages are published, and the first one is acknowledged');
  await clock.finish(x!.publish([{ data: 'two' }, { data: 'three' }]));
  consumer.ack(consumer.messages);
  await clock.advance(50);
  await expect(dialogue.text).toMatchFileSnapshot('links/drain.txt');
});

test('a partition moves: publishes and settles follow it, and nothing is delivered twice', async () => {
  const { clock, dialogue, nodes, ids, routes } = await stage('A partition moves from y to z', 1, () => 1);
  const [x, y, z] = nodes;
  const consumer = x!.subscribe('audit', { manual: true, clientId: 'a' });
  await clock.finish(x!.publish([{ data: 'one' }]));
  await clock.advance(50);
  dialogue.tell('it moves while a message is published, and one is acknowledged');
  const moved = move(routes, ids[0]!, y!, z!);
  const published = x!.publish([{ data: 'two' }]);
  consumer.ack(consumer.messages);
  await clock.finish(Promise.all([moved, published]));
  await clock.advance(3_000);
  await expect(dialogue.text).toMatchFileSnapshot('links/move.txt');
});

test('a link breaks: what was outstanding is delivered again', async () => {
  const { clock, dialogue, nodes, peers } = await stage('A link breaks', 1, () => 1);
  const [x] = nodes;
  const consumer = x!.subscribe('audit', { manual: true, clientId: 'a' });
  await clock.finish(x!.publish([{ data: 'one' }]));
  await clock.advance(50);
  dialogue.tell('the connection is reset; the consumer has not acknowledged anything yet');
  peers.cut('x', 'y');
  await clock.advance(200);
  consumer.ack(consumer.messages.slice(-1));
  await clock.advance(50);
  await expect(dialogue.text).toMatchFileSnapshot('links/broken.txt');
});

test('a stream that resumes keeps what its client has', async () => {
  const { clock, dialogue, nodes } = await stage(
    'A stream ends in good order, and its client resumes',
    1,
    () => 1,
  );
  const [x, , z] = nodes;
  const consumer = x!.subscribe('audit', { manual: true, clientId: 'a' });
  await clock.finish(x!.publish([{ data: 'one' }]));
  await clock.advance(50);
  dialogue.tell('x takes all credit back, and ends the stream');
  const quiet = consumer.consumer.quiesce();
  await clock.advance(50);
  await quiet;
  consumer.consumer.leave('wait');
  await clock.advance(50);
  dialogue.tell('the client resumes at z, and acknowledges what it has there');
  const again = z!.subscribe('audit', { manual: true, clientId: 'a', resumes: true });
  await clock.advance(50);
  again.ack(consumer.messages);
  await clock.advance(100);
  await expect(dialogue.text).toMatchFileSnapshot('links/resume.txt');
});
