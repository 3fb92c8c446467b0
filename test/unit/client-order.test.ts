// The client against a real broker in this process: whatever fails, however often and fast, whatever becomes
// of streams and leases, the messages of a key are handled in order, and each with success once.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type Client, connect } from '../../services/client/client.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { LiveBroker } from '../support/live-broker.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';

const ACK_DEADLINE_SECONDS = 5;
const KEYS = ['a', 'b', 'c', ''] as const;

let broker: LiveBroker;
let proxy: FaultProxy;
let admin: Client;
let number = 0;
/** How far the monotonic clock is ahead that broker and client share. */
let aheadMs = 0;
const now = performance.now.bind(performance);

beforeAll(async () => {
  vi.spyOn(performance, 'now').mockImplementation(() => now() + aheadMs);
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

type Api = 'handlers' | 'loop';
type Pause = 'none' | 'microtask' | 'turn' | 'timer' | 'long';

interface PlannedMessage {
  readonly key: (typeof KEYS)[number];
  /** How often its handling fails. */
  readonly failures: number;
  readonly pause: Pause;
}

interface PlannedEvent {
  readonly kind:
    | 'cut'
    | 'end'
    | 'end, leases kept'
    | 'leases run out'
    | 'leases run out, as the client knows';
  /** The event comes when so many handlings have begun. */
  readonly after: number;
}

interface Plan {
  readonly api: Api;
  readonly direct: boolean;
  readonly messages: readonly PlannedMessage[];
  readonly events: readonly PlannedEvent[];
  readonly concurrency: number;
  readonly credit: number;
  readonly consumers: number;
}

const plan: fc.Arbitrary<Plan> = fc.record({
  api: fc.constantFrom<Api>('handlers', 'loop'),
  direct: fc.boolean(),
  messages: fc.array(
    fc.record({
      key: fc.constantFrom(...KEYS),
      failures: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 4 })),
      pause: fc.oneof(
        { weight: 30, arbitrary: fc.constantFrom<Pause>('none', 'microtask', 'turn', 'timer') },
        fc.constant<Pause>('long'),
      ),
    }),
    { minLength: 1, maxLength: 40 },
  ),
  events: fc.array(
    fc.record({
      kind: fc.constantFrom<PlannedEvent['kind']>(
        'cut',
        'end',
        'end, leases kept',
        'leases run out',
        'leases run out, as the client knows',
      ),
      after: fc.integer({ min: 1, max: 40 }),
    }),
    { maxLength: 3 },
  ),
  concurrency: fc.integer({ min: 1, max: 8 }),
  credit: fc.constantFrom(1, 3, 20, 1_000),
  consumers: fc.constantFrom(1, 1, 1, 2),
});

/** What is known of the handlings so far, and what is wrong with them. */
class Handlings {
  readonly #plan: Plan;
  readonly #subscription: string;
  readonly #failuresLeft: number[];
  readonly #running = new Map<string, Set<object>>();
  readonly successes: number[];
  readonly problems: string[] = [];
  readonly log: string[] = [];
  begun = 0;
  maxAttempt = 1;
  readonly #events: PlannedEvent[];
  #left: number;
  #allDone: () => void = () => {};
  readonly done = new Promise<void>((resolve) => {
    this.#allDone = resolve;
  });

  constructor(given: Plan, subscription: string) {
    this.#plan = given;
    this.#subscription = subscription;
    this.#failuresLeft = given.messages.map(({ failures }) => failures);
    this.successes = given.messages.map(() => 0);
    this.#events = [...given.events].sort((a, b) => a.after - b.after);
    this.#left = given.messages.length;
  }

