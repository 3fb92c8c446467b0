// What this broker has of partitions, from one phase to the next (engine/partition-phases.ts).
import { expect, test } from 'vitest';
import { type EngineRig, heldAppends, startEngine, TOPIC } from '../support/engine-rig.ts';
import type { Stores } from '../support/memory-store.ts';

/** An engine whose appends wait until they are let go; `wrote` has what the store was asked for, in order. */
async function startSlow(): Promise<EngineRig & { readonly letGo: () => void; readonly wrote: string[] }> {
  const { between, letGo } = heldAppends();
  const wrote: string[] = [];
  const noted = (stores: Stores): Stores => ({
    ...stores,
    log: {
      ...stores.log,
      append(...args) {
        wrote.push('append');
        return stores.log.append(...args);
      },
      drop(logEpoch) {
        wrote.push('drop');
        return stores.log.drop(logEpoch);
      },
    },
  });
  const rig = await startEngine({ between: (stores) => between(noted(stores)) });
  return { ...rig, letGo, wrote };
}

function first(rig: EngineRig): { readonly logEpoch: number; readonly partition: number } {
  return { logEpoch: rig.definitions.getTopic(TOPIC).logEpoch, partition: 0 };
}

test('a topic that is deleted while a partition of it is handed over: its data goes after the last append', async () => {
  const rig = await startSlow();
  const id = first(rig);
  const published = rig.publish('a');
  await rig.clock.advance(100);
  const left = rig.broker.partitions.handOver(id).catch((error: unknown) => error);
  await rig.clock.advance(100);
  await rig.definitions.deleteSubscription('tester', 'projects/p/subscriptions/sub');
  const deleted = rig.definitions.deleteTopic('tester', TOPIC, { force: false });
  await rig.clock.advance(1_000);
  expect(rig.wrote).toEqual([]);
  rig.letGo();
  await rig.clock.finish(deleted);
  await rig.clock.advance(1_000);
  expect(rig.wrote).toEqual(['append', 'drop']);
  expect(await left).toMatchObject({ code: 'ABORTED' });
  expect(await published).toMatchObject([{ firstOffset: 0 }]);
});

test('a partition that is given up while it is handed over takes and delivers nothing more', async () => {
  const rig = await startSlow();
  const id = first(rig);
  const received = rig.consume();
  void rig.publish('a');
  await rig.clock.advance(100);
  const left = rig.broker.partitions.handOver(id).catch((error: unknown) => error);
  rig.broker.partitions.abandon(id, 'the lease is lost');
  rig.letGo();
  await rig.clock.advance(1_000);
  expect(await left).toMatchObject({ code: 'ABORTED' });
  expect(received).toEqual([]);
  expect(rig.broker.owner(id)).toBeUndefined();
  expect(await rig.publish('b')).toMatchObject({ code: 'UNAVAILABLE' });
});
