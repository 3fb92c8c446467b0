// A message that is refused, here or by the broker, harms no other but those of its ordering key behind it.
import { status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import type { OutgoingMessage } from '../../services/client/message-codec.ts';
import type { PublishStreamRequest } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { FakeBroker, type PublishVerdict } from '../support/fake-broker.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';

const TOPIC = 'projects/default/topics/orders';
const quick = { initialMs: 1, maxMs: 5 };
let broker: FakeBroker;
let client: Client;

beforeAll(async () => {
  broker = await FakeBroker.start();
});
afterAll(() => broker.stop());

beforeEach(() => {
  broker.createTopic('orders');
  broker.publishRequests.length = 0;
  broker.forgetsTopics = false;
  broker.onPublish = () => undefined;
  client = connect(broker.connectOptions);
});
afterEach(() => client.close());

const textsOf = (request: PublishStreamRequest): string[] =>
  request.messages.map(({ data }) => Buffer.from(data).toString());

/** Refuses a request with a message that begins with "bad"; `names`: whether it says which one. */
function refuseBad(request: PublishStreamRequest, names: boolean): PublishVerdict {
  const messageIndex = textsOf(request).findIndex((text) => text.startsWith('bad'));
  if (messageIndex === -1) return undefined;
  const refusal = { refuse: status.INVALID_ARGUMENT, message: `messages[${messageIndex}] is not good` };
  return names ? { ...refusal, messageIndex } : refusal;
}

type Outcome = 'stored' | { readonly code: string; readonly cause: unknown };

/** Publishes everything in one turn, and resolves with what became of each. */
async function publishAll(
  messages: readonly OutgoingMessage[],
  options: Parameters<Client['publisher']>[1] = {},
): Promise<Outcome[]> {
  await using publisher = client.publisher('orders', { backoff: quick, ...options });
  const outcomes = await Promise.allSettled(messages.map((message) => publisher.publish(message)));
  expect(publisher.outstanding).toEqual({ messages: 0, bytes: 0 });
  return outcomes.map((outcome) => {
    if (outcome.status === 'fulfilled') return 'stored';
    const { code, cause } = outcome.reason as FanfareError;
    return { code, cause };
  });
}

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const codesOf = (outcomes: readonly Outcome[]): string[] =>
  outcomes.map((outcome) => (outcome === 'stored' ? outcome : outcome.code));

test('messages that share a batch with a bad one are published all the same, in one request more', async () => {
  broker.onPublish = (request) => refuseBad(request, true);
  const outcomes = await publishAll(range(10).map((n) => ({ data: n === 3 ? 'bad' : `good ${n}` })));
  expect(codesOf(outcomes)).toEqual(range(10).map((n) => (n === 3 ? 'INVALID_ARGUMENT' : 'stored')));
  expect(broker.stored('orders')).toEqual([0, 1, 2, 4, 5, 6, 7, 8, 9].map((n) => `good ${n}`));
  expect(broker.publishRequests.map((request) => request.messages.length)).toEqual([10, 9]);
});

test('a key fails from the bad message on, not before it, and other keys go on in order', async () => {
  broker.onPublish = (request) => refuseBad(request, true);
  const publisher = client.publisher('orders');
  const publish = (data: string, orderingKey: string) => publisher.publish({ data, orderingKey });
  const outcomes = await Promise.allSettled([
    publish('a0', 'a'),
    publish('b0', 'b'),
    publish('bad', 'a'),
    publish('a1', 'a'),
    publish('b1', 'b'),
    publisher.publish({ data: 'no key' }),
  ]);
  expect(outcomes.map((outcome) => outcome.status === 'fulfilled')).toEqual([
    true,
    true,
    false,
    false,
    true,
    true,
  ]);
  const [failure, stopped] = outcomes.flatMap((outcome) =>
    outcome.status === 'rejected' ? [outcome.reason] : [],
  );
  expect(failure).toMatchObject({ code: 'INVALID_ARGUMENT', message: 'messages[2] is not good' });
  const heldBack = {
    code: 'FAILED_PRECONDITION',
    retriable: false,
    cause: failure,
    message:
      'held back to keep the order: an earlier message of the ordering key "a" failed with INVALID_ARGUMENT; publisher.resumeKey() lets the key go on',
  };
  expect(stopped).toMatchObject(heldBack);
  expect(broker.stored('orders')).toEqual(['a0', 'b0', 'b1', 'no key']);
  await expect(publish('a2', 'a')).rejects.toMatchObject(heldBack);
  publisher.resumeKey('a');
  await publish('a3', 'a');
  expect(broker.stored('orders').at(-1)).toBe('a3');
});

test.each([true, false])('the first message of a publisher (broker keeps its topic: %s)', async (keeps) => {
  broker.forgetsTopics = !keeps;
  broker.onPublish = (request) => refuseBad(request, true);
  const publisher = client.publisher('orders', { batch: { maxMessages: 1 } });
  const [first, ...others] = ['bad', 'one', 'two'].map((data) => publisher.publish({ data }));
  await expect(first).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await Promise.all(others);
  await publisher.publish({ data: 'three' });
  await expect(publisher.publish({ data: 'bad again' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await publisher.publish({ data: 'four' });
  expect(broker.stored('orders')).toEqual(['one', 'two', 'three', 'four']);
  // Each request names the topic until one was stored.
  expect(broker.publishRequests.map(({ topic }) => topic)).toEqual([TOPIC, TOPIC, TOPIC, '', '', '']);
});

describe('a broker that does not say which message is at fault', () => {
  test.each([0, 1, 499, 500, 998, 999])('number %i of 1,000 is found', async (bad) => {
    broker.onPublish = (request) => refuseBad(request, false);
    const messages = range(1_000).map((n) => ({ data: n === bad ? 'bad' : `${n}` }));
    expect(codesOf(await publishAll(messages))).toEqual(
      range(1_000).map((n) => (n === bad ? 'INVALID_ARGUMENT' : 'stored')),
    );
    expect(broker.stored('orders')).toEqual(
      range(1_000)
        .filter((n) => n !== bad)
        .map(String),
    );
    expect(broker.publishRequests.length).toBeLessThanOrEqual(22);
  });

  test('where it refuses everything it is not asked for ever', async () => {
    broker.onPublish = () => ({ refuse: status.INVALID_ARGUMENT, message: 'no' });
    const outcomes = await publishAll(range(1_000).map((n) => ({ data: `${n}`, orderingKey: `${n % 7}` })));
    expect(outcomes).not.toContain('stored');
    expect(broker.publishRequests.length).toBeLessThanOrEqual(1_000);
  });

  test('an index that there is not is not believed', async () => {
    broker.onPublish = (request) => {
      const verdict = refuseBad(request, false);
      return typeof verdict === 'object' ? { ...verdict, messageIndex: 4_000_000_000 } : verdict;
    };
    expect(codesOf(await publishAll([{ data: 'one' }, { data: 'bad' }, { data: 'two' }]))).toEqual([
      'stored',
      'INVALID_ARGUMENT',
      'stored',
    ]);
  });
});

test('what concerns the whole topic is asked once', async () => {
  for (const code of [status.NOT_FOUND, status.PERMISSION_DENIED, status.FAILED_PRECONDITION]) {
    broker.publishRequests.length = 0;
    broker.onPublish = () => ({ refuse: code, message: 'no' });
    const outcomes = await publishAll(range(10).map((n) => ({ data: `${n}`, orderingKey: 'k' })));
    expect(codesOf(outcomes)).toEqual(Array(10).fill(status[code]));
    expect(broker.publishRequests).toHaveLength(1);
  }
});

describe('a message that is refused here', () => {
  test('stops its key like any other that failed', async () => {
    const publisher = client.publisher('orders', { maxOutstandingMessages: 1 });
    const publish = (data: string, orderingKey: string) => publisher.publish({ data, orderingKey });
    const taken = [publish('m1', 'k'), publish('m2', 'k')];
    const full = await publish('m3', 'k').catch((error) => error);
    expect(full).toMatchObject({ code: 'RESOURCE_EXHAUSTED', message: expect.stringContaining('ready()') });
    await Promise.all(taken);
    await expect(publish('m4', 'k')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', cause: full });
    await publish('other', 'l');
    publisher.resumeKey('k');
    await publish('m3', 'k');
    const invalid = await publish('', 'k').catch((error) => error);
    expect(invalid).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('empty') });
    await expect(publish('m5', 'k')).rejects.toMatchObject({ cause: invalid });
    expect(broker.stored('orders')).toEqual(['m1', 'm2', 'other', 'm3']);
  });

  test('says what is of a wrong type, and breaks nothing', async () => {
    const publisher = client.publisher('orders');
    const wrong: [message: unknown, says: string][] = [
      [undefined, 'the message is not an object'],
      ['text', 'the message is not an object'],
      [{ data: 5 }, 'data is neither a string nor a Uint8Array'],
      [{ data: new Uint16Array(2) }, 'data is neither a string nor a Uint8Array'],
      [{ data: [1, 2] }, 'data is neither a string nor a Uint8Array'],
      [{ data: 'x', attributes: 'abc' }, 'attributes is not an object of strings'],
      [{ data: 'x', attributes: { a: 1 } }, 'the value of attribute "a" is not a string'],
      [{ data: 'x', orderingKey: 7 }, 'orderingKey is not a string'],
      [{ attributes: { ['k'.repeat(1_000_000)]: '' } }, 'attribute key "kkk'],
    ];
    for (const [message, says] of wrong) {
      const failure = await publisher.publish(message as OutgoingMessage).catch((error) => error);
      expect(failure).toMatchObject({ name: 'FanfareError', code: 'INVALID_ARGUMENT' });
      expect(failure.message.startsWith(says), failure.message).toBe(true);
      expect(failure.message.length).toBeLessThan(200);
    }
    await publisher.publish({ data: 'good' });
    expect(publisher.outstanding).toEqual({ messages: 0, bytes: 0 });
  });
});

test(
  'whatever is refused, lost or broken off: only bad messages fail, and what is behind them of their keys',
  async () => {
    const message = fc.record({ key: fc.constantFrom('', 'a', 'b', 'c'), bad: fc.boolean() });
    const trouble = fc.constantFrom('break', 'lose', 'full', undefined, undefined, undefined);
    const scenario = fc.record({
      messages: fc.array(message, { minLength: 1, maxLength: 60 }),
      badOnes: fc.integer({ min: 0, max: 60 }),
      names: fc.boolean(),
      maxMessages: fc.constantFrom(1, 3, 7, 1_000),
      troubles: fc.array(trouble, { maxLength: 12 }),
    });
    await fc.assert(
      fc.asyncProperty(scenario, async ({ messages, badOnes, names, maxMessages, troubles }) => {
        broker.createTopic('orders');
        let request = 0;
        broker.onPublish = (each) => {
          const now = troubles[request++];
          if (now === 'full') return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
          return refuseBad(each, names) ?? now;
        };
        // A client that has to look for bad messages finds a few.
        let badLeft = names ? badOnes : Math.min(badOnes, 4);
        const given = messages.map(({ key, bad }, n) => {
          const isBad = bad && badLeft-- > 0;
          return { data: `${isBad ? 'bad' : 'good'} ${key} ${n}`, orderingKey: key };
        });
        const outcomes = await publishAll(given, { batch: { maxMessages } });
        const failedKeys = new Set<string>();
        const wanted = given.map(({ data, orderingKey }) => {
          if (orderingKey !== '' && failedKeys.has(orderingKey)) return 'FAILED_PRECONDITION';
          if (!data.startsWith('bad')) return 'stored';
          failedKeys.add(orderingKey);
          return 'INVALID_ARGUMENT';
        });
        expect(codesOf(outcomes)).toEqual(wanted);
        const wantedLog = given.filter((_, n) => wanted[n] === 'stored').map(({ data }) => data);
        // A lost answer makes a second copy; the first ones are in order.
        const log = [...new Set(broker.stored('orders'))];
        expect([...log].sort()).toEqual([...wantedLog].sort());
        for (const key of ['a', 'b', 'c']) {
          const ofKey = (line: string) => line.startsWith(`good ${key} `);
          expect(log.filter(ofKey)).toEqual(wantedLog.filter(ofKey));
        }
      }),
      cases(150),
    );
  },
  TIMEOUT_MS,
);
