// What publishers have sent and the broker still holds is bounded as it is held, and a batch is refused as a
// whole.
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { type PublishBatch, parsePublish } from '../../services/broker/core/publish-batch.ts';
import { MAX_UNCOMMITTED_BYTES, PUBLISH_LIMITS } from '../../services/broker/limits.ts';
import { type Outcome, startEngine, TOPIC } from '../support/engine-rig.ts';
import type { Stores } from '../support/memory-store.ts';
import { requestBytes } from '../support/publish-requests.ts';

/** Appends answer only once `go` resolves. */
function held(go: Promise<void>): (stores: Stores) => Stores {
  return (stores) => ({
    ...stores,
    log: {
      ...stores.log,
      async append(...args) {
        await go;
        await stores.log.append(...args);
      },
    },
  });
}

const code = (outcome: Outcome) => (outcome instanceof BrokerError ? outcome.code : 'stored');

test('a request counts with all its bytes, whatever becomes of them', async () => {
  const gate = Promise.withResolvers<void>();
  const { broker, clock } = await startEngine({ between: held(gate.promise) });
  const small = requestBytes(TOPIC, [{ data: Buffer.from('x'), attributes: {}, orderingKey: '' }]);
  // Field 99 is unknown and has to be skipped.
  const unknown = new BinaryWriter().tag(99, 2).bytes(Buffer.alloc(2_900_000)).finish();
  const request = Buffer.concat([small, unknown]);
  const outcomes: Outcome[] = [];
  const note = (outcome: Outcome) => void outcomes.push(outcome);
  for (let i = 0; i < 250; i += 1) broker.publish(TOPIC, parsePublish(request, PUBLISH_LIMITS), note, note);
  await clock.settle();
  const fits = Math.floor(MAX_UNCOMMITTED_BYTES / request.length);
  expect(outcomes.map(code)).toEqual(Array.from({ length: 250 - fits }, () => 'RESOURCE_EXHAUSTED'));
  expect(broker.stats.uncommittedBytes).toBeLessThanOrEqual(MAX_UNCOMMITTED_BYTES);
  expect(broker.stats.uncommittedBytes).toBeGreaterThan(fits * request.length);
  gate.resolve();
  await clock.advance(100);
  expect(outcomes.map(code).filter((each) => each === 'stored')).toHaveLength(fits);
  expect(broker.stats.uncommittedBytes).toBe(0);
});

/** A batch with messages of many keys, which go to all partitions. */
function batchOf(nth: number): PublishBatch {
  const bodies = Array.from({ length: 32 }, (_, i) => ({
    data: Buffer.from(`${nth}/${i}|${'.'.repeat(500)}`),
    attributes: {},
    orderingKey: `key ${nth} ${i}`,
  }));
  return parsePublish(requestBytes(TOPIC, bodies), PUBLISH_LIMITS);
}

test('guarantee 6: of a batch that is refused nothing is stored, over how many partitions ever it goes', async () => {
  const gate = Promise.withResolvers<void>();
  const rig = await startEngine({
    partitions: 16,
    between: held(gate.promise),
    limits: { maxUncommittedBytes: 300_000 },
  });
  const outcomes = Array.from({ length: 60 }, () => 'none yet');
  for (let nth = 0; nth < 60; nth += 1)
    rig.broker.publish(
      TOPIC,
      batchOf(nth),
      () => outcomes.splice(nth, 1, 'stored'),
      (error) => outcomes.splice(nth, 1, error.code),
    );
  gate.resolve();
  await rig.clock.advance(100);
  expect(new Set(outcomes)).toEqual(new Set(['stored', 'RESOURCE_EXHAUSTED']));
  const received = rig.consume();
  await rig.clock.advance(1_000);
  const stored = outcomes.flatMap((outcome, nth) =>
    outcome === 'stored' ? Array.from({ length: 32 }, (_, i) => `${nth}/${i}`) : [],
  );
  expect(received.sort()).toEqual(stored.sort());
});

test('where the store takes a part of a batch only, nobody says that nothing was stored', async () => {
  let full = 0;
  const rig = await startEngine({
    partitions: 4,
    between: (stores) => ({
      ...stores,
      log: {
        ...stores.log,
        async append(...args) {
          if (args[0].partition < full) throw new BrokerError('RESOURCE_EXHAUSTED', 'the disk is full');
          await stores.log.append(...args);
        },
      },
    }),
  });
  const codes: string[] = [];
  for (full of [0, 2, 4]) {
    rig.broker.publish(
      TOPIC,
      batchOf(full),
      () => void codes.push('stored'),
      (error) => void codes.push(error.code),
    );
    await rig.clock.advance(100);
  }
  expect(codes).toEqual(['stored', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED']);
});
