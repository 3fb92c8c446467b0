// core/delivery.ts in single situations that random events reach seldom or do not measure.
import { describe, expect, test } from 'vitest';
import type { ChunkView } from '../../services/broker/core/credit.ts';
import { decodeCursor, encodeCursor } from '../../services/broker/core/cursor.ts';
import { Delivery, type DeliveryOptions } from '../../services/broker/core/delivery.ts';
import type { DeliveryEffect } from '../../services/broker/core/delivery-events.ts';
import { chunkView } from '../support/delivery-rig.ts';

const OPTIONS: DeliveryOptions = {
  ordering: false,
  maxHoles: 1_000,
  maxQueued: 1_000,
  maxUnsettled: 60_000,
  maxRun: 1_000,
};
const ORDERED: DeliveryOptions = { ...OPTIONS, ordering: true };

function started(options: DeliveryOptions, endOffset: number, consumers = 1): Delivery {
  const delivery = new Delivery(options, { startOffset: 0 }, endOffset);
  for (let consumer = 1; consumer <= consumers; consumer += 1)
    delivery.step({ kind: 'join', consumer, hash: consumer * 7_919 }, 0);
  return delivery;
}

function lease(
  delivery: Delivery,
  chunk: ChunkView,
  limits: {
    consumer?: number;
    messages?: number;
    bytes?: number;
    idle?: boolean;
    nowMs?: number;
    deadlineMs?: number;
  } = {},
): DeliveryEffect[] {
  const {
    consumer = 1,
    messages = 1_000_000,
    bytes = 1e9,
    idle = false,
    nowMs = 0,
    deadlineMs = 10_000,
  } = limits;
  const event = { consumer, chunk, maxMessages: messages, maxBytes: bytes, idle, deadlineMs };
  return delivery.step({ kind: 'lease', ...event }, nowMs);
}

/** The offsets that were given out, in the order of the effect. */
function given(effects: readonly DeliveryEffect[]): number[] {
  return effects.flatMap((effect) =>
    effect.kind !== 'deliver'
      ? []
      : effect.runs.flatMap(({ first, last }) =>
          Array.from({ length: last - first + 1 }, (_, i) => first + i),
        ),
  );
}

test('what was settled in an earlier life and is given up now is passed', () => {
  const record = { floor: 0, settled: [{ first: 1, last: 1 }], attempts: [] };
  const delivery = new Delivery(OPTIONS, { record: encodeCursor(record) }, 3);
  delivery.step({ kind: 'join', consumer: 1, hash: 1 }, 0);
  expect(given(lease(delivery, chunkView(0, [10], undefined)))).toEqual([0]);
  expect(delivery.peek(1)).toBe(1);
  delivery.step({ kind: 'skip', first: 1, last: 1 }, 0);
  expect(delivery.peek(1)).toBe(2);
});

describe('a message that does not fit into the credit', () => {
  test('is not overtaken by small ones of other keys, which would take the credit for ever', () => {
    const delivery = started(ORDERED, 3);
    const chunk = chunkView(0, [10, 500, 10], [1, 2, 3]);
    expect(given(lease(delivery, chunk, { messages: 1, bytes: 600, idle: true }))).toEqual([0]);
    expect(lease(delivery, chunk, { bytes: 490 })).toEqual([]);
    expect(given(lease(delivery, chunk, { bytes: 510 }))).toEqual([1, 2]);
  });

  test('is not overtaken by new ones when it was given back', () => {
    const delivery = started(OPTIONS, 3);
    const chunk = chunkView(0, [10, 500, 10], undefined);
    expect(given(lease(delivery, chunk, { messages: 2 }))).toEqual([0, 1]);
    delivery.step({ kind: 'nack', consumer: 1, first: 1, last: 1 }, 0);
    delivery.snapshot();
    delivery.step({ kind: 'persisted' }, 0);
    expect(lease(delivery, chunk, { bytes: 490 })).toEqual([]);
    expect(given(lease(delivery, chunk, { bytes: 510 }))).toEqual([1, 2]);
  });
});

