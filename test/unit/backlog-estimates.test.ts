// What a Backlog tells the autoscaler beside counts: consumers that could not be given more, messages that
// more consumers would not speed up, ordering keys with work. First from core/delivery.ts, then from one
// broker, and put together from several.
import { expect, test } from 'vitest';
import type { BacklogReport } from '../../services/broker/core/backlog-report.ts';
import { Delivery, type DeliveryOptions } from '../../services/broker/core/delivery.ts';
import { mergeReports } from '../../services/broker/engine/links/relay/relayed-backlog.ts';
import { chunkView } from '../support/delivery-rig.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import { createSharedMemory, PROJECT, RelayNode, TestRoutes } from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const OPTIONS: DeliveryOptions = {
  ordering: false,
  maxHoles: 1_000,
  maxQueued: 1_000,
  maxUnsettled: 1_000,
  maxRun: 1_000,
};
const ORDERED: DeliveryOptions = { ...OPTIONS, ordering: true };

/** A consumer on a partition of messages with these keys; 0 is none. */
class Lane {
  readonly delivery: Delivery;
  readonly #keys: readonly number[];

  constructor(keys: readonly number[], options = ORDERED) {
    this.#keys = keys;
    this.delivery = new Delivery(options, { startOffset: 0 }, keys.length);
    this.delivery.step({ kind: 'join', consumer: 1, hash: 1 }, 0);
  }

  /** Leases what there is, at most so many messages, in chunks of 4. */
  lease(messages = 1_000): void {
    for (let left = messages; left > 0; ) {
      const offset = this.delivery.peek(1);
      if (offset === undefined) return;
      const first = offset - (offset % 4);
      const keys = this.#keys.slice(first, first + 4);
      const chunk = chunkView(
        first,
        keys.map(() => 10),
        keys,
      );
      const event = { consumer: 1, chunk, maxMessages: left, maxBytes: 1e6, idle: true, deadlineMs: 1_000 };
      for (const effect of this.delivery.step({ kind: 'lease', ...event }, 0))
        if (effect.kind === 'deliver') left -= effect.messages;
    }
  }

  /** The messages are given back, and their attempt counts are durable. */
  fail(first: number, last: number): void {
    this.delivery.step({ kind: 'nack', consumer: 1, first, last }, 0);
    this.delivery.snapshot();
    this.delivery.step({ kind: 'persisted' }, 0);
  }

  ack(first: number, last: number): void {
    this.delivery.step({ kind: 'ack', consumer: 1, first, last }, 0);
  }
}

test('messages that fail twice are blocked until they are settled; a consumer that ends fails its own but once', () => {
  const lane = new Lane(
    Array.from({ length: 20 }, () => 0),
    OPTIONS,
  );
  lane.lease();
  lane.fail(0, 19);
  expect(lane.delivery.blockedMessages).toBe(0);
  lane.lease();
  lane.fail(3, 5);
  expect(lane.delivery.blockedMessages).toBe(3);
  lane.ack(6, 19);
  lane.ack(4, 4);
  expect(lane.delivery.blockedMessages).toBe(2);
  lane.ack(0, 19);
  expect(lane.delivery.blockedMessages).toBe(0);
});

test('what waits behind a poison message in its key is blocked with it, others are not', () => {
  // Key 7 has 0, 2, 4, 6, 8, 10; the rest are keys of their own. One message of a key is out at a time.
  const keys = Array.from({ length: 12 }, (_, at) => (at % 2 === 0 ? 7 : 100 + at));
  const lane = new Lane(keys, { ...ORDERED, maxRun: 1 });
  lane.lease();
  for (let time = 0; time < 2; time += 1) {
    expect(lane.delivery.blockedMessages).toBe(0);
    lane.fail(0, 0);
    if (time === 0) lane.lease();
  }
  expect(lane.delivery.blockedMessages).toBe(6);
  lane.lease();
  // A further lease changes nothing.
  expect(lane.delivery.blockedMessages).toBe(6);
  lane.ack(0, 0);
  expect(lane.delivery.blockedMessages).toBe(0);
});

