// What this broker has of partitions, from one phase to the next (engine/partition-phases.ts).
import { expect, test } from 'vitest';
import { type EngineRig, startEngine, TOPIC } from '../support/engine-rig.ts';
import type { Stores } from '../support/memory-store.ts';

/** An engine whose appends wait until they are let go; `wrote` has what the store was asked for, in order. */
async function startSlow(): Promise<EngineRig & { readonly letGo: () => void; readonly wrote: string[] }> {
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const wrote: string[] = [];
  const between = (stores: Stores): Stores => ({
    ...stores,
    log: new Proxy(stores.log, {
      get: (log, name: keyof Stores['log']) => {
        if (name === 'append')
          return async (...args: Parameters<Stores['log']['append']>) => {
            await held;
            wrote.push('append');
            return log.append(...args);
          };
        if (name === 'drop')
          return async (logEpoch: number) => {
            wrote.push('drop');
            return log.drop(logEpoch);
          };
        return log[name].bind(log);
      },
    }),
  });
  const rig = await startEngine({ between });
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
