// What a partition's former owner leaves behind: the note's codec, and Delivery taking the leases over.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Delivery } from '../../services/broker/core/delivery.ts';
import type { DeliveryEffect, FormerLease } from '../../services/broker/core/delivery-events.ts';
import { decodeHandOver, encodeHandOver, MAX_HANDED_OVER } from '../../services/broker/core/hand-over.ts';
import { MAX_UNSETTLED_PER_PARTITION } from '../../services/broker/limits.ts';

const OPTIONS = { ordering: false, maxHoles: 100, maxQueued: 100, maxUnsettled: 1_000, maxRun: 10 };
const ORDERED = { ...OPTIONS, ordering: true };
const HASH = 77;
/** Members' ids are UUIDs. */
const HOLDER = { hash: 0xffffffff, stream: '9b1c1f8e-5f0d-4c0e-9a53-3a2f6b0e7c11/1000000' };

/** Ten messages of 10 bytes; even offsets have key 1, odd ones key 2. */
const chunk = {
  firstOffset: 0,
  count: 10,
  byteLength: 100,
  ends: () => Uint32Array.from({ length: 10 }, (_, i) => (i + 1) * 10),
  keyHashes: () => Uint32Array.from({ length: 10 }, (_, i) => 1 + (i % 2)),
};

function lease(delivery: Delivery, consumer: number): DeliveryEffect[] {
  return delivery.step(
    { kind: 'lease', consumer, chunk, maxMessages: 100, maxBytes: 1e9, idle: true, deadlineMs: 10_000 },
    0,
  );
}

function delivered(effects: readonly DeliveryEffect[]): number[] {
  return effects.flatMap((effect) =>
    effect.kind === 'deliver'
      ? effect.runs.flatMap(({ first, last }) =>
          Array.from({ length: last - first + 1 }, (_, i) => first + i),
        )
      : [],
  );
}

/** What a former owner leaves that has given 0 to 3 to the consumer with HASH and has heard an ack of 1. */
function handedOver(options: typeof OPTIONS): { record: Uint8Array; former: FormerLease[] } {
  const before = new Delivery(options, { startOffset: 0 }, 4);
  before.step({ kind: 'join', consumer: 5, hash: HASH }, 0);
  lease(before, 5);
  before.step({ kind: 'ack', consumer: 5, first: 1, last: 1 }, 0);
  return { former: before.formerLeases(), record: before.snapshot() };
}

test('a note comes back as it was written', () => {
  const leases = fc
    .array(
      fc.record({
        gap: fc.nat(1000),
        length: fc.nat(1000),
        deadlineMs: fc.nat(600_000),
        bytes: fc.nat(1e9),
        holder: fc.record({ hash: fc.nat(0xffffffff), stream: fc.constantFrom('', 'x/1', 'y/1') }),
        keyHash: fc.nat(0xffffffff),
      }),
      { minLength: 1, maxLength: 20 },
    )
    .map((rows) => {
      let from = 0;
      return rows.map(({ gap, length, ...rest }) => {
        const first = from + gap;
        const last = first + length;
        from = last + 1;
        return { first, last, ...rest };
      });
    });
  const note = fc.array(fc.record({ incarnation: fc.nat(), leases }), { maxLength: 5 });
  fc.assert(
    fc.property(note, (rows) => {
      expect(decodeHandOver(encodeHandOver(rows))).toEqual(rows);
    }),
  );
});

test('a note tells of all that four subscriptions with ordering can have outstanding, and of those first', () => {
  const leasesOf = (keyHash: number) =>
    Array.from({ length: MAX_UNSETTLED_PER_PARTITION }, (_, i) => ({
      first: 2e15 + i,
      last: 2e15 + i,
      deadlineMs: 600_000,
      bytes: 2_097_152,
      holder: HOLDER,
      keyHash: keyHash && keyHash + i,
    }));
  const rows = [0, 1, 1, 1, 1].map((keyHash, incarnation) => ({ incarnation, leases: leasesOf(keyHash) }));
  const told = decodeHandOver(encodeHandOver(rows));
  expect(told.map(({ incarnation, leases }) => [incarnation, leases.length])).toEqual(
    [1, 2, 3, 4].map((incarnation) => [incarnation, MAX_UNSETTLED_PER_PARTITION]),
  );
});

