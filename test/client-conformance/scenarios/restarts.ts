// Brokers that stop, die and come back, and streams that grow old, under load.
import assert from 'node:assert/strict';
import { assertNoneBeside, assertOnce, assertOrderOfKeys, keyed, messages, texts } from '../checks.ts';
import type { Consumer } from '../consumer.ts';
import type { Scenario } from '../scenario.ts';
import type { Scene } from '../scene.ts';

const KEYS = ['a', 'b', 'c', 'd'];
const ROUNDS = 2;
const OF_EACH_KEY = 30;

/**
 * Publishes in rounds, to a handler and a loop; between the rounds, with messages under way, the broker goes
 * and comes.
 */
async function underLoad(scene: Scene, goAndCome: () => Promise<unknown>): Promise<readonly Consumer[]> {
  await scene.createTopic();
  await scene.createSubscription('handled', { ordering: true });
  await scene.createSubscription('looped', { ordering: true });
  await scene.connect();
  await scene.publisher();
  const all = keyed(KEYS, OF_EACH_KEY * ROUNDS);
  const rules = [{ action: 'ack', waitMs: 1 }] as const;
  const consumers = [
    await scene.consume({ subscription: 'handled', mode: 'handler', clientId: 'one', rules }),
    await scene.consume({ subscription: 'looped', mode: 'loop', clientId: 'two', rules }),
  ];
  const size = KEYS.length * OF_EACH_KEY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const published = scene.publish(all.slice(round * size, (round + 1) * size));
    for (const consumer of consumers) await consumer.received(round * size + 20);
    if (round < ROUNDS - 1) await goAndCome();
    await published;
  }
  const expected = all.map(({ data }) => data!);
  for (const consumer of consumers) {
    await consumer.hasAcked(expected);
    assertOrderOfKeys(consumer);
    const [ended] = scene.driver.events.filter(
      (event) => event.event === 'ended' && event.consumer === consumer.name,
    );
    assert.equal(ended, undefined, 'a consumer has ended');
  }
  assertNoneBeside(consumers[0]!);
  return consumers;
}

export const restarts: readonly Scenario[] = [
  {
    name: 'a broker restarts',
    rule: 'Publishers and consumers go on by themselves after a restart of the broker: nothing is lost or out of order, and nobody sees an error.',
    needs: ['handler', 'reconnect'],
    async play(scene) {
      await scene.ownBroker();
      await underLoad(scene, async () => {
        await scene.broker.stop();
        await scene.restartBroker();
      });
    },
  },
  {
    name: 'a broker is killed',
    rule: 'After a broker was killed and started again, nothing that it acknowledged is lost, and keys go on in order.',
    needs: ['handler', 'reconnect'],
    async play(scene) {
      await scene.ownBroker();
      await underLoad(scene, async () => {
        await scene.broker.kill();
        await scene.restartBroker();
      });
    },
  },
  {
    name: 'attempts over a crash',
    rule: 'What was handed out before a consumer and the broker died comes again as a further attempt.',
    needs: [],
    async play(scene) {
      await scene.ownBroker();
      await scene.createTopic();
      await scene.createSubscription();
      const first = await scene.anotherDriver();
      await scene.connect({}, first);
      await scene.connect();
      await scene.publisher();
      const rules = [{ data: 'work', action: 'ack', waitMs: 300 }, { action: 'hold' }] as const;
      const consumer = await scene.consume({ rules }, first);
      await scene.publish(messages(5));
      await consumer.received(5);
      // The work takes longer than the broker needs to write down what it has delivered.
      await scene.publish([{ data: 'work' }]);
      await consumer.hasAcked(['work']);
      await scene.untilBacklog('the ack of it', (counts) => counts.messages === 5);
      await scene.broker.kill();
      first.signal('SIGKILL');
      await scene.restartBroker();
      await scene.connect({ client: 'later' });
      const next = await scene.consume({ client: 'later' });
      await next.hasAcked(texts(5));
      // The ack of the work may not have been written down.
      const held = next.messages.filter(({ data }) => data !== 'work');
      assert.deepEqual(
        held.map(({ attempt }) => attempt),
        [2, 2, 2, 2, 2],
      );
    },
  },
  {
    name: 'old streams',
    rule: 'When the broker ends a stream because it is old, what the consumer works on stays its own: it is not handed out again.',
    needs: ['handler', 'reconnect', 'leases'],
    async play(scene) {
      await scene.ownBroker({ args: ['--max-stream-age', '1s'] });
      await scene.createTopic();
      await scene.createSubscription('audit', { ordering: true });
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume({ mode: 'handler', rules: [{ action: 'ack', waitMs: 700 }] });
      const published = keyed(['a', 'b'], 5);
      await scene.publish(published);
      await consumer.hasAcked(published.map(({ data }) => data!));
      assert.ok(consumer.retries > 0, 'no stream has ended');
      assertOnce(
        consumer,
        published.map(({ data }) => data!),
      );
      assertOrderOfKeys(consumer);
    },
  },
];
