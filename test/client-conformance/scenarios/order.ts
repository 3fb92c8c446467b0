// Order of ordering keys, whatever fails and however often: in a handler and in a loop.
import assert from 'node:assert/strict';
import { assertNoneBeside, assertOrderOfKeys, keyed, texts } from '../checks.ts';
import type { Rule } from '../protocol.ts';
import type { Scenario } from '../scenario.ts';
import type { Scene } from '../scene.ts';

type Mode = 'handler' | 'loop';

const KEYS = ['a', 'b', 'c', 'd'];

/** Message 3 of key a fails 12 times, with or without a pause before. */
async function failsOften(scene: Scene, mode: Mode, waitMs: number): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription('audit', { ordering: true });
  await scene.connect();
  await scene.publisher();
  const rules: Rule[] = [
    { data: 'a3', times: 12, action: 'fail', waitMs },
    { data: 'a5', times: 1, action: 'fail' },
  ];
  await scene.publish(keyed(KEYS, 20));
  const consumer = await scene.consume({ mode, rules });
  await consumer.hasAcked(keyed(KEYS, 20).map(({ data }) => data!));
  assertOrderOfKeys(consumer);
  if (mode === 'handler') assertNoneBeside(consumer);
  assert.equal(consumer.texts.filter((text) => text === 'a3').length, 13);
}

/** Messages fail now and then, work takes a while, and the connection is cut again and again. */
async function chaos(scene: Scene, mode: Mode): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription('audit', { ordering: true });
  const proxy = await scene.proxy();
  await scene.connect();
  await scene.connect({ client: 'shaken', address: proxy.address });
  await scene.publisher();
  const published = keyed(KEYS, 40);
  const random = randomOf(1);
  const rules = published.flatMap(({ data }): Rule[] => {
    const waitMs = Math.floor(random() * 4);
    const failures = random() < 0.6 ? 0 : 1 + Math.floor(random() * 3);
    return [
      { data: data!, times: failures, action: 'fail', ...(random() < 0.5 && { waitMs }) },
      { data: data!, action: 'ack', waitMs },
    ];
  });
  const consumer = await scene.consume({ client: 'shaken', mode, rules });
  await scene.publish(published.slice(0, 40));
  for (let cut = 1; cut <= 3; cut += 1) {
    await consumer.received(cut * 30);
    proxy.cut();
    await scene.publish(published.slice(cut * 40, (cut + 1) * 40));
  }
  await consumer.hasAcked(published.map(({ data }) => data!));
  assertOrderOfKeys(consumer);
  if (mode === 'handler') assertNoneBeside(consumer);
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const order: readonly Scenario[] = [
  {
    name: 'order after failures, handler',
    rule: 'With ordering, no handler gets a later message of a key before the one that failed was handled, however often and fast it fails.',
    needs: ['handler', 'order'],
    async play(scene) {
      await failsOften(scene, 'handler', 0);
    },
  },
  {
    name: 'order after slow failures, handler',
    rule: 'The same when the handler fails after some time.',
    needs: ['handler', 'order'],
    async play(scene) {
      await failsOften(scene, 'handler', 15);
    },
  },
  {
    name: 'order after failures, loop',
    rule: 'With ordering, a loop is not handed a later message of a key after it gave one back until it has acked that one.',
    needs: ['order'],
    async play(scene) {
      await failsOften(scene, 'loop', 0);
    },
  },
  {
    name: 'order through broken connections, handler',
    rule: 'With ordering, handlers get a key in order whatever fails and however often the connection breaks.',
    needs: ['handler', 'order', 'reconnect'],
    async play(scene) {
      await chaos(scene, 'handler');
    },
  },
  {
    name: 'order through broken connections, loop',
    rule: 'With ordering, a loop is handed a key in order whatever it gives back and however often the connection breaks.',
    needs: ['order', 'reconnect'],
    async play(scene) {
      await chaos(scene, 'loop');
    },
  },
  {
    name: 'one of a key at a time',
    rule: 'While a handler has a message of a key no other handler gets one of that key; other keys go on.',
    needs: ['handler', 'order'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription('audit', { ordering: true });
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume({
        mode: 'handler',
        concurrency: 8,
        rules: [
          { data: 'a0', times: 1, action: 'hold' },
          { action: 'ack', waitMs: 2 },
        ],
      });
      await scene.publish(keyed(KEYS, 15));
      const others = ['b', 'c', 'd'].flatMap((key) => texts(15, key));
      await consumer.hasAcked(others);
      await scene.untilBacklog('all of a delivered', (counts) => counts.outstandingMessages === 15);
      // e0 comes behind them on the stream.
      await scene.publish([{ key: 'e', data: 'e0' }]);
      await consumer.hasAcked(['e0']);
      assert.deepEqual(
        consumer.texts.filter((text) => text.startsWith('a')),
        ['a0'],
      );
      await consumer.settle(consumer.outstanding[0]!, 'ack');
      await consumer.hasAcked(texts(15, 'a'));
      assertNoneBeside(consumer);
      assertOrderOfKeys(consumer);
    },
  },
];