test('a note is bounded: what is beyond is left out', { timeout: 30_000 }, () => {
  const leases = Array.from({ length: 2 * MAX_HANDED_OVER }, (_, i) => ({
    first: 2e15 + 2 * i,
    last: 2e15 + 2 * i,
    deadlineMs: 600_000,
    bytes: 2_097_152,
    holder: HOLDER,
    keyHash: 0xffffffff,
  }));
  const note = encodeHandOver([{ incarnation: 1, leases }]);
  expect(note.length).toBeLessThan(16 * 1024 * 1024);
  const told = JSON.stringify(decodeHandOver(note)[0]!.leases);
  expect(told === JSON.stringify(leases.slice(0, MAX_HANDED_OVER))).toBe(true);
});

test('a note of another format is refused', () => {
  expect(() => decodeHandOver(Buffer.from('[3,[]]'))).toThrow(/format is 3/);
  for (const note of ['x', '{}', 'null', '[2,[[1,[0,0,1000,10,1,0],[[7,"x/1"]]]]]'])
    expect(() => decodeHandOver(Buffer.from(note))).toThrow(/cannot be read/);
});

test('a note of a broker that knows no streams tells of clients', () => {
  const holder = { hash: HASH, stream: '' };
  const lease = { first: 4, last: 5, deadlineMs: 1_000, bytes: 20, holder, keyHash: 0 };
  expect(decodeHandOver(Buffer.from(`[1,[[9,[4,1,1000,20,${HASH},0]]]]`))).toEqual([
    { incarnation: 9, leases: [lease] },
  ]);
});

for (const options of [OPTIONS, ORDERED]) {
  const name = options.ordering ? 'with ordering' : 'without ordering';
  test(`${name}: what is outstanding is not delivered again, the rest is`, () => {
    const { record, former } = handedOver(options);
    const after = new Delivery(options, { record }, 10, former);
    expect(after.outstandingMessages).toBe(3);
    const effects = after.step({ kind: 'join', consumer: 1, hash: HASH }, 0);
    // It is the same consumer: what it holds counts against its credit.
    expect(effects).toEqual([{ kind: 'credit', consumer: 1, messages: -3, bytes: -30 }]);
    // Nothing of a key goes out before what the consumer holds of it is settled: that may never have arrived.
    expect(delivered(lease(after, 1))).toEqual(options.ordering ? [] : [4, 5, 6, 7, 8, 9]);
    after.step({ kind: 'ack', consumer: 1, first: 0, last: 3 }, 0);
    expect(delivered(lease(after, 1))).toEqual(options.ordering ? [4, 5, 6, 7, 8, 9] : []);
    after.step({ kind: 'ack', consumer: 1, first: 4, last: 9 }, 0);
    expect(after.backlogMessages).toBe(0);
  });

  test(`${name}: a consumer that does not come back lets them expire`, () => {
    const { record, former } = handedOver(options);
    const after = new Delivery(options, { record }, 4, former);
    after.step({ kind: 'join', consumer: 1, hash: HASH + 1 }, 0);
    expect(delivered(lease(after, 1))).toEqual([]);
    after.step({ kind: 'expire' }, 10_000);
    after.snapshot();
    after.step({ kind: 'persisted' }, 10_000);
    expect(delivered(lease(after, 1))).toEqual([0, 2, 3]);
  });
}

for (const options of [OPTIONS, ORDERED]) {
  const name = options.ordering ? 'with ordering' : 'without ordering';
  const left = (): Delivery => {
    const delivery = new Delivery(options, { startOffset: 0 }, 4);
    delivery.step({ kind: 'join', consumer: 5, hash: HASH }, 0);
    expect(delivered(lease(delivery, 5))).toEqual([0, 1, 2, 3]);
    expect(delivery.step({ kind: 'leave', consumer: 5, leases: 'wait' }, 0)).toEqual([
      { kind: 'credit', consumer: 5, messages: 4, bytes: 40 },
    ]);
    expect(delivery.outstandingMessages).toBe(4);
    return delivery;
  };

  test(`${name}: what a consumer had waits until it resumes, whoever else is there`, () => {
    const delivery = left();
    delivery.step({ kind: 'join', consumer: 6, hash: HASH + 1, fresh: true }, 0);
    expect(delivered(lease(delivery, 6))).toEqual([]);
    expect(delivery.step({ kind: 'join', consumer: 7, hash: HASH }, 0)).toEqual([
      { kind: 'credit', consumer: 7, messages: -4, bytes: -40 },
    ]);
    delivery.step({ kind: 'nack', consumer: 7, first: 2, last: 2 }, 0);
    delivery.step({ kind: 'ack', consumer: 7, first: 0, last: 3 }, 0);
    expect(delivery.backlogMessages).toBe(0);
  });

  test(`${name}: of a consumer that comes back without what it had, it is given back at once`, () => {
    const delivery = left();
    const effects = delivery.step({ kind: 'join', consumer: 7, hash: HASH, fresh: true }, 0);
    expect(effects.at(-1)).toEqual({ kind: 'persist' });
    delivery.snapshot();
    delivery.step({ kind: 'persisted' }, 0);
    expect(delivered(lease(delivery, 7))).toEqual([0, 1, 2, 3]);
  });
}

