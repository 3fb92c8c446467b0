// What scenarios have in common: messages to publish, and checks of what a consumer was handed.
import assert from 'node:assert/strict';
import type { Consumer } from './consumer.ts';
import { OperationFailed } from './driver.ts';
import type { OutgoingMessage } from './protocol.ts';

/** "{prefix}0" to "{prefix}{count - 1}". */
export function texts(count: number, prefix = 'm'): string[] {
  return Array.from({ length: count }, (_, nth) => `${prefix}${nth}`);
}

export function messages(count: number, prefix = 'm'): OutgoingMessage[] {
  return texts(count, prefix).map((data) => ({ data }));
}

/** Messages "{key}0", "{key}1", … of each key, the keys in turns. */
export function keyed(keys: readonly string[], countOfEach: number): OutgoingMessage[] {
  return texts(countOfEach, '').flatMap((nth) => keys.map((key) => ({ key, data: key + nth })));
}

/**
 * When a message of a key is handed out, everything before it has been acked: nothing was overtaken, whether
 * messages came once or several times. The texts of key "a" are a0, a1, a2 and so on.
 */
export function assertOrderOfKeys(consumer: Consumer): void {
  const handed = new Map(consumer.messages.map(({ delivery, data }) => [delivery, keyAndNumber(data)]));
  /** How many messages of each key were acked, counted from the first on. */
  const done = new Map<string, number>();
  for (const event of consumer.history) {
    const { key, number } = handed.get(event.delivery)!;
    if (key === undefined) continue;
    const next = done.get(key) ?? 0;
    if (event.event === 'message') {
      assert.ok(
        number <= next,
        `${key}${number} was handed out before ${key}${next} was done: ${story(consumer)}`,
      );
    } else if (event.how === 'ack' && number === next) done.set(key, next + 1);
  }
}

/** Only one message of a key is in hand at a time. */
export function assertNoneBeside(consumer: Consumer): void {
  const handed = new Map(consumer.messages.map(({ delivery, data }) => [delivery, keyAndNumber(data)]));
  const inHand = new Set<string>();
  for (const event of consumer.history) {
    const { key, number } = handed.get(event.delivery)!;
    if (key === undefined) continue;
    if (event.event === 'settled') inHand.delete(key);
    else {
      assert.ok(
        !inHand.has(key),
        `${key}${number} was handed out beside another of its key: ${story(consumer)}`,
      );
      inHand.add(key);
    }
  }
}

/** Each of these was handed out once, and nothing else was. */
export function assertOnce(consumer: Consumer, expected: readonly string[]): void {
  assert.deepEqual(consumer.texts.toSorted(), expected.toSorted(), `handed out: ${story(consumer)}`);
}

/** What is in hand never weighs more than `max`. */
export function assertOutstanding(consumer: Consumer, max: number, weigh: (bytes: number) => number): void {
  const handed = new Map(consumer.messages.map((message) => [message.delivery, message]));
  let outstanding = 0;
  for (const event of consumer.history) {
    const weight = weigh(handed.get(event.delivery)!.bytes);
    outstanding += event.event === 'message' ? weight : -weight;
    assert.ok(outstanding <= max, `${outstanding} outstanding, more than ${max}: ${story(consumer)}`);
  }
}

/** The promise fails with the code, in words that match. */
export async function assertFails(
  failing: Promise<unknown>,
  code: string,
  words: RegExp = /./,
): Promise<OperationFailed> {
  try {
    await failing;
  } catch (error) {
    if (!(error instanceof OperationFailed)) throw error;
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return error;
  }
  return assert.fail(`succeeded, where ${code} was expected`);
}

/**
 * What happened to a consumer's messages, in short: "k0 k0! k0#2 k0. k1" (handed out, with its attempt; !
 * failed, . acked).
 */
function story(consumer: Consumer): string {
  const handed = new Map(consumer.messages.map((message) => [message.delivery, message]));
  return consumer.history
    .slice(-200)
    .map((event) => {
      const { data, attempt } = handed.get(event.delivery)!;
      if (event.event === 'settled') return data + (event.how === 'ack' ? '.' : '!');
      return attempt === 1 ? data : `${data}#${attempt}`;
    })
    .join(' ');
}

/** "a12" → a, 12. They are taken from the text, since a client with a fault may lose keys. */
function keyAndNumber(text: string): { key: string | undefined; number: number } {
  const [, key, number] = /^([a-z])(\d+)$/.exec(text) ?? [];
  return { key, number: Number(number) };
}