test('a busy key does not take all of a small credit', () => {
  const delivery = started(ORDERED, 6);
  const chunk = chunkView(0, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 2, 2]);
  const taken: number[] = [];
  for (let nth = 0; nth < 4; nth += 1) {
    const [offset] = given(lease(delivery, chunk, { messages: 1 }));
    taken.push(offset!);
    delivery.step({ kind: 'ack', consumer: 1, first: offset!, last: offset! }, 0);
  }
  expect(taken).toEqual([0, 4, 1, 5]);
});

test('after a broken run has ended, the next run of the key grows again', () => {
  const delivery = started(ORDERED, 4);
  const chunk = chunkView(0, [1, 1, 1, 1], [1, 1, 1, 1]);
  lease(delivery, chunk, { messages: 2 });
  delivery.step({ kind: 'nack', consumer: 1, first: 1, last: 1 }, 0);
  delivery.snapshot();
  delivery.step({ kind: 'persisted' }, 0);
  expect(lease(delivery, chunk)).toEqual([]);
  delivery.step({ kind: 'ack', consumer: 1, first: 0, last: 0 }, 0);
  expect(given(lease(delivery, chunk, { messages: 2 }))).toEqual([1, 2]);
  delivery.step({ kind: 'ack', consumer: 1, first: 1, last: 1 }, 0);
  expect(given(lease(delivery, chunk))).toEqual([3]);
});

test('what retention deleted does not fill the look-ahead of a consumer without credit', () => {
  const delivery = started({ ...ORDERED, maxQueued: 4 }, 8, 2);
  const hashes = Array.from({ length: 200 }, (_, i) => i + 1);
  // The keys of consumer 2 are found by asking.
  const probe = started(ORDERED, hashes.length, 2);
  const ofTwo = given(
    lease(
      probe,
      chunkView(
        0,
        hashes.map(() => 1),
        hashes,
      ),
      { consumer: 2 },
    ),
  ).map((at) => hashes[at]!);
  const ofOne = hashes.find((hash) => !ofTwo.includes(hash))!;

  const first = chunkView(0, [1, 1, 1, 1], [ofTwo[0]!, ofTwo[1]!, ofTwo[2]!, ofTwo[3]!]);
  expect(lease(delivery, first)).toEqual([]);
  expect(delivery.peek(1)).toBeUndefined();
  delivery.step({ kind: 'trim', headOffset: 4 }, 0);
  expect(delivery.peek(1)).toBe(4);
  expect(given(lease(delivery, chunkView(4, [1, 1, 1, 1], [ofOne, ofOne, ofOne, ofOne])))).toEqual([
    4, 5, 6, 7,
  ]);
});

test('a consumer that gives everything back while no commit succeeds does not grow the cursor without end', () => {
  const total = 10_000;
  const delivery = started({ ...OPTIONS, maxHoles: 50 }, total);
  const chunk = chunkView(0, new Array<number>(total).fill(1), undefined);
  let rounds = 0;
  for (; delivery.peek(1) !== undefined; rounds += 1) {
    const [first] = given(lease(delivery, chunk, { messages: 1 }));
    delivery.step({ kind: 'nack', consumer: 1, first: first!, last: first! }, 0);
  }
  expect(rounds).toBe(50);
  expect(decodeCursor(delivery.snapshot()).attempts.length).toBe(50);
  delivery.step({ kind: 'persisted' }, 0);
  expect(given(lease(delivery, chunk)).length).toBe(50);
  delivery.step({ kind: 'ack', consumer: 1, first: 0, last: 9 }, 0);
  expect(delivery.peek(1)).toBe(50);
});

test('a log that came back shorter than the cursor does not swallow what is appended instead', () => {
  const before = started(OPTIONS, 10);
  lease(before, chunkView(0, new Array<number>(10).fill(1), undefined));
  before.step({ kind: 'nack', consumer: 1, first: 6, last: 8 }, 0);
  before.step({ kind: 'ack', consumer: 1, first: 0, last: 2 }, 0);
  before.step({ kind: 'ack', consumer: 1, first: 4, last: 5 }, 0);
  before.step({ kind: 'ack', consumer: 1, first: 9, last: 9 }, 0);
  const record = before.snapshot();

  const shorter = new Delivery(OPTIONS, { record }, 8);
  expect([shorter.floor, shorter.backlogMessages]).toEqual([3, 3]);
  expect(decodeCursor(shorter.snapshot())).toEqual({
    floor: 3,
    settled: [{ first: 4, last: 5 }],
    // What was outstanding counts: if the cursor is all that is left, it was in vain.
    attempts: [
      { first: 3, last: 3, value: 1 },
      { first: 6, last: 7, value: 1 },
    ],
  });

  const muchShorter = new Delivery(OPTIONS, { record }, 2);
  expect([muchShorter.floor, muchShorter.backlogMessages]).toEqual([2, 0]);
  muchShorter.step({ kind: 'append', endOffset: 3 }, 0);
  expect(muchShorter.peek(1)).toBe(2);
});

