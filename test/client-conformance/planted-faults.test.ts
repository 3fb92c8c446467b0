// Each scenario can fail: clients with a fault (drivers/careless.ts) do not get through those that are about
// it.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { careless } from './drivers.ts';
import { SCENARIOS } from './scenarios.ts';
import { Scene } from './scene.ts';

/** The scenarios that have to notice each fault. */
const NOTICED: Readonly<Record<string, readonly string[]>> = {
  'loses attributes': ['delivered as published'],
  'sends the last one first': ['order of the calls'],
  'refuses with the bad what is beside it': ['a bad message fails alone'],
  'counts the key to the size': ['sizes at the limits'],
  'waits for a topic to be created': ['a topic that does not exist'],
  'never stops a key': ['a key stops at a failure'],
  'gives up at the first broken connection': [
    'published again',
    'order through broken connections, handler',
    'order through broken connections, loop',
    'a recreated subscription',
    'a recreated subscription has an order',
    'a broker restarts',
    'a broker is killed',
    'old streams',
    'several addresses',
    'renewed certificates',
  ],
  'tries for ever': ['no broker until the deadline', 'a client is closed without a broker'],
  'is deaf to signals': ['an abort ends publishing', 'aborted, handler', 'aborted, loop'],
  'takes more than it was told to': [
    'what is not acknowledged is bounded',
    'credit in messages',
    'credit in bytes',
    'handlers at once',
  ],
  'waits for a linger to be over': ['flush sends at once', 'close sends at once'],
  'never finishes closing': ['closed without a broker', 'a client is closed without a broker'],
  'forgets some acks': ['acknowledged once and for all'],
  'acks what it should give back': [
    'given back',
    'a handler that fails gives back',
    'order after failures, loop',
  ],
  'keeps what it should give back': ['given back', 'a handler that fails gives back'],
  'knows only first attempts': ['given back', 'what was not settled', 'attempts over a crash'],
  'lets one consumer hold up the others': ['a slow consumer harms nobody'],
  'handles whatever there is at once': [
    'order after slow failures, handler',
    'one of a key at a time',
    'handlers at once',
  ],
  'closes later than it says': ['closed in the middle, handler', 'closed in the middle, loop'],
  'hides why it ended': [
    'a deleted subscription, handler',
    'a deleted subscription, loop',
    'no such subscription',
  ],
  'hides why it does not connect': ['why a connection fails'],
  'asks every proxy there is': ['loopback is not proxied', 'a proxy can be excluded'],
  'extends no leases': ['long work, handler', 'long work, loop', 'hard work, handler', 'hard work, loop'],
  'handles what it still handles': ['one long computation'],
  'extends by the first ack deadline': ['a changed ack deadline'],
  'hands out what is here after a failure': [
    'order after failures, handler',
    'order after failures, loop',
    'order through broken connections, loop',
    'a recreated subscription has an order',
  ],
  'acks whatever has the name': ['a recreated subscription'],
  'leaves consumers out above 1,000': ['many consumers'],
};

/**
 * Excludes errors of the driver itself: a fault that breaks the driver would be noticed by nobody in
 * particular.
 */
const NOT_BY_THE_DRIVER = /^(?!the driver )/;
/** Long enough for a client that does nothing wrong. */
const PATIENCE_MS = 3_000;
const TIMEOUT_MS = 60_000;

let broker: BrokerProcess;

beforeAll(async () => {
  broker = await startBroker();
}, TIMEOUT_MS);

afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
});

test.concurrent.each(
  Object.entries(NOTICED).flatMap(([fault, names]) => names.map((name) => [fault, name] as const)),
)(
  'a client that %s is noticed by: %s',
  async (fault, name) => {
    const scenario = SCENARIOS.find((each) => each.name === name);
    expect(scenario, `there is no scenario "${name}"`).toBeDefined();
    await using scene = await Scene.begin(broker, careless(fault), PATIENCE_MS);
    await expect(scenario!.play(scene)).rejects.toThrow(NOT_BY_THE_DRIVER);
  },
  TIMEOUT_MS,
);

test('every scenario is known to notice something', () => {
  const noticing = new Set(Object.values(NOTICED).flat());
  expect(SCENARIOS.map(({ name }) => name).filter((name) => !noticing.has(name))).toEqual([]);
});