  /** Handles a message as planned; `consumer` tells consumers apart. */
  async handle(message: ReceivedMessage, consumer: object): Promise<void> {
    const index = Number(message.text);
    const { key, pause } = this.#plan.messages[index]!;
    this.begun++;
    this.maxAttempt = Math.max(this.maxAttempt, message.deliveryAttempt);
    this.log.push(`${key}${index}#${message.deliveryAttempt}`);
    if (key !== '') this.#checkOrder(index, key, consumer);
    this.#performEvents();
    if (pause === 'microtask') await undefined;
    if (pause === 'turn') await new Promise(setImmediate);
    if (pause === 'timer') await new Promise((resolve) => setTimeout(resolve, 3));
    // Leases that have run out are noticed every 100 ms.
    if (pause === 'long') await new Promise((resolve) => setTimeout(resolve, 150));
    if (key !== '') this.#running.get(key)!.delete(consumer);
    if (this.#failuresLeft[index]! > 0) {
      this.#failuresLeft[index]!--;
      this.log.push(`${key}${index}!`);
      throw new Error('as planned');
    }
    this.log.push(`${key}${index}.`);
    if (++this.successes[index]! === 1 && --this.#left === 0) this.#allDone();
  }

  #checkOrder(index: number, key: string, consumer: object): void {
    const running = this.#running.get(key) ?? new Set();
    this.#running.set(key, running);
    if (running.has(consumer)) this.problems.push(`${index} is handled while another of ${key} is`);
    running.add(consumer);
    this.#plan.messages.slice(0, index).forEach((earlier, at) => {
      if (earlier.key === key && this.successes[at] === 0) this.problems.push(`${index} overtook ${at}`);
    });
  }

  #performEvents(): void {
    while (this.#events.length > 0 && this.#events[0]!.after <= this.begun) {
      const { kind } = this.#events.shift()!;
      this.log.push(`(${kind})`);
      if (kind === 'cut') proxy.cut();
      else if (kind === 'leases run out') broker.moveOn(ACK_DEADLINE_SECONDS * 1000 + 1);
      else if (kind === 'leases run out, as the client knows') aheadMs += ACK_DEADLINE_SECONDS * 1000 + 1;
      else void broker.endStreams({ keepLeases: kind === 'end, leases kept' });
    }
  }

  /** The handlings and problems as text, for errors. */
  get text(): string {
    return `${this.#subscription}: ${this.log.join(' ')}\n${this.problems.join('\n')}`;
  }
}

async function run(given: Plan): Promise<Handlings> {
  const id = `order-${++number}`;
  await admin.admin.createTopic(id, { partitions: 2 });
  await admin.admin.createSubscription(id, {
    topic: id,
    ordering: true,
    ackDeadlineSeconds: ACK_DEADLINE_SECONDS,
  });
  await using publisher = admin.publisher(id, { batch: { lingerMs: 0 } });
  given.messages.forEach(({ key }, index) => {
    void publisher.publish({ data: String(index), ...(key !== '' && { orderingKey: key }) });
  });
  // Some messages are here before the consumers are, some come later.
  if (given.messages.length % 2 === 0) await publisher.flush();
  const handlings = new Handlings(given, id);
  const client = connect({ address: proxy.address, insecure: true, direct: given.direct });
  const options = { maxOutstandingMessages: given.credit, backoff: { initialMs: 1, maxMs: 20 } };
  const loops: Promise<void>[] = [];
  for (let at = 0; at < given.consumers; at++) {
    const consumer = {};
    if (given.api === 'handlers') {
      client.subscriber(id, (message) => handlings.handle(message, consumer), {
        ...options,
        concurrency: given.concurrency,
      });
      continue;
    }
    const subscription = client.subscribe(id, options);
    void handlings.done.then(() => subscription.close());
    loops.push(loop(subscription, handlings, consumer));
  }
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), 15_000);
  });
  if ((await Promise.race([handlings.done, late])) === 'late')
    handlings.problems.push(`not done: ${handlings.successes.join(' ')}`);
  clearTimeout(timer);
  await client.close();
  await Promise.all(loops);
  return handlings;
}

async function loop(
  messages: AsyncIterable<ReceivedMessage>,
  handlings: Handlings,
  consumer: object,
): Promise<void> {
  for await (const message of messages) {
    try {
      await handlings.handle(message, consumer);
      message.ack();
    } catch {
      message.nack();
    }
  }
}

test(
  'nothing overtakes a message of its key that failed, and nothing is handled twice without reason',
  async () => {
    await fc.assert(
      fc.asyncProperty(plan, async (given) => {
        const handlings = await run(given);
        const failures = given.messages.reduce((sum, each) => sum + each.failures, 0);
        if (given.consumers === 1) {
          handlings.successes.forEach((count, at) => {
            if (count !== 1) handlings.problems.push(`${at} was handled ${count} times`);
          });
          if (handlings.begun !== failures + given.messages.length)
            handlings.problems.push(`${handlings.begun} handlings of ${given.messages.length} messages`);
        }
        // Each failure, and each event, takes what is behind it along once; what is refused meanwhile once
        // more.
        const most = 2 + 2 * (failures + given.events.length);
        if (handlings.maxAttempt > most)
          handlings.problems.push(`attempt ${handlings.maxAttempt} of ${most}`);
        expect(handlings.problems, handlings.text).toEqual([]);
      }),
      cases(30),
    );
  },
  TIMEOUT_MS * 4,
);