describe('leases of a note go by stream', () => {
  const noted = (stream: string): Delivery => {
    const before = new Delivery(OPTIONS, { startOffset: 0 }, 4);
    before.step({ kind: 'join', consumer: 5, hash: HASH, stream }, 0);
    lease(before, 5);
    const former = decodeHandOver(encodeHandOver([{ incarnation: 1, leases: before.formerLeases() }]));
    return new Delivery(OPTIONS, { record: before.snapshot() }, 4, former[0]!.leases);
  };
  const join = (delivery: Delivery, stream: string, how: { fresh?: boolean; resumes?: boolean } = {}) =>
    delivery.step({ kind: 'join', consumer: 1, hash: HASH, stream, ...how }, 0);
  const adopted = [{ kind: 'credit', consumer: 1, messages: -4, bytes: -40 }];

  test('a stream whose attach is late has its own, although it says that it begins with nothing', () => {
    expect(join(noted('x/1'), 'x/1', { fresh: true })).toEqual(adopted);
  });

  test('another stream of the client has them if it resumes', () => {
    expect(join(noted('x/1'), 'y/1', { resumes: true })).toEqual(adopted);
  });

  test('another one that begins with nothing is the newer one: they are given back', () => {
    const delivery = noted('x/1');
    expect(join(delivery, 'y/1', { fresh: true }).at(-1)).toEqual({ kind: 'persist' });
    expect(delivery.outstandingMessages).toBe(0);
  });

  test('beside another one that was there before they wait for their own', () => {
    const delivery = noted('x/1');
    expect(join(delivery, 'y/1')).toEqual([]);
    expect(delivery.awaitedMessages).toBe(4);
    const effects = delivery.step({ kind: 'join', consumer: 2, hash: HASH, stream: 'x/1' }, 0);
    expect(effects).toEqual([{ kind: 'credit', consumer: 2, messages: -4, bytes: -40 }]);
    expect(delivery.awaitedMessages).toBe(0);
  });

  test('a stream that has ended has none', () => {
    const delivery = noted('x/1');
    expect(delivery.step({ kind: 'streamEnded', stream: 'y/1' }, 0)).toEqual([]);
    delivery.step({ kind: 'streamEnded', stream: 'x/1' }, 0);
    expect(delivery.outstandingMessages).toBe(0);
  });

  test('an owned stream says nothing of the streams of its client', () => {
    const delivery = noted('x/1');
    expect(join(delivery, '', { fresh: true })).toEqual([]);
    expect(join(noted(''), '')).toEqual(adopted);
  });
});

test('a key waits for what of it is outstanding at the former owner', () => {
  const { record, former } = handedOver(ORDERED);
  const after = new Delivery(ORDERED, { record }, 10, former);
  after.step({ kind: 'join', consumer: 1, hash: HASH + 1 }, 0);
  expect(delivered(lease(after, 1))).toEqual([]);
  // Only 3 is outstanding of the odd ones. A call without a stream may settle it.
  after.step({ kind: 'ack', consumer: 0, first: 3, last: 3 }, 0);
  expect(delivered(lease(after, 1))).toEqual([5, 7, 9]);
  after.step({ kind: 'ack', consumer: 0, first: 0, last: 2 }, 0);
  expect(delivered(lease(after, 1))).toEqual([4, 6, 8]);
});

test("another consumer's late word does not end the leases", () => {
  const { record, former } = handedOver(OPTIONS);
  const after = new Delivery(OPTIONS, { record }, 4, former);
  after.step({ kind: 'join', consumer: 1, hash: HASH + 1 }, 0);
  after.step({ kind: 'nack', consumer: 1, first: 0, last: 3 }, 0);
  expect(after.outstandingMessages).toBe(3);
});
