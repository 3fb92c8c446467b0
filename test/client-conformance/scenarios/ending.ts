// Ends: closed, aborted, deleted; what is in hand then, and what comes after.
import assert from 'node:assert/strict';
import { assertOnce, assertOrderOfKeys, messages, texts } from '../checks.ts';
import type { Scenario } from '../scenario.ts';
import type { Scene } from '../scene.ts';

type Mode = 'handler' | 'loop';

/** Well above what is promised, well below the test's own timeout. */
const BOUND_MS = 15_000;

/** Closes a consumer in the middle of its work; what it has not acked, and no more, goes to the next one. */
async function closedInTheMiddle(scene: Scene, mode: Mode): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription();
  await scene.connect();
  await scene.publisher();
  await scene.publish(messages(200));
  const consumer = await scene.consume({ mode, concurrency: 4, rules: [{ action: 'ack', waitMs: 5 }] });
  await consumer.received(20);
  await consumer.close(BOUND_MS);
  const before = consumer.messages.length;
  await consumer.ended();
  assert.ok(before < 200, 'it was to be closed in the middle');
  const acked = consumer.acked;
  // A loop may have gone on with its last message, and acked it too late.
  const doubtful = mode === 'loop' ? consumer.texts.slice(-1) : [];
  const next = await scene.consume();
  const left = texts(200).filter((text) => !acked.includes(text));
  await next.hasAcked(left);
  await scene.untilBacklog('no more', (counts) => counts.messages === 0);
  const got = next.texts.filter((text) => !doubtful.includes(text));
  assert.deepEqual(got.toSorted(), left.filter((text) => !doubtful.includes(text)).toSorted());
  assert.equal(consumer.messages.length, before, 'messages were handed out after the close');
  if (mode === 'handler') assert.equal(consumer.outstanding.length, 0, 'close did not wait for handlers');
}

async function aborted(scene: Scene, mode: Mode): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription();
  await scene.connect();
  await scene.publisher();
  const consumer = await scene.consume({ mode, rules: [{ action: 'hold' }] });
  await scene.publish(messages(3));
  const [first] = await consumer.received(3);
  await consumer.settle(first!, 'ack');
  await consumer.abort();
  // The end waits for handlers that work.
  if (mode === 'handler') {
    for (const message of consumer.outstanding) await consumer.settle(message, 'fail');
  }
  assert.equal((await consumer.ended(BOUND_MS)).error, undefined);
  const next = await scene.consume();
  await next.hasAcked(['m1', 'm2']);
  assertOnce(next, ['m1', 'm2']);
}

async function deleted(scene: Scene, mode: Mode): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription();
  await scene.connect();
  await scene.publisher();
  const consumer = await scene.consume({ mode });
  await scene.publish(messages(1));
  await consumer.hasAcked(['m0']);
  await scene.admin.deleteSubscription('audit');
  assert.equal((await consumer.ended(BOUND_MS)).error?.code, 'NOT_FOUND');
}

