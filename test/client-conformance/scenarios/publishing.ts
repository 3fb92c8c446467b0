// Publishing: what is stored, what is refused, what holds back what.
import assert from 'node:assert/strict';
import { assertFails, assertOnce, assertOrderOfKeys, keyed, messages, texts } from '../checks.ts';
import type { Outcome, OutgoingMessage } from '../protocol.ts';
import type { Scenario } from '../scenario.ts';

const MIB = 1024 * 1024;
const MAX_BYTES = 2 * MIB;
/**
 * What is to be done at once is done well within this time, and before a linger or a deadline would do it.
 */
const AT_ONCE_MS = 10_000;

/** Messages that are refused, each for a reason of its own. */
const BAD: Readonly<Record<string, OutgoingMessage>> = {
  'too large': { bytes: MAX_BYTES + 1 },
  empty: { data: '' },
  'with a reserved attribute': { data: 'x', attributes: { 'goog-x': '1' } },
  'with a long attribute': { data: 'x', attributes: { name: 'v'.repeat(1_025) } },
  'with a long key': { data: 'x', key: 'k'.repeat(1_025) },
};

const codes = (outcomes: readonly Outcome[]): string[] =>
  outcomes.map((outcome) => ('id' in outcome ? 'ok' : outcome.code));

export const publishing: readonly Scenario[] = [
  {
    name: 'delivered as published',
    rule: 'A message that publish has answered reaches every subscription with its bytes, attributes, key and id.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription('audit');
      await scene.createSubscription('billing');
      await scene.connect();
      await scene.publisher();
      const published = [
        { data: 'plain' },
        { data: 'grüße 🎺', key: 'clé', attributes: { größe: '✓', empty: '', __proto: 'x' } },
        { data: '', attributes: { only: 'attributes' } },
      ];
      const ids = await scene.publish(published);
      for (const subscription of ['audit', 'billing']) {
        const consumer = await scene.consume({ subscription });
        const received = await consumer.received(published.length);
        for (const [nth, { data, key = '', attributes = {} }] of published.entries()) {
          const message = received.find(({ messageId }) => messageId === ids[nth]);
          assert.ok(message, `${ids[nth]} did not reach ${subscription}`);
          assert.deepEqual(
            {
              data: message.data,
              key: message.key,
              attributes: message.attributes,
              attempt: message.attempt,
            },
            { data, key, attributes, attempt: 1 },
          );
        }
      }
    },
  },
  {
    name: 'order of the calls',
    rule: 'Messages of an ordering key are stored in the order of the calls of publish.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription('audit', { ordering: true });
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume();
      const published = keyed(['a', 'b', 'c', 'd', 'e'], 100);
      await scene.publish(published);
      await consumer.received(published.length);
      assertOrderOfKeys(consumer);
      assertOnce(
        consumer,
        published.map(({ data }) => data!),
      );
    },
  },
  {
    name: 'a bad message fails alone',
    rule: 'A message that is refused fails with INVALID_ARGUMENT; those published with it, before or behind it, are stored.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      const consumer = await scene.consume();
      const good: string[] = [];
      for (const [what, bad] of Object.entries(BAD)) {
        for (const place of [0, 2, 4]) {
          // Each publisher is new, so that the bad message at place 0 is also the first of a publisher.
          const publisher = `${what} at ${place}`;
          await scene.publisher({ publisher });
          const batch = texts(4, `${publisher}: `).map((data, nth): { data: string; key?: string } => ({
            data,
            ...(nth % 2 && { key: data }),
          }));
          good.push(...batch.map(({ data }) => data));
          const outcomes = await scene.outcomes(
            [...batch.slice(0, place), bad, ...batch.slice(place)],
            publisher,
          );
          const expected = ['ok', 'ok', 'ok', 'ok'].toSpliced(place, 0, 'INVALID_ARGUMENT');
          assert.deepEqual(codes(outcomes), expected, `${publisher}: ${JSON.stringify(outcomes)}`);
        }
      }
      await consumer.hasAcked(good);
      assertOnce(consumer, good);
    },
  },
  {
    name: 'sizes at the limits',
    rule: 'What the documentation allows is stored, to the byte; what is larger fails with INVALID_ARGUMENT and both numbers.',
    needs: [],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume();
      const key = 'k'.repeat(1_024);
      const attributes = { name: 'v'.repeat(1_024), other: '' };
      const attributeBytes = 'name'.length + 1_024 + 'other'.length;
      const many = Object.fromEntries(texts(100, 'a').map((name) => [name, 'v']));
      const largest: OutgoingMessage[] = [
        { bytes: MAX_BYTES },
        { bytes: MAX_BYTES, key },
        { bytes: MAX_BYTES - attributeBytes, attributes },
        { data: 'x', attributes: many },
        { data: 'x', attributes: { ['n'.repeat(256)]: 'v' } },
      ];
      await scene.publish(largest);
      assert.equal((await consumer.received(largest.length)).length, largest.length);
      const outcomes = await scene.outcomes([
        { bytes: MAX_BYTES + 1 },
        { bytes: MAX_BYTES - attributeBytes + 1, attributes },
        { bytes: 5 * MIB },
      ]);
      assert.deepEqual(codes(outcomes), ['INVALID_ARGUMENT', 'INVALID_ARGUMENT', 'INVALID_ARGUMENT']);
      for (const [nth, bytes] of [MAX_BYTES + 1, MAX_BYTES + 1, 5 * MIB].entries()) {
        const { message } = outcomes[nth] as { message: string };
        // The sizes are the message's own, or those of the request that would have carried it.
        const [size = 0, limit = 0] =
          message
            .replaceAll(',', '')
            .match(/\d{7,}/g)
            ?.map(Number) ?? [];
        assert.ok(size >= bytes && limit >= MAX_BYTES && limit < bytes, message);
      }
    },
  },
  {
    name: 'a topic that does not exist',
    rule: 'Publishing to a topic that does not exist fails with NOT_FOUND, at once.',
    needs: [],
    async play(scene) {
      await scene.connect();
      await scene.publisher({ topic: 'nothing' });
      const [outcome] = await scene.outcomes(messages(1));
      assert.equal((outcome as { code: string }).code, 'NOT_FOUND', JSON.stringify(outcome));
    },
  },
  {
    name: 'a key stops at a failure',
    rule: 'After a message of a key has failed, later ones of the key fail with FAILED_PRECONDITION until the key is resumed; others go on.',
    needs: ['keys'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription('audit', { ordering: true });
      await scene.connect();
      await scene.publisher();
      const consumer = await scene.consume();
      const outcomes = await scene.outcomes([
        { key: 'a', data: 'a0' },
        { key: 'a', bytes: MAX_BYTES + 1 },
        { key: 'a', data: 'never' },
        { key: 'b', data: 'b0' },
        { data: 'no key' },
      ]);
      assert.deepEqual(codes(outcomes), ['ok', 'INVALID_ARGUMENT', 'FAILED_PRECONDITION', 'ok', 'ok']);
      const later = await scene.outcomes([
        { key: 'a', data: 'never' },
        { key: 'b', data: 'b1' },
      ]);
      assert.deepEqual(codes(later), ['FAILED_PRECONDITION', 'ok']);
      await scene.driver.ask('resumeKey', { publisher: 'p', key: 'a' });
      await scene.publish([{ key: 'a', data: 'a1' }]);
      await consumer.hasAcked(['a0', 'a1', 'b0', 'b1', 'no key']);
      assertOnce(consumer, ['a0', 'a1', 'b0', 'b1', 'no key']);
    },
  },
  {
    name: 'published again',
    rule: 'What was not answered when the connection broke is published again, in the order of the calls.',
    needs: ['reconnect'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription('audit', { ordering: true });
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.publisher();
      await scene.publish([{ key: 'a', data: 'a0' }]);
      // Stored, but the answers don't arrive.
      proxy.set('toClient', { holds: true });
      const [, ...rest] = keyed(['a'], 50);
      const outcomes = scene.publish(rest);
      await scene.untilBacklog('all that was published', ({ messages }) => messages === 50);
      proxy.cut();
      proxy.heal();
      await outcomes;
      await scene.connect({ client: 'other' });
      const consumer = await scene.consume({ client: 'other' });
      await consumer.hasAcked(texts(50, 'a'));
      assertOrderOfKeys(consumer);
    },
  },
  {
    name: 'no broker until the deadline',
    rule: 'A message that can’t be published until the deadline of its publisher fails with UNAVAILABLE and the reason.',
    needs: ['reconnect'],
    async play(scene) {
      await scene.createTopic();
      const proxy = await scene.proxy();
      proxy.refuse(true);
      await scene.connect({ address: proxy.address });
      await scene.publisher({ retryDeadlineMs: 1_000 });
      const { driver } = scene;
      const { outcomes } = await driver.ask('publish', { publisher: 'p', messages: messages(3) }, AT_ONCE_MS);
      assert.deepEqual(codes(outcomes), ['UNAVAILABLE', 'UNAVAILABLE', 'UNAVAILABLE']);
    },
  },
  {
    name: 'what is not acknowledged is bounded',
    rule: 'A publisher takes so many messages without an acknowledgement, then it refuses with RESOURCE_EXHAUSTED; those it took are published.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      const proxy = await scene.proxy();
      proxy.set('both', { holds: true });
      await scene.connect({ address: proxy.address });
      await scene.publisher({ maxOutstandingMessages: 10 });
      const all = scene.outcomes(messages(1_000));
      // The answer comes after the publisher has been given all messages: only then does the driver read on.
      await scene.driver.ask('hello', {});
      proxy.heal();
      const outcomes = codes(await all);
      const taken = outcomes.indexOf('RESOURCE_EXHAUSTED');
      assert.ok(taken >= 10 && taken <= 100, `${taken} messages were taken`);
      assert.deepEqual(
        outcomes,
        outcomes.map((_, nth) => (nth < taken ? 'ok' : 'RESOURCE_EXHAUSTED')),
      );
      const consumer = await scene.consume();
      await consumer.hasAcked(texts(taken));
      assertOnce(consumer, texts(taken));
    },
  },
  {
    name: 'flush sends at once',
    rule: 'Flush sends what a publisher is still gathering and ends when all of it is answered.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      await scene.connect();
      await scene.publisher({ lingerMs: 60_000 });
      const { driver } = scene;
      const outcomes = scene.publish(messages(3));
      await driver.ask('flush', { publisher: 'p' }, AT_ONCE_MS);
      await outcomes;
    },
  },
  {
    name: 'close sends at once',
    rule: 'Closing a publisher sends what it is still gathering and ends when all of it is answered; then it refuses with CANCELLED.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      await scene.connect();
      await scene.publisher({ lingerMs: 60_000 });
      const { driver } = scene;
      const outcomes = scene.publish(messages(3));
      await driver.ask('closePublisher', { publisher: 'p' }, AT_ONCE_MS);
      await outcomes;
      assert.deepEqual(codes(await scene.outcomes(messages(1))), ['CANCELLED']);
    },
  },
  {
    name: 'an abort ends publishing',
    rule: 'When its signal is aborted, a publisher fails everything that is not acknowledged with CANCELLED, at once.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.publisher();
      await scene.publish(messages(1));
      proxy.set('both', { holds: true });
      const { driver } = scene;
      const pending = driver.ask('publish', { publisher: 'p', messages: messages(3) }, AT_ONCE_MS);
      await driver.ask('abortPublisher', { publisher: 'p' }, AT_ONCE_MS);
      assert.deepEqual(codes((await pending).outcomes), ['CANCELLED', 'CANCELLED', 'CANCELLED']);
      await driver.ask('closeClient', { client: 'main' }, AT_ONCE_MS);
    },
  },
  {
    name: 'a client is closed without a broker',
    rule: 'Closing a client ends within the deadline of its publishers, even if there is no broker any more.',
    needs: ['bounds'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      const proxy = await scene.proxy();
      await scene.connect({ address: proxy.address });
      await scene.publisher({ retryDeadlineMs: 2_000 });
      const consumer = await scene.consume({ rules: [{ action: 'hold' }] });
      await scene.publish(messages(1));
      await consumer.received(1);
      proxy.set('both', { holds: true });
      const { driver } = scene;
      const pending = driver.ask('publish', { publisher: 'p', messages: messages(1) }, AT_ONCE_MS);
      await driver.ask('closeClient', { client: 'main' }, AT_ONCE_MS);
      const [outcome] = (await pending).outcomes;
      assert.ok(outcome !== undefined && 'code' in outcome, JSON.stringify(outcome));
      await consumer.ended(AT_ONCE_MS);
      await assertFails(driver.ask('reach', { client: 'main', timeoutMs: 1_000 }), 'CANCELLED');
    },
  },
];
