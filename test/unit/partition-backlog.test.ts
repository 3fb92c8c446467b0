// GetPartitionBacklog's numbers: what of a partition lies before an offset and is not settled, and what of
// that the asking consumer will not be given. First core/delivery.ts, against what the consumer is then
// really given; then put together from several brokers.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { DeliveryOptions } from '../../services/broker/core/delivery.ts';
import { DeliveryRig } from '../support/delivery-rig.ts';
import { MemoryPeers } from '../support/memory-peers.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { createSharedMemory, PROJECT, RelayNode, TestRoutes } from '../support/relay-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const OURS = 11;
const key = fc.constantFrom(0, 1, 1, 2, 3, 257);

type Step = (rig: DeliveryRig) => void;
const named = <T>(name: string, input: fc.Arbitrary<T>, run: (rig: DeliveryRig, input: T) => void) =>
  input.map((value) =>
    Object.assign((rig: DeliveryRig) => run(rig, value), {
      [fc.toStringMethod]: () => `${name} ${fc.stringify(value)}`,
    }),
  );
const consumerOf = (rig: DeliveryRig, at: number) => rig.consumers[at % rig.consumers.length]!;
const steps: fc.Arbitrary<Step> = fc.oneof(
  named('append', fc.array(key, { minLength: 1, maxLength: 6 }), (rig, keys) =>
    rig.append(
      keys,
      keys.map(() => 10),
    ),
  ),
  named('join', fc.constantFrom(222, 3_333), (rig, hash) => rig.join(hash)),
  named('lease', fc.tuple(fc.nat(5), fc.integer({ min: 1, max: 4 })), (rig, [at, most]) =>
    rig.lease(consumerOf(rig, at), most, 1_000, 50),
  ),
  named('ack', fc.tuple(fc.nat(5), fc.nat(30), fc.nat(3)), (rig, [at, first, more]) =>
    rig.ack(consumerOf(rig, at), first, first + more),
  ),
  named('nack', fc.tuple(fc.nat(5), fc.nat(30)), (rig, [at, offset]) =>
    rig.nack(consumerOf(rig, at), offset, offset),
  ),
  named('pass', fc.constantFrom(1, 60), (rig, ms) => rig.pass(ms)),
  named('commit', fc.constant(0), (rig) => rig.commit()),
  named('committed', fc.constant(0), (rig) => rig.committed()),
);

/**
 * The consumer takes and acknowledges all that it can get while nobody else does anything. Returns what it
 * had before the offset.
 */
function takeAll(rig: DeliveryRig, consumer: number, before: number): number[] {
  const had: number[] = [];
  for (let idle = 0; idle < 3; idle += 1) {
    rig.committed();
    rig.commit();
    rig.committed();
    do {
      for (const { offset } of rig.model.outstandingAt(consumer)) {
        had.push(offset);
        rig.ack(consumer, offset, offset);
        idle = 0;
      }
    } while (rig.lease(consumer, 3, 1_000, 50));
  }
  return had.filter((offset) => offset < before);
}

test.each([{ ordering: false }, { ordering: true }])(
  'at the end nothing before it is given any more; and when nothing is given any more it is the end: %j',
  { timeout: TIMEOUT_MS },
  ({ ordering }) => {
    const options: DeliveryOptions = { ordering, maxHoles: 6, maxQueued: 8, maxUnsettled: 1_000, maxRun: 3 };
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 40 }), fc.nat(40), (run, before) => {
        const rig = new DeliveryRig(options);
        rig.join(OURS);
        const [ours] = rig.consumers;
        for (const step of run) step(rig);
        // A consumer that let a lease end has its keys back once it is heard of.
        rig.ack(ours!, 1_000, 1_000);
        const { messages, elsewhereMessages } = rig.delivery.backlogBefore(before, OURS);
        expect(messages).toBe(
          rig.model.messages.filter(({ offset, state }) => offset < before && state !== 'settled').length,
        );
        expect(elsewhereMessages).toBeLessThanOrEqual(messages);
        const had = takeAll(rig, ours!, before);
        if (elsewhereMessages === messages) expect(had).toEqual([]);
        const left = rig.delivery.backlogBefore(before, OURS);
        expect(left.elsewhereMessages, 'nothing comes any more, and the end is not reached').toBe(
          left.messages,
        );
      }),
      cases(400),
    );
  },
);

test('from whose side it is looked at, and before which offset', () => {
  const rig = new DeliveryRig({
    ordering: false,
    maxHoles: 100,
    maxQueued: 100,
    maxUnsettled: 1_000,
    maxRun: 100,
  });
  rig.join(OURS);
  rig.join(222);
  rig.append([0, 0, 0, 0, 0, 0], [10, 10, 10, 10, 10, 10]);
  rig.lease(1, 2, 1_000, 50);
  rig.lease(2, 2, 1_000, 50);
  expect(rig.delivery.backlogBefore(6, OURS)).toEqual({ messages: 6, elsewhereMessages: 2 });
  expect(rig.delivery.backlogBefore(6, 222)).toEqual({ messages: 6, elsewhereMessages: 2 });
  expect(rig.delivery.backlogBefore(3, OURS)).toEqual({ messages: 3, elsewhereMessages: 1 });
  // For a consumer that is not here, only what is outstanding is elsewhere.
  expect(rig.delivery.backlogBefore(6, 9)).toEqual({ messages: 6, elsewhereMessages: 4 });
  rig.ack(2, 3, 3);
  expect(rig.delivery.backlogBefore(6, OURS)).toEqual({ messages: 5, elsewhereMessages: 1 });
  expect(rig.delivery.backlogBefore(1_000, OURS)).toEqual({ messages: 5, elsewhereMessages: 1 });
});

test('of several brokers every partition is there, seen from the consumer behind any of them', async () => {
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
    routes.set(id, nodes[id.partition]!.id);
    await run(nodes[id.partition]!.own(id));
  }
  await run(nodes[0]!.createSubscription('audit'));
  for (const node of nodes) await run(node.definitions.refresh());
  const holder = nodes[0]!.subscribe('audit', { clientId: 'holder', manual: true, maxMessages: 30 });
  await clock.advance(1_000);
  for (let turn = 0; turn < 9; turn += 1) {
    await run(
      nodes[0]!.publish(Array.from({ length: 10 }, (_, at) => ({ data: 'x', key: `${turn}-${at}` }))),
    );
    await clock.advance(50);
  }
  await clock.runUntil(() => holder.messages.length === 30);
  const name = `${PROJECT}/subscriptions/audit`;
  const asked = async (consumerHash: number, beforeOffsets: readonly number[]) => {
    const [report] = await run(nodes[1]!.backlog.report(PROJECT, [name], { consumerHash, beforeOffsets }));
    return [...report!.partitions!].sort((a, b) => a.partition - b.partition);
  };
  const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);
  const all = await asked(0, []);
  expect(all.map(({ partition }) => partition)).toEqual([0, 1, 2]);
  expect(sum(all.map(({ endOffset }) => endOffset))).toBe(90);
  expect(sum(all.map(({ messages }) => messages))).toBe(90);
  expect(sum(all.map(({ elsewhereMessages }) => elsewhereMessages))).toBe(30);
  expect(sum((await asked(holder.hash, [])).map(({ elsewhereMessages }) => elsewhereMessages))).toBe(0);
  expect((await asked(0, [1, 2, 3])).map(({ messages }) => messages)).toEqual([1, 2, 3]);
});