export const ending: readonly Scenario[] = [
  {
    name: 'closed in the middle, handler',
    rule: 'Closing begins no more handlers, waits for those that run, and sends what they did; the rest goes to another consumer.',
    needs: ['handler'],
    async play(scene) {
      await closedInTheMiddle(scene, 'handler');
    },
  },
  {
    name: 'closed in the middle, loop',
    rule: 'After a consumer was closed its loop is handed nothing more; what it acked counts, the rest goes to another consumer.',
    needs: [],
    async play(scene) {
      await closedInTheMiddle(scene, 'loop');
    },
  },
  {
    name: 'closed without a broker',
    rule: 'Closing a consumer ends within seconds, even if the broker does not answer any more.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.publisher();
      const consumer = await scene.consume({ rules: [{ data: 'm0', action: 'ack' }, { action: 'hold' }] });
      await scene.publish(messages(2));
      await consumer.received(2);
      proxy.set('both', { holds: true });
      await consumer.close(BOUND_MS);
      await consumer.ended();
    },
  },
  {
    name: 'aborted, handler',
    rule: 'When its signal is aborted a consumer ends without an error, after the handlers that run; the rest goes to another consumer.',
    needs: ['handler', 'bounds'],
    async play(scene) {
      await aborted(scene, 'handler');
    },
  },
  {
    name: 'aborted, loop',
    rule: 'When its signal is aborted a loop ends without an error; what it has not settled goes to another consumer.',
    needs: ['bounds'],
    async play(scene) {
      await aborted(scene, 'loop');
    },
  },
  {
    name: 'a deleted subscription, handler',
    rule: 'When its subscription is deleted a consumer ends with NOT_FOUND.',
    needs: ['handler'],
    async play(scene) {
      await deleted(scene, 'handler');
    },
  },
  {
    name: 'a deleted subscription, loop',
    rule: 'When its subscription is deleted a loop ends with NOT_FOUND.',
    needs: [],
    async play(scene) {
      await deleted(scene, 'loop');
    },
  },
  {
    name: 'no such subscription',
    rule: 'A consumer of a subscription that does not exist ends with NOT_FOUND, at once.',
    needs: [],
    async play(scene) {
      await scene.connect();
      const consumer = await scene.consume({ subscription: 'nothing' });
      assert.equal((await consumer.ended(BOUND_MS)).error?.code, 'NOT_FOUND');
    },
  },
  {
    name: 'a recreated subscription',
    rule: 'Acknowledgements of a subscription that was deleted do not settle anything of a new one with its name.',
    needs: ['reconnect'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.connect({ client: 'other' });
      await scene.publisher({ client: 'other' });
      const held = [
        { data: 'm5', times: 2, action: 'hold' },
        { data: 'm6', times: 2, action: 'hold' },
      ] as const;
      const consumer = await scene.consume({ rules: held });
      await scene.publish(messages(10));
      const old = new Map((await consumer.received(10)).map((message) => [message.data, message]));
      await scene.untilBacklog('all acked but what is held', (counts) => counts.messages === 2);
      // The consumer is cut off while the subscription is recreated, and repeats its acknowledgements when it
      // is back.
      proxy.refuse(true);
      proxy.cut();
      await consumer.retried();
      await consumer.settle(old.get('m5')!, 'ack');
      await scene.admin.deleteSubscription('audit');
      await scene.createSubscription('audit', { start: 'earliest' });
      proxy.heal();
      await consumer.received(20);
      await consumer.settle(old.get('m6')!, 'ack');
      await scene.publish([{ data: 'later' }]);
      await consumer.hasAcked(['later']);
      assertOnce(consumer, [...texts(10), ...texts(10), 'later']);
      // m5 and m6 of the new subscription are still held: the acks were for those of the old one.
      await consumer.close();
      const next = await scene.consume({ client: 'other' });
      await next.hasAcked(['m5', 'm6']);
      await scene.untilBacklog('no more', (counts) => counts.messages === 0);
      assertOnce(next, ['m5', 'm6']);
    },
  },
  {
    name: 'a recreated subscription has an order',
    rule: 'A consumer that comes back to a new subscription of the same name keeps to what that one asks: to its ordering, too.',
    needs: ['handler', 'order', 'reconnect'],
    async play(scene) {
      await scene.createTopic(1);
      await scene.createSubscription();
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.connect({ client: 'other' });
      await scene.publisher({ client: 'other' });
      const rules = [{ data: 'a2', times: 5, action: 'fail' }] as const;
      const consumer = await scene.consume({ mode: 'handler', rules });
      await scene.publish([{ data: 'without a key' }]);
      await consumer.hasAcked(['without a key']);
      proxy.refuse(true);
      proxy.cut();
      await consumer.retried();
      await scene.admin.deleteSubscription('audit');
      await scene.createSubscription('audit', { ordering: true });
      await scene.publish(texts(10, 'a').map((data) => ({ key: 'a', data })));
      proxy.heal();
      await consumer.hasAcked(texts(10, 'a'));
      assertOrderOfKeys(consumer);
    },
  },
];
