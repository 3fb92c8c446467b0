// The durability `memory`: answered before the store has it, and all the same lost by nothing but a crash.
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import { PassedOn } from '../../services/broker/engine/log/passed-on.ts';
import { type Outcome, startEngine, TOPIC } from '../support/engine-rig.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';

test('what was answered is stored once the disk has room, and nobody is answered early meanwhile', async () => {
  const { stores, clock, publish, consume, broker } = await startEngine({ durability: 'memory' });
  stores.faults.full = true;
  const outcomes: Outcome[] = [];
  const note = (outcome: Outcome) => void outcomes.push(outcome);
  void publish('a').then(note);
  void publish('b').then(note);
  await clock.advance(1);
  expect(outcomes).toMatchObject([[{ firstOffset: 0 }], [{ firstOffset: 1 }]]);
  void publish('c').then(note);
  void publish('d').then(note);
  await clock.advance(5_000);
  expect(outcomes.slice(2)).toMatchObject([{ code: 'RESOURCE_EXHAUSTED' }, { code: 'RESOURCE_EXHAUSTED' }]);
  expect(broker.stats.uncommittedBytes).toBeGreaterThan(0);

  stores.faults.full = false;
  await clock.advance(5_000);
  void publish('e').then(note);
  await clock.advance(1);
  expect(outcomes.at(-1)).toMatchObject([{ firstOffset: 2 }]);
  const received = consume();
  await clock.advance(100);
  expect(received).toEqual(['a', 'b', 'e']);
  expect(broker.stats.uncommittedBytes).toBe(0);
});

test('after an append that failed the next one is answered when it is stored, then it is early again', async () => {
  let stored = 0;
  let refuse = true;
  const { clock, publish } = await startEngine({
    durability: 'memory',
    between: (stores) => ({
      ...stores,
      log: {
        ...stores.log,
        async append(...args) {
          if (refuse) throw new BrokerError('RESOURCE_EXHAUSTED', 'full');
          await new Promise<void>((resolve) => clock.setTimer(1_000, resolve));
          await stores.log.append(...args);
          stored += 1;
        },
      },
    }),
  });
  const storedAt: number[] = [];
  const early = () => publish('x').then(() => void storedAt.push(stored));
  void early();
  await clock.advance(10);
  refuse = false;
  await clock.advance(100);
  // One more comes while the first is being stored at last.
  void early();
  await clock.advance(5_000);
  void early();
  await clock.advance(5_000);
  expect(storedAt).toEqual([0, 1, 2]);
});

test('a broker that stops in order waits for it', async () => {
  const { stores, clock, publish, broker, said } = await startEngine({ durability: 'memory' });
  stores.faults.full = true;
  await clock.settle();
  void publish('a');
  await clock.advance(10);
  let stopped = false;
  void broker.stop(60_000).then(() => {
    stopped = true;
  });
  await clock.advance(10_000);
  expect(stopped).toBe(false);
  stores.faults.full = false;
  await clock.advance(3_000);
  expect(stopped).toBe(true);
  expect(said.filter((line) => line.startsWith('error'))).toEqual([]);
  expect((await stores.log.bounds({ logEpoch: 1, partition: 0 })).endOffset).toBe(1);
});

test('one that does not wait so long says what is lost', async () => {
  const { stores, clock, publish, broker, said } = await startEngine({ durability: 'memory' });
  stores.faults.full = true;
  void publish('a');
  await clock.advance(10);
  void broker.stop(1_000);
  await clock.advance(10_000);
  expect(said).toContain('error: messages of the durability memory are lost with their owner');
});

const AWAY = new BrokerError('UNAVAILABLE', 'nobody owns it');

/** What an owner has answered and lost: its next owners take it from the n-th try on. */
async function passOn(fromTry: number) {
  const { broker, clock, said } = await startEngine();
  const passedOn = new PassedOn(broker.context);
  const batch = parsePublish(
    requestBytes(TOPIC, [{ data: Buffer.from('a|'), attributes: {}, orderingKey: '' }]),
    LIMITS,
  );
  const seen = { tries: 0, isWanted: true };
  passedOn.take({
    partition: { logEpoch: 1, partition: 0 },
    slice: { batch, indexes: undefined },
    isWanted: () => seen.isWanted,
    bring: (done, failed) => {
      seen.tries += 1;
      if (seen.tries < fromTry) failed(AWAY);
      else done();
    },
  });
  const errors = (): string[] => said.filter((line) => line.startsWith('error'));
  return { passedOn, clock, seen, errors, stats: broker.stats };
}

test('what an owner has answered and lost is brought to the next ones until one takes it', async () => {
  const { passedOn, clock, seen, errors, stats } = await passOn(4);
  let settled = false;
  void passedOn.ended().then(() => {
    settled = true;
  });
  expect(stats.uncommittedBytes).toBeGreaterThan(0);
  await clock.advance(100);
  expect(settled).toBe(false);
  await clock.advance(1_000);
  expect([settled, seen.tries, stats.uncommittedBytes, errors()]).toEqual([true, 4, 0, []]);
});

test('it is given up when the broker stops, or after five minutes, and that is said', async () => {
  for (const stops of [true, false]) {
    const { passedOn, clock, errors, stats } = await passOn(Number.POSITIVE_INFINITY);
    await clock.advance(200_000);
    expect(errors()).toEqual([]);
    if (stops) passedOn.stop();
    else await clock.advance(110_000);
    expect(errors()).toEqual(['error: messages of the durability memory are lost with their owner']);
    expect(stats.uncommittedBytes).toBe(0);
  }
});

test('of a topic that was deleted nothing is brought any more', async () => {
  const { clock, seen, errors, stats } = await passOn(Number.POSITIVE_INFINITY);
  await clock.advance(1_000);
  seen.isWanted = false;
  const { tries } = seen;
  await clock.advance(10_000);
  expect([seen.tries, errors(), stats.uncommittedBytes]).toEqual([tries, [], 0]);
});