test('an acknowledgement settles what was delivered, and nothing else', () => {
  const delivery = started(OPTIONS, 100);
  const chunk = chunkView(0, new Array<number>(100).fill(1), undefined);
  delivery.step({ kind: 'ack', consumer: 1, first: 0, last: Number.MAX_SAFE_INTEGER }, 0);
  expect([delivery.floor, delivery.ackedTotal, delivery.backlogMessages]).toEqual([0, 0, 100]);
  expect(given(lease(delivery, chunk, { messages: 10 })).length).toBe(10);
  delivery.step({ kind: 'nack', consumer: 1, first: 4, last: 5 }, 0);
  // Two of them are held until their attempt counts are durable: a late ack of them counts.
  delivery.step({ kind: 'ack', consumer: 0, first: 2, last: Number.MAX_SAFE_INTEGER }, 0);
  expect([delivery.floor, delivery.ackedTotal, delivery.outstandingMessages]).toEqual([0, 8, 2]);
  delivery.step({ kind: 'ack', consumer: 1, first: 0, last: 50 }, 0);
  expect([delivery.floor, delivery.ackedTotal]).toEqual([10, 10]);
  expect(given(lease(delivery, chunk))).toEqual(Array.from({ length: 90 }, (_, at) => 10 + at));
});

test('a late acknowledgement of what waits in its key makes room to look further', () => {
  const delivery = started({ ...ORDERED, maxQueued: 2 }, 3);
  const chunk = chunkView(0, [1, 1, 1], [1, 1, 0]);
  expect(given(lease(delivery, chunk, { messages: 1 }))).toEqual([0]);
  delivery.step({ kind: 'nack', consumer: 1, first: 0, last: 0 }, 0);
  lease(delivery, chunk);
  expect(delivery.peek(1)).toBeUndefined();
  expect(delivery.backlogBefore(3, 7_919)).toMatchObject({ messages: 3 });
  delivery.step({ kind: 'ack', consumer: 0, first: 0, last: 0 }, 0);
  expect(delivery.peek(1)).toBe(2);
});

test('after a crash what was outstanding counts as delivered: it can be acknowledged, and says so when it comes again', () => {
  const before = started(OPTIONS, 20);
  lease(before, chunkView(0, new Array<number>(20).fill(1), undefined), { messages: 10 });
  const after = new Delivery(OPTIONS, { record: before.snapshot() }, 20);
  after.step({ kind: 'join', consumer: 7, hash: 7 }, 0);
  after.step({ kind: 'ack', consumer: 7, first: 0, last: 19 }, 0);
  expect([after.floor, after.ackedTotal]).toEqual([10, 10]);

  const again = new Delivery(OPTIONS, { record: before.snapshot() }, 20);
  again.step({ kind: 'join', consumer: 1, hash: 1 }, 0);
  const [deliver] = lease(again, chunkView(0, new Array<number>(20).fill(1), undefined));
  expect(deliver).toMatchObject({
    runs: [
      { first: 0, last: 9, attempt: 2 },
      { first: 10, last: 19, attempt: 1 },
    ],
  });
});

test('who has the messages by note was not delivered to in vain', () => {
  const before = started(OPTIONS, 20);
  lease(before, chunkView(0, new Array<number>(20).fill(1), undefined), { messages: 10 });
  const record = before.snapshot();
  const after = new Delivery(OPTIONS, { record }, 20, before.formerLeases());
  expect(decodeCursor(after.snapshot())).toEqual(decodeCursor(record));
  after.step({ kind: 'join', consumer: 1, hash: 1 }, 0);
  after.step({ kind: 'nack', consumer: 1, first: 0, last: 9 }, 0);
  expect(decodeCursor(after.snapshot()).attempts).toEqual([{ first: 0, last: 9, value: 1 }]);
});

