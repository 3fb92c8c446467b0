// Whatever ends publishing ends it: flush, close, deadlines, signals; and nothing is left behind.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import { FakeBroker } from '../support/fake-broker.ts';

const quick = { initialMs: 1, maxMs: 5 };
const HOUR_MS = 3_600_000;
let broker: FakeBroker;
let client: Client;

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.createTopic('orders');
  client = connect(broker.connectOptions);
});

afterEach(async () => {
  vi.useRealTimers();
  await client.close();
  await broker.stop();
});

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const failureOf = (promise: Promise<unknown>): Promise<FanfareError> =>
  promise.then(
    () => expect.fail('it succeeded'),
    (error) => error,
  );
/** A batch that is not full waits for so long. */
const lingering = { batch: { lingerMs: 60_000 } };

describe('what lingers is sent at once', () => {
  test('by flush()', async () => {
    const publisher = client.publisher('orders', lingering);
    const published = [publisher.publish({ data: 'one' }), publisher.publish({ data: 'two' })];
    await publisher.flush();
    expect(broker.stored('orders')).toEqual(['one', 'two']);
    await Promise.all(published);
    const later = publisher.publish({ data: 'three' });
    await publisher.close();
    await later;
    expect(broker.publishRequests.map(({ messages }) => messages.length)).toEqual([2, 1]);
  });

  test('by close() of the client', async () => {
    const published = client.publisher('orders', lingering).publish({ data: 'one' });
    await client.close();
    expect(await published).toEqual({ messageId: '1.0-0' });
  });
});

test('flush() waits for what was published before it, and for nothing else', async () => {
  const publisher = client.publisher('orders', {
    batch: { maxMessages: 1 },
    backoff: quick,
    retryDeadlineMs: 1_000,
  });
  broker.onPublish = ({ messages }) => (messages[0]!.data.length === 1 ? undefined : 'ignore');
  const before = publisher.publish({ data: '1' });
  const flushed = publisher.flush();
  const after = failureOf(publisher.publish({ data: 'later' }));
  await flushed;
  await before;
  expect(publisher.outstanding.messages).toBe(1);
  const aborter = new AbortController();
  const second = failureOf(publisher.flush({ signal: aborter.signal }));
  aborter.abort(new Error('enough'));
  expect(await second).toMatchObject({ code: 'CANCELLED', cause: new Error('enough') });
  expect(publisher.outstanding.messages).toBe(1);
  expect(await after).toMatchObject({ code: 'UNAVAILABLE' });
});

describe('close()', () => {
  test('takes about retryDeadlineMs without a broker, also for what had to wait for its turn', async () => {
    broker.kill();
    const publisher = client.publisher('orders', {
      batch: { maxMessages: 1 },
      backoff: quick,
      retryDeadlineMs: 300,
    });
    // Many more messages than may be in flight at once.
    const failures = range(100).map((n) => failureOf(publisher.publish({ data: `${n}` })));
    const startMs = performance.now();
    await publisher.close();
    // The bound is loose: those that waited were once given 300 ms each time that others were given up.
    expect(performance.now() - startMs).toBeLessThan(2_500);
    for (const failure of await Promise.all(failures)) expect(failure.code).toBe('UNAVAILABLE');
    expect(publisher.outstanding).toEqual({ messages: 0, bytes: 0 });
  });

  test.each<[string, () => { timeoutMs?: number; signal?: AbortSignal }, string]>([
    ['a timeout', () => ({ timeoutMs: 20 }), 'not acknowledged within 20 ms of close()'],
    ['a signal', () => ({ signal: AbortSignal.timeout(20) }), 'cancelled by the caller'],
    ['an aborted signal', () => ({ signal: AbortSignal.abort() }), 'cancelled by the caller'],
  ])('with %s ends at once, and says of which messages nothing is known', async (_, how, message) => {
    broker.onPublish = () => 'ignore';
    const publisher = client.publisher('orders', { batch: { maxMessages: 1 } });
    const failures = range(20).map((n) => failureOf(publisher.publish({ data: `${n}`, orderingKey: 'k' })));
    await publisher.close(how());
    await publisher.closed;
    for (const failure of await Promise.all(failures))
      expect(failure).toMatchObject({ code: 'CANCELLED', message });
    await publisher.close();
    await publisher.flush();
    await publisher.ready();
  });

  test('called again may end the first call', async () => {
    broker.onPublish = () => 'ignore';
    const publisher = client.publisher('orders');
    const failure = failureOf(publisher.publish({ data: 'x' }));
    const closing = publisher.close();
    await publisher.close({ timeoutMs: 0 });
    await closing;
    expect(await failure).toMatchObject({ code: 'CANCELLED' });
  });

  test('of the client, called again, may end the first call', async () => {
    broker.onPublish = () => 'ignore';
    const failure = failureOf(client.publisher('orders').publish({ data: 'x' }));
    const closing = client.close();
    await client.close({ timeoutMs: 0 });
    await closing;
    expect(await failure).toMatchObject({ code: 'CANCELLED' });
  });

  test('leaves nothing behind that keeps a program from ending', async () => {
    broker.onPublish = ({ messages }) => {
      const text = Buffer.from(messages[0]!.data).toString();
      if (text === 'full') return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
      return text === 'good' ? undefined : 'ignore';
    };
    const { ca, clientCert, clientKey } = broker.certificates;
    const program = fileURLToPath(new URL('../support/closing-client.ts', import.meta.url));
    const child = execFile(process.execPath, [program, broker.address, ca, clientCert, clientKey]);
    try {
      let output = '';
      child.stdout!.on('data', (text) => (output += text));
      child.stderr!.on('data', (text) => (output += text));
      expect(await once(child, 'close')).toEqual([0, null]);
      expect(output.trim()).toBe(Array(6).fill('CANCELLED').join(' '));
    } finally {
      child.kill('SIGKILL');
    }
  }, 20_000);
});

