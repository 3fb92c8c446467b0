// Delivery: acknowledgements, redelivery, and how much a consumer is given at once.
import assert from 'node:assert/strict';
import { assertOnce, assertOutstanding, messages, texts } from '../checks.ts';
import type { Scenario } from '../scenario.ts';

export const delivery: readonly Scenario[] = [
  {
    name: 'acknowledged once and for all',
    rule: 'A message that was acknowledged is not delivered again; closing a consumer sends its last acknowledgements.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume();
      await scene.publish(messages(100));
      await consumer.hasAcked(texts(100));
      await consumer.close();
      assertOnce(consumer, texts(100));
      const [backlog] = await scene.admin.getBacklog(['audit']);
      assert.equal(backlog?.messages, 0);
      const next = await scene.consume();
      await scene.publish([{ data: 'later' }]);
      await next.received(1);
      assertOnce(next, ['later']);
    },
  },
  {
    name: 'given back',
    rule: 'A message that was given back is delivered again, with an attempt that counts from 1.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume({ rules: [{ data: 'm1', times: 2, action: 'fail' }] });
      await scene.publish(messages(3));
      await consumer.hasAcked(texts(3));
      const attempts = consumer.messages.filter(({ data }) => data === 'm1').map(({ attempt }) => attempt);
      assert.deepEqual(attempts, [1, 2, 3]);
      assertOnce(consumer, ['m0', 'm1', 'm1', 'm1', 'm2']);
    },
  },
  {
    name: 'a handler that fails gives back',
    rule: 'A message whose handler failed is delivered again, with an attempt that counts from 1, and the consumer goes on.',
    needs: ['handler'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const rules = [{ data: 'm1', times: 3, action: 'fail' }] as const;
      const consumer = await scene.consume({ mode: 'handler', rules });
      await scene.publish(messages(3));
      await consumer.hasAcked(texts(3));
      const attempts = consumer.messages.filter(({ data }) => data === 'm1').map(({ attempt }) => attempt);
      assert.deepEqual(attempts, [1, 2, 3, 4]);
      assertOnce(consumer, ['m0', 'm1', 'm1', 'm1', 'm1', 'm2']);
    },
  },
  {
    name: 'what was not settled',
    rule: 'What a consumer has not settled when it is closed is delivered to another one, as a further attempt.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume({ rules: [{ action: 'hold' }] });
      await scene.publish(messages(10));
      const held = await consumer.received(10);
      for (const message of held.slice(0, 5)) await consumer.settle(message, 'ack');
      await consumer.close();
      const next = await scene.consume();
      const left = held.slice(5).map(({ data }) => data);
      await next.hasAcked(left);
      assertOnce(next, left);
      assert.deepEqual(new Set(next.messages.map(({ attempt }) => attempt)), new Set([2]));
    },
  },
  {
    name: 'credit in messages',
    rule: 'Never more than maxOutstandingMessages are delivered and not settled; as many as that are.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume({ maxOutstandingMessages: 5, rules: [{ action: 'hold' }] });
      await scene.publish(messages(30));
      while (consumer.acked.length < 30) {
        const left = 30 - consumer.acked.length;
        await consumer.received(consumer.acked.length + Math.min(5, left));
        await scene.untilBacklog(
          'as many outstanding as allowed',
          ({ outstandingMessages }) => outstandingMessages === Math.min(5, left),
        );
        for (const message of consumer.outstanding) await consumer.settle(message, 'ack');
      }
      assertOutstanding(consumer, 5, () => 1);
      assertOnce(consumer, texts(30));
    },
  },
  {
    name: 'credit in bytes',
    rule: 'Never more than maxOutstandingBytes are delivered and not settled, but one larger message alone is.',
    needs: [],
    async play(scene) {
      await scene.createTopic(1);
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const rules = [{ action: 'hold' }] as const;
      const consumer = await scene.consume({ maxOutstandingBytes: 10_000, rules });
      await scene.publish(Array.from({ length: 10 }, () => ({ bytes: 3_000 })));
      await scene.publish([{ bytes: 50_000 }]);
      while (consumer.acked.length < 11) {
        await consumer.received(consumer.acked.length + 1);
        // The broker counts what it has sent, whether it has arrived or not.
        const before = consumer.messages.length;
        await scene.untilBacklog(
          'the same number at the broker',
          ({ outstandingMessages }) => outstandingMessages === consumer.outstanding.length,
        );
        assert.ok(consumer.messages.length <= before + 3);
        await consumer.settle(consumer.outstanding[0]!, 'ack');
      }
      const small = consumer.history.filter((event) => event.event === 'settled' || event.bytes === 3_000);
      assert.ok(small.length > 0);
      assertOutstanding(consumer, 10_000, (bytes) => (bytes === 3_000 ? bytes : 0));
      const large = consumer.history.findIndex(
        (event) => event.event === 'message' && event.bytes === 50_000,
      );
      const before = consumer.history.slice(0, large);
      const inHand = before.reduce((sum, { event }) => sum + (event === 'message' ? 1 : -1), 0);
      assert.equal(inHand, 0, 'the large one came beside others');
    },
  },
  {
    name: 'a slow consumer harms nobody',
    rule: 'A consumer that settles nothing holds up no other subscription, nor publishers, of the same client.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      // A lease that ends is delivered again, beside what is held here.
      await scene.createSubscription('stuck', { ackDeadlineSeconds: 600 });
      await scene.createSubscription('audit');
      await scene.connect();
      await scene.publisher();
      const limits = { maxOutstandingMessages: 100, maxOutstandingBytes: 4_000_000 };
      const stuck = await scene.consume({ subscription: 'stuck', ...limits, rules: [{ action: 'hold' }] });
      const audit = await scene.consume();
      for (let round = 0; round < 20; round += 1) {
        await scene.publish(Array.from({ length: 20 }, () => ({ bytes: 100_000 })));
      }
      await audit.received(400);
      assertOutstanding(stuck, 100, () => 1);
      assertOutstanding(stuck, 4_000_000, (bytes) => bytes);
    },
  },
  {
    name: 'handlers at once',
    rule: 'At most `concurrency` handlers run at once, and as many as that do.',
    needs: ['handler'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const rules = [{ action: 'hold' }] as const;
      const consumer = await scene.consume({ mode: 'handler', concurrency: 3, rules });
      await scene.publish(messages(12));
      while (consumer.acked.length < 12) {
        await consumer.received(Math.min(12, consumer.acked.length + 3));
        await scene.untilBacklog(
          'all others delivered',
          ({ outstandingMessages }) => outstandingMessages === 12 - consumer.acked.length,
        );
        await consumer.settle(consumer.outstanding[0]!, 'ack');
      }
      assertOutstanding(consumer, 3, () => 1);
      assertOnce(consumer, texts(12));
    },
  },
];