describe('a consumer with ordering that let a lease expire and holds nothing', () => {
  const keys = Array.from({ length: 40 }, (_, at) => at + 1);
  const sizes = new Array<number>(40).fill(1);
  const chunk = chunkView(0, sizes, keys);

  /** Two consumers; the first lets everything expire at 1,000 ms, which the second then has. */
  function afterExpiry(): Delivery {
    const delivery = started(ORDERED, 40, 2);
    lease(delivery, chunk, { consumer: 1, deadlineMs: 1_000 });
    delivery.step({ kind: 'expire' }, 1_000);
    delivery.snapshot();
    delivery.step({ kind: 'persisted' }, 1_000);
    lease(delivery, chunk, { consumer: 2, nowMs: 1_000, deadlineMs: 1_000_000 });
    delivery.step({ kind: 'ack', consumer: 2, first: 0, last: 39 }, 1_000);
    delivery.step({ kind: 'append', endOffset: 80 }, 1_000);
    return delivery;
  }

  function share(delivery: Delivery, nowMs: number): number {
    const next = chunkView(40, sizes, keys);
    return given(lease(delivery, next, { consumer: 1, nowMs, deadlineMs: 1_000_000 })).length;
  }

  test('has its share again after a while, although it says nothing', () => {
    expect(share(afterExpiry(), 10_999)).toBe(0);
    expect(share(afterExpiry(), 11_000)).toBeGreaterThan(5);
  });

  test('has it at once when a message of its own is acknowledged by a call without a stream', () => {
    const delivery = started(ORDERED, 40, 2);
    const [first, ...others] = given(lease(delivery, chunk, { consumer: 1, deadlineMs: 1_000 }));
    delivery.step({ kind: 'extend', consumer: 1, first: first!, last: first!, deadlineMs: 1_000_000 }, 0);
    expect(others.length).toBeGreaterThan(5);
    delivery.step({ kind: 'expire' }, 1_000);
    delivery.snapshot();
    delivery.step({ kind: 'persisted' }, 1_000);
    expect(delivery.peek(1)).toBeUndefined();
    delivery.step({ kind: 'ack', consumer: 0, first: first!, last: first! }, 1_000);
    expect(delivery.peek(1)).toBe(others[0]);
  });
});

test('a new subscription begins where it is told to', () => {
  const latest = new Delivery(OPTIONS, { startOffset: 5 }, 5);
  expect([latest.floor, latest.backlogMessages, latest.peek(1)]).toEqual([5, 0, undefined]);
  latest.step({ kind: 'append', endOffset: 6 }, 0);
  expect(latest.peek(1)).toBe(5);
});

describe('many outstanding messages of many keys', () => {
  const COUNT = 30_000;
  const sizes = new Array<number>(COUNT).fill(1);
  // Every key comes twice, far apart: 30,000 leases of one message.
  const keys = Array.from({ length: COUNT }, (_, i) => 1 + (i % (COUNT / 2)));
  const full = (): Delivery => {
    const delivery = started({ ...ORDERED, maxQueued: COUNT }, COUNT);
    expect(given(lease(delivery, chunkView(0, sizes, keys))).length).toBe(COUNT);
    return delivery;
  };

  test.each([
    ['leave', { kind: 'leave', consumer: 1, leases: 'end' }],
    ['expire', { kind: 'expire' }],
    ['nack', { kind: 'nack', consumer: 1, first: 0, last: COUNT }],
    [
      'nack of the first half, and so of the second',
      { kind: 'nack', consumer: 1, first: 0, last: COUNT / 2 - 1 },
    ],
  ] as const)('%s: they come back in one go, not in a pass for each', (_, event) => {
    const delivery = full();
    const startMs = performance.now();
    const effects = delivery.step(event, 10_000);
    // A pass for each would be 450 million steps; one go takes a few hundredths of a second.
    expect(performance.now() - startMs).toBeLessThan(1_500);
    expect(delivery.outstandingMessages).toBe(0);
    expect(effects.at(-1)).toEqual({ kind: 'persist' });
  });
});