test('deadlines go by a clock that nobody sets', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const publisher = client.publisher('orders', { backoff: quick });
  let refusals = 0;
  broker.onPublish = () => {
    if (refusals++ === 3) return undefined;
    vi.setSystemTime(Date.now() + HOUR_MS);
    return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
  };
  await publisher.publish({ data: 'x', orderingKey: 'k' });
  // The clock goes backwards, too.
  refusals = 0;
  broker.onPublish = () => {
    vi.setSystemTime(0);
    return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
  };
  const impatient = client.publisher('orders', { backoff: quick, retryDeadlineMs: 50 });
  // At its end a try may be under way: whether that is stored nobody knows.
  expect(await failureOf(impatient.publish({ data: 'x' }))).toMatchObject({
    code: expect.stringMatching(/^(RESOURCE_EXHAUSTED|UNAVAILABLE)$/),
    message: expect.stringMatching(/full$/),
  });
});

test('backing off for long does not use up the time that there is for trying', async () => {
  const delays: number[] = [];
  const backoff = { initialMs: HOUR_MS, maxMs: HOUR_MS, random: () => 1 };
  const publisher = client.publisher('orders', {
    backoff,
    retryDeadlineMs: 400,
    onRetry: (_error, delayMs) => delays.push(delayMs),
  });
  broker.onPublish = () => ({ refuse: status.RESOURCE_EXHAUSTED, message: 'full' });
  expect(await failureOf(publisher.publish({ data: 'x' }))).toMatchObject({ message: 'full' });
  expect(delays.length).toBeGreaterThan(1);
  for (const delayMs of delays) expect(delayMs).toBe(100);
});

test('ready() can be aborted, and goes on for others', async () => {
  broker.onPublish = () => 'ignore';
  const publisher = client.publisher('orders', {
    maxOutstandingMessages: 1,
    backoff: quick,
    retryDeadlineMs: 200,
  });
  const failure = failureOf(publisher.publish({ data: 'x' }));
  const waiting = publisher.ready();
  const aborted = failureOf(publisher.ready({ signal: AbortSignal.timeout(1) }));
  expect(await aborted).toMatchObject({ code: 'CANCELLED' });
  await waiting;
  expect(await failure).toMatchObject({ code: 'UNAVAILABLE' });
});

test('callbacks that throw are an uncaught exception each, and change nothing', async () => {
  const uncaught: unknown[] = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error));
  try {
    let seen = 0;
    broker.onPublish = () => {
      seen++;
      if (seen === 1) return { refuse: status.RESOURCE_EXHAUSTED, message: 'full' };
      return seen === 3 ? 'break' : undefined;
    };
    const publisher = client.publisher('orders', {
      batch: { maxMessages: 1 },
      backoff: {
        ...quick,
        random: () => {
          throw new Error('random');
        },
      },
      onRetry: () => {
        throw new Error('onRetry');
      },
    });
    await Promise.all(range(20).map((n) => publisher.publish({ data: `${n}`, orderingKey: 'k' })));
    await publisher.close();
    expect(broker.stored('orders')).toEqual(range(20).map(String));
    expect(uncaught.map(String).sort()).toEqual([
      'Error: onRetry',
      'Error: onRetry',
      'Error: random',
      'Error: random',
    ]);
  } finally {
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
  }
});
