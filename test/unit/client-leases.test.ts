// The client against a real broker in this process: leases that run out, subscriptions that change, are
// deleted or created anew, and ways to end.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import type { SubscriptionSettings } from '../../services/client/admin-types.ts';
import { type Client, connect } from '../../services/client/client.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import type { Subscription } from '../../services/client/subscription.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { LiveBroker } from '../support/live-broker.ts';
import { watchTimers } from '../support/timers.ts';
import { until } from '../support/until.ts';

const SUBSCRIPTION = 'projects/default/subscriptions/audit';
const backoff = { initialMs: 1, maxMs: 20 };
const texts = (count: number) => Array.from({ length: count }, (_, n) => String(n));

let broker: LiveBroker;
let proxy: FaultProxy;
let admin: Client;
/** A client behind the proxy. */
let client: Client;

beforeAll(async () => {
  broker = await LiveBroker.start();
  proxy = await startFaultProxy(broker.address);
  admin = connect(broker.connectOptions);
});

afterAll(async () => {
  expect(broker.unexpected).toEqual([]);
  await admin.close();
  await proxy[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

beforeEach(async () => {
  await admin.admin.createTopic('orders', { partitions: 1 });
  client = connect({ address: proxy.address, insecure: true, keepaliveMs: 500 });
});

afterEach(async () => {
  proxy.refuse(false);
  proxy.heal();
  await client.close({ timeoutMs: 0 });
  await admin.admin.deleteTopic('orders', { force: true });
});

const create = (settings: SubscriptionSettings = {}) =>
  admin.admin.createSubscription('audit', { topic: 'orders', ...settings });

async function publish(...messages: string[]): Promise<void> {
  await using publisher = admin.publisher('orders');
  await Promise.all(messages.map((data) => publisher.publish({ data, orderingKey: 'k' })));
}

async function backlog(): Promise<number> {
  const [report] = await admin.admin.getBacklog(['audit']);
  return report!.messages;
}

/** Milliseconds from now until the lease of the first message that has one ends. */
function leaseMs(): number {
  const { delivery } = broker.broker.runtimeOf(SUBSCRIPTION).dispatchers.get(0)!;
  return delivery.formerLeases()[0]!.deadlineMs - broker.broker.context.clock.monotonicMs();
}

/** Nobody gets through to the broker while `doing` is done. */
async function cutOff(doing: () => Promise<unknown>): Promise<void> {
  proxy.refuse(true);
  proxy.cut();
  await doing();
  proxy.refuse(false);
}

async function recreate(): Promise<void> {
  await admin.admin.deleteSubscription('audit');
  await create({ start: 'earliest' });
}

test.each([false, true])(
  'acknowledgements that are told again never reach a subscription that was created anew (direct: %s)',
  async (direct) => {
    await create();
    await publish(...texts(10));
    await using own = connect({ address: proxy.address, insecure: true, direct });
    if (direct) routedThroughProxy();
    let retries = 0;
    const subscription = own.subscribe('audit', { backoff, onRetry: () => void retries++ });
    for (let n = 0; n < 10; n++) (await subscription.next()).value.ack();
    await until(async () => (await backlog()) === 0);
    // The messages are outstanding in the new subscription, so that an acknowledgement would count.
    let other: Subscription;
    await cutOff(async () => {
      await recreate();
      other = await holdAll();
    });
    const connected = () => broker.broker.runtimeOf(SUBSCRIPTION).consumers >= 2;
    await until(connected);
    expect(await backlog()).toBe(10);
    // The client has heard of the new subscription, and remembers nothing of the old one.
    const before = retries;
    proxy.cut();
    await until(() => retries > before && connected());
    expect(await backlog()).toBe(10);
    await other!.close();
    const again: string[] = [];
    for await (const message of subscription) {
      again.push(message.text);
      message.ack();
      if (again.length === 10) break;
    }
    expect(again).toEqual(texts(10));
    expect(await backlog()).toBe(0);
  },
);

/** Another consumer, which has been given everything and settles nothing. */
async function holdAll(): Promise<Subscription> {
  const holder = admin.subscribe('audit');
  await holder.next();
  await until(async () => {
    const [report] = await admin.admin.getBacklog(['audit']);
    return report!.outstandingMessages === report!.messages;
  });
  return holder;
}

/** The routing table names the proxy instead of the broker. */
function routedThroughProxy(): void {
  vi.spyOn(broker, 'advertised', 'get').mockReturnValue(proxy.address);
}

test('what was handed out before is not acknowledged in a subscription that was created anew', async () => {
  await create();
  await publish(...texts(3));
  const subscription = client.subscribe('audit', { backoff });
  const old: ReceivedMessage[] = [];
  for (let n = 0; n < 3; n++) old.push((await subscription.next()).value);
  await cutOff(recreate);
  const first = (await subscription.next()).value as ReceivedMessage;
  for (const message of old) message.ack();
  await subscription.close();
  expect(first.text).toBe('0');
  expect(await backlog()).toBe(3);
});

test('nor when there is no stream to say it on, at the end', async () => {
  await create();
  await publish(...texts(3));
  const subscription = client.subscribe('audit', { backoff: { initialMs: 60_000, maxMs: 60_000 } });
  const old = (await subscription.next()).value as ReceivedMessage;
  await cutOff(async () => {
    await until(() => old.isStale);
    await recreate();
    await holdAll();
  });
  old.ack();
  await subscription.close();
  expect(await backlog()).toBe(3);
});

test('a changed ack deadline is that of what is held, and of what comes', async () => {
  await create({ ackDeadlineSeconds: 600 });
  await publish('held');
  await using subscription = client.subscribe('audit');
  const held = (await subscription.next()).value as ReceivedMessage;
  expect(leaseMs()).toBeGreaterThan(500_000);
  await admin.admin.updateSubscription('audit', { ackDeadlineSeconds: 20 });
  await until(() => leaseMs() < 20_001);
  await admin.admin.updateSubscription('audit', { ackDeadlineSeconds: 300 });
  await until(() => leaseMs() > 200_000);
  held.ack();
  await publish('later');
  const later = (await subscription.next()).value as ReceivedMessage;
  expect(later.deliveryAttempt).toBe(1);
  expect(leaseMs()).toBeGreaterThan(200_000);
  expect(leaseMs()).toBeLessThan(300_001);
  later.ack();
});

test('an ack deadline of its own stays as it is', async () => {
  await create({ ackDeadlineSeconds: 600 });
  await publish('held', 'other');
  await using subscription = client.subscribe('audit', { ackDeadlineSeconds: 30, maxOutstandingMessages: 1 });
  const held = (await subscription.next()).value as ReceivedMessage;
  await admin.admin.updateSubscription('audit', { ackDeadlineSeconds: 100 });
  held.ack();
  const other = (await subscription.next()).value as ReceivedMessage;
  expect(leaseMs()).toBeLessThan(30_001);
  other.ack();
});

test('a deleted subscription ends every consumer with NOT_FOUND', async () => {
  await create();
  await using direct = connect({ ...broker.connectOptions, direct: true });
  const loops = [client.subscribe('audit'), direct.subscribe('audit')];
  const handlers = [client.subscriber('audit', () => {}), direct.subscriber('audit', () => {})];
  const raw = client.subscribeRaw('audit', { onChunk: () => {} });
  await until(() => broker.broker.runtimeOf(SUBSCRIPTION).consumers === 5);
  const ends = [...loops.map((each) => each.next()), ...handlers.map((each) => each.closed), raw.closed];
  const outcomes = Promise.allSettled(ends);
  await admin.admin.deleteSubscription('audit');
  const codes = (await outcomes).map((outcome) => (outcome as PromiseRejectedResult).reason?.code);
  expect(codes).toEqual(['NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND']);
});

test.each(['succeeds', 'fails'])(
  'a message whose lease runs out while it is handled waits for the end of that: it %s',
  async (outcome) => {
    await create({ ackDeadlineSeconds: 600 });
    // The message has no key: with one it would wait anyway.
    await using publisher = admin.publisher('orders');
    await publisher.publish({ data: 'slow' });
    const { promise: end, resolve } = Promise.withResolvers<void>();
    const attempts: number[] = [];
    const subscriber = client.subscriber('audit', async ({ deliveryAttempt }) => {
      attempts.push(deliveryAttempt);
      if (deliveryAttempt > 1) return;
      await end;
      if (outcome === 'fails') throw new Error('as planned');
    });
    await until(() => attempts.length === 1);
    const before = broker.broker.stats.redeliveredMessages;
    broker.moveOn(600_001);
    await until(() => broker.broker.stats.redeliveredMessages > before);
    // What the broker has written is here after a few turns of the event loop.
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    expect(attempts).toEqual([1]);
    resolve();
    await until(async () => (await backlog()) === 0);
    await subscriber.stop();
    expect(attempts).toEqual(outcome === 'fails' ? [1, 2] : [1]);
  },
);

test('what has lost its lease before it is handed out is not handed out, but for the eight that a quick reader has without a look at the clock', async () => {
  await create({ ackDeadlineSeconds: 5 });
  // In one request they are one chunk, and one response: with the first one the others are here, too.
  await using publisher = admin.publisher('orders', { batch: { lingerMs: 20 } });
  await Promise.all(texts(20).map((data) => publisher.publish({ data })));
  await using subscription = client.subscribe('audit', { maxExtensionMs: 0 });
  const first = (await subscription.next()).value as ReceivedMessage;
  const now = performance.now.bind(performance);
  using _later = vi.spyOn(performance, 'now').mockImplementation(() => now() + 5_001);
  expect(first.isStale).toBe(true);
  first.ack();
  const attempts = new Map<string, number>();
  while (attempts.size < 19) {
    const message = (await subscription.next()).value as ReceivedMessage;
    attempts.set(message.text, message.deliveryAttempt);
    message.ack();
  }
  const late = [...attempts.values()].filter((attempt) => attempt === 1);
  expect(late.length).toBeLessThanOrEqual(8);
});

test("without ordering a failure is nobody else's: what follows of its key is handled meanwhile, once", async () => {
  await create();
  await publish(...texts(20));
  const handled: string[] = [];
  const subscriber = client.subscriber('audit', ({ text, deliveryAttempt }) => {
    handled.push(`${text}#${deliveryAttempt}`);
    if (text === '3' && deliveryAttempt < 4) throw new Error('as planned');
  });
  await until(async () => (await backlog()) === 0);
  await subscriber.stop();
  const others = texts(20).filter((text) => text !== '3');
  expect(handled.sort()).toEqual([...others.map((text) => `${text}#1`), '3#1', '3#2', '3#3', '3#4'].sort());
});

test('what was handled is known although another delivery of it has lost its lease meanwhile', async () => {
  await create({ ackDeadlineSeconds: 5 });
  await publish('0');
  await using subscription = client.subscribe('audit');
  const first = (await subscription.next()).value as ReceivedMessage;
  const { stats } = broker.broker;
  const redelivered = async (times: number) => {
    await until(() => stats.redeliveredMessages === times);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
  };
  const before = stats.redeliveredMessages;
  broker.moveOn(5_001);
  await redelivered(before + 1);
  const now = performance.now.bind(performance);
  using _later = vi.spyOn(performance, 'now').mockImplementation(() => now() + 5_001);
  await redelivered(before + 2);
  first.ack();
  await publish('1');
  const next = (await subscription.next()).value as ReceivedMessage;
  expect(next.text).toBe('1');
  next.ack();
});

test('stop() waits for handlers no longer than it is told to; what they had is delivered again', async () => {
  await create();
  await publish('stuck');
  const never = new Promise<void>(() => {});
  const { promise: begun, resolve } = Promise.withResolvers<void>();
  const stuck = client.subscriber('audit', () => {
    resolve();
    return never;
  });
  await begun;
  await stuck.stop({ timeoutMs: 20 });
  await stuck.closed;
  const other = client.subscribe('audit');
  expect(((await other.next()).value as ReceivedMessage).deliveryAttempt).toBe(2);
  await other.close();
  const aborter = new AbortController();
  const { promise: begunToo, resolve: beginToo } = Promise.withResolvers<void>();
  const stuckToo = client.subscriber('audit', () => {
    beginToo();
    return never;
  });
  await begunToo;
  const stopped = stuckToo.stop({ signal: aborter.signal });
  aborter.abort();
  await stopped;
  // close() of a client waits no longer than it is told to, either.
  const third = connect(broker.connectOptions);
  third.subscriber('audit', () => never);
  await third.close({ timeoutMs: 20 });
});

test('close() ends within a bound when the broker says nothing any more', async () => {
  await create();
  await publish('0', '1');
  const subscription = client.subscribe('audit');
  const first = (await subscription.next()).value as ReceivedMessage;
  proxy.set('both', { holds: true });
  first.ack();
  const waiting = subscription.next();
  const next = subscription.next();
  const startedMs = performance.now();
  const closed = subscription.close();
  // The loop ends at once, however long the broker takes to hear of it.
  expect((await next).done).toBe(true);
  // It has the second message, if that had come.
  await waiting;
  await closed;
  expect(performance.now() - startedMs).toBeLessThan(8_000);
}, 20_000);

test('an abort ends whoever waits', async () => {
  await create();
  const aborter = new AbortController();
  const { signal } = aborter;
  const subscription = client.subscribe('audit', { signal });
  const handlers = client.subscriber('audit', () => {}, { signal });
  const raw = client.subscribeRaw('audit', { onChunk: () => {}, signal });
  const waiting = subscription.next();
  aborter.abort();
  expect(await waiting).toEqual({ value: undefined, done: true });
  await Promise.all([subscription.closed, handlers.closed, raw.closed]);
  // A signal aborted before a consumer begins ends it, too.
  expect((await client.subscribe('audit', { signal }).next()).done).toBe(true);
  await client.subscriber('audit', () => {}, { signal }).closed;
});

test('callbacks that throw become warnings and disturb nothing', async () => {
  await create();
  const warnings: string[] = [];
  const warn = vi
    .spyOn(process, 'emitWarning')
    .mockImplementation((text) => void warnings.push(String(text)));
  const handled: string[] = [];
  const subscriber = client.subscriber(
    'audit',
    ({ text, deliveryAttempt }) => {
      if (deliveryAttempt === 1) throw new Error('as planned');
      handled.push(text);
    },
    {
      backoff,
      onRetry: () => {
        throw new Error('onRetry is broken');
      },
      onHandlerError: () => {
        throw new Error('onHandlerError is broken');
      },
    },
  );
  await publish('0');
  await until(() => handled.length === 1);
  proxy.cut();
  await publish('1');
  await until(() => handled.length === 2);
  await subscriber.stop();
  warn.mockRestore();
  expect(warnings.some((text) => text.includes('onRetry threw Error: onRetry is broken'))).toBe(true);
  expect(warnings.some((text) => text.includes('onHandlerError threw Error: onHandlerError'))).toBe(true);
});

test('nothing is left running by a consumer that has ended', async () => {
  await create();
  await publish(...texts(5));
  const own = connect(broker.connectOptions);
  await own.reach();
  using timers = watchTimers('/services/client/');
  for await (const message of own.subscribe('audit')) {
    message.ack();
    if (message.text === '2') break;
  }
  const subscriber = own.subscriber('audit', () => {});
  await until(async () => (await backlog()) === 0);
  await subscriber.stop();
  const aborter = new AbortController();
  const unreached = own.subscribe('audit', { signal: aborter.signal, backoff: { initialMs: 60_000 } });
  aborter.abort();
  await unreached.closed;
  expect(timers.set).toBeGreaterThan(0);
  expect([...timers.running.values()]).toEqual([]);
  await own.close();
});