test('keys with work are known once everything was looked at, or as much as will be', () => {
  const keys = Array.from({ length: 16 }, (_, at) => 1 + (at % 8));
  const lane = new Lane(keys);
  expect(lane.delivery.activeKeys).toBeUndefined();
  lane.lease(2);
  expect(lane.delivery.activeKeys).toBeUndefined();
  lane.lease();
  expect(lane.delivery.activeKeys).toBe(8);
  lane.ack(0, 0);
  expect(lane.delivery.activeKeys).toBe(8);
  lane.ack(0, 11);
  expect(lane.delivery.activeKeys).toBe(4);
  lane.ack(0, 15);
  expect(lane.delivery.activeKeys).toBe(0);

  const bounded = new Lane([...Array.from({ length: 40 }, () => 5), ...keys], {
    ...ORDERED,
    maxQueued: 10,
    maxRun: 1,
  });
  bounded.lease();
  // Behind the one key, which fills what is looked at, are others that nobody gets before it.
  expect(bounded.delivery.activeKeys).toBe(1);
  expect(new Lane(keys, OPTIONS).delivery.activeKeys).toBeUndefined();
});

test('of several brokers: consumers are the same everywhere, messages and keys add up, unknown stays unknown', () => {
  const report = (some: Partial<BacklogReport>): BacklogReport => ({
    ...{ subscription: 's', topic: 't', messages: 0, bytes: 0, outstandingMessages: 0, consumers: 3 },
    ...{ appendedTotal: 0, deliveredTotal: 0, ackedTotal: 0, redeliveredTotal: 0 },
    ...{ expiredByRetentionTotal: 0, measureTimeMs: 0, consumersWithoutCredit: 0, blockedMessages: 0 },
    ...some,
  });
  const merged = (...parts: Partial<BacklogReport>[]) => mergeReports(parts.map((part) => [report(part)]))[0];
  expect(
    merged(
      { consumersWithoutCredit: 2, blockedMessages: 5, activeKeys: 3 },
      { consumersWithoutCredit: 1, blockedMessages: 4, activeKeys: 0 },
    ),
  ).toMatchObject({ consumersWithoutCredit: 2, blockedMessages: 9, activeKeys: 3 });
  expect(merged({ activeKeys: 3 }, {})?.activeKeys).toBeUndefined();
});

test('consumers that can take no more are counted, wherever the partitions are; those that drain are not', async () => {
  for (const owner of [() => 0, (p: number) => p % 3]) {
    const clock = new VirtualClock();
    const peers = new MemoryPeers({ clock });
    const routes = new TestRoutes();
    const memory = createSharedMemory({ clock });
    const nodes = ['x', 'y', 'z'].map((id) => {
      routes.add(id, `${id}:1`);
      return new RelayNode({ id, clock, memory, routes, connector: peers.connector(id, clock) });
    });
    const run = <T>(work: Promise<T>): Promise<T> => clock.finish(work);
    await run(Promise.all(nodes.map((node) => node.start())));
    for (const node of nodes)
      peers.listen(node.id, `${node.id}:1`, clock, (link, relay) => node.peers.accept(link, relay));
    const ids = await run(nodes[0]!.createTopic(3));
    for (const node of nodes) await run(node.definitions.refresh());
    for (const id of ids) {
      routes.set(id, nodes[owner(id.partition)]!.id);
      await run(nodes[owner(id.partition)]!.own(id));
    }
    await run(nodes[0]!.createSubscription('audit'));
    for (const node of nodes) await run(node.definitions.refresh());
    const full = nodes[0]!.subscribe('audit', { clientId: 'full', manual: true, maxMessages: 30 });
    const measured = async () => (await run(nodes[1]!.backlog.report(PROJECT, [])))[0]!;
    await clock.advance(1_000);
    expect(await measured()).toMatchObject({ consumers: 1, consumersWithoutCredit: 0 });
    for (let turn = 0; turn < 20; turn += 1) {
      await run(
        nodes[0]!.publish(Array.from({ length: 10 }, (_, at) => ({ data: 'x', key: `${turn}-${at}` }))),
      );
      await clock.advance(100);
    }
    await clock.runUntil(() => full.messages.length === 30);
    await clock.advance(1_000);
    expect(await measured()).toMatchObject({ consumers: 1, consumersWithoutCredit: 1, messages: 200 });
    const idle = nodes[2]!.subscribe('audit', { clientId: 'idle' });
    await clock.runUntil(() => idle.messages.length === 170);
    await clock.advance(1_000);
    expect(await measured()).toMatchObject({ consumers: 2, messages: 30 });
    const who = { subscription: `${PROJECT}/subscriptions/audit`, clientIds: ['full'], peerAddresses: [] };
    await run(nodes[0]!.draining.drain({ ...who, ttlMs: 60_000 }));
    expect(await measured()).toMatchObject({ consumers: 2, consumersWithoutCredit: 0 });
  }
});
