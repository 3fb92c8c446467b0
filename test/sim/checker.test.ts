// The judge of deliveries against histories made by hand, as of a broker that is alone: each broken promise
// is called by its name, and what only looks broken is let pass.
import { describe, expect, test } from 'vitest';
import { encodeCursor } from '../../services/broker/core/cursor.ts';
import { AT_HAND, DeliveryTruth, type Holder } from './cluster/delivery-truth.ts';
import { PartitionTruth } from './cluster/partition-truth.ts';
import { Turns } from './cluster/turns.ts';

const LEASE_MS = 100;
const LONG_AFTER_MS = 10_000;
const LIMITS = { maxRun: 3, maxHoles: 2, maxQueued: 1 };

/** One partition of an ordered subscription; its log has one message for each key given, '' for none. */
class History {
  readonly log = new PartitionTruth({ logEpoch: 1, partition: 0 }, true);
  readonly judge: DeliveryTruth;
  nowMs = 0;
  life = 0;
  readonly #holders = new Map<string, Holder>();
  readonly #losses = { count: 0 };
  /** What the broker would write: what is settled, and the attempts of what is not. */
  readonly #settled = new Set<number>();
  readonly #attempts = new Map<number, number>();

  constructor(...keys: string[]) {
    keys.forEach((key, offset) => {
      const sent = {
        ...{ identity: `p/${offset}`, key, content: '' },
        ...{ batch: offset, nth: offset, batchFirst: offset },
      };
      const chunk = { startByte: offset, endByte: offset + 1 };
      this.log.log.push({ sent, publishTimeMs: 0, firstAppendedMs: 0, chunk, told: true });
      this.log.byKey.set(key, [...(this.log.byKey.get(key) ?? []), offset]);
    });
    this.log.furthestEnd = keys.length;
    const start = { startOffset: 0, toldAtCreation: 0 };
    this.judge = new DeliveryTruth(
      { what: 'sub', ordering: true, ...start, limits: LIMITS, distance: AT_HAND },
      this.log,
    );
    this.#begin();
  }

  deliver(consumer: string, offset: number, attempt = 1): this {
    const { identity, content, key } = this.log.log[offset]!.sent;
    const message = { logEpoch: 1, partition: 0, offset, attempt, identity, content, key };
    this.judge.delivered(this.#member, message, this.#holder(consumer), LEASE_MS, this.nowMs);
    this.#attempts.set(offset, attempt);
    return this;
  }

  ack(first: number, last = first): this {
    this.judge.acked(first, last, this.nowMs, undefined);
    for (let offset = first; offset <= last; offset += 1) this.#settled.add(offset);
    return this;
  }

  nack(consumer: string, offset: number): this {
    this.judge.nacked(offset, offset, this.nowMs, this.#holder(consumer));
    return this;
  }

  leave(consumer: string): this {
    this.#holder(consumer).departures += 1;
    return this;
  }

  commit(): this {
    this.judge.snapshotTaken();
    const settled = [...this.#settled]
      .sort((a, b) => a - b)
      .map((offset) => ({ first: offset, last: offset }));
    const attempts = [...this.#attempts].sort(([a], [b]) => a - b);
    const record = encodeCursor({
      floor: 0,
      settled,
      attempts: attempts.map(([offset, value]) => ({ first: offset, last: offset, value })),
    });
    this.judge.committed(this.#member, record, true);
    return this;
  }

  pass(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  crash(): this {
    this.#losses.count += 1;
    this.#settled.clear();
    this.#begin();
    return this;
  }

  get #member(): string {
    return `broker#${this.life}`;
  }

  #begin(): void {
    this.life += 1;
    this.log.acquired({ memberId: this.#member, ownerEpoch: this.life }, undefined, false, false, this.nowMs);
  }

  #holder(consumer: string): Holder {
    let holder = this.#holders.get(consumer);
    if (holder === undefined) {
      const hash = this.#holders.size + 1;
      holder = { hash, relay: consumer, losses: this.#losses, departures: 0, ackDeadlineMs: undefined };
      this.#holders.set(consumer, holder);
    }
    return holder;
  }
}

describe('a settled message', () => {
  test('is not delivered again in the same life', () => {
    const history = new History('').deliver('a', 0).ack(0);
    expect(() => history.deliver('b', 0, 2)).toThrow(/although it is settled/);
  });

  test('is not delivered again in the next life if its cursor was durable', () => {
    const history = new History('').deliver('a', 0).ack(0).commit().crash();
    expect(() => history.deliver('b', 0)).toThrow(/a cursor in the store has it as settled/);
  });

  test('may be delivered again in the next life if its cursor was not', () => {
    new History('').deliver('a', 0).commit().ack(0).crash().deliver('b', 0, 2);
  });

  test('is in the cursor once that was said to be durable, or the broker has stopped in order', () => {
    const history = new History('').deliver('a', 0).ack(0);
    const confirmed = history.judge.acknowledging(0, 0);
    expect(confirmed).toThrow(/the cursor in the store has it not/);
    expect(history.judge.stopping()).toThrow(/the cursor of the broker that has stopped has it not/);
    history.commit();
    confirmed();
    history.judge.stopping()();
  });

  test('is ignored if its broker does not know yet that it was delivered', () => {
    const history = new History('').deliver('a', 0).crash().ack(0);
    const confirmed = history.judge.acknowledging(0, 0);
    history.deliver('b', 0);
    confirmed();
  });

  test('is not one that was never delivered', () => {
    new History('').ack(0).deliver('a', 0);
  });

  test('is committed soon', () => {
    const history = new History('').deliver('a', 0).pass(7).ack(0);
    expect(history.judge.dirtySinceMs).toBe(7);
    expect(history.commit().judge.dirtySinceMs).toBeUndefined();
  });
});

describe('a leased message', () => {
  test('is not delivered while the lease lasts', () => {
    const history = new History('').deliver('a', 0).pass(LEASE_MS - 1);
    expect(() => history.commit().deliver('b', 0, 2)).toThrow(/although client 1 at a has it/);
  });

  test('is delivered again after its deadline, a nack or the end of its stream', () => {
    new History('').deliver('a', 0).pass(LEASE_MS).commit().deliver('b', 0, 2);
    new History('').deliver('a', 0).nack('a', 0).commit().deliver('b', 0, 2);
    new History('').deliver('a', 0).leave('a').commit().deliver('b', 0, 2);
  });

  test("does not lose its lease by another consumer's nack", () => {
    const history = new History('').deliver('a', 0).nack('b', 0).commit();
    expect(() => history.deliver('b', 0, 2)).toThrow(/although client 1 at a has it/);
  });

  test('is held until it is settled, or its lease can have ended', () => {
    const { judge } = new History('', '', '');
    const held = (history: History): number => {
      const holder: Holder = { hash: 9, relay: 'x', losses: { count: 0 }, departures: 0, ackDeadlineMs: 1 };
      for (const offset of [0, 1, 2]) {
        const { identity, content, key } = history.log.log[offset]!.sent;
        const message = { logEpoch: 1, partition: 0, offset, attempt: 1, identity, content, key };
        history.judge.delivered('broker#1', message, holder, LEASE_MS, history.nowMs);
      }
      history.ack(1);
      history.judge.nacked(2, 2, history.nowMs, holder);
      return history.judge.heldBy(holder, history.nowMs);
    };
    expect(judge.firstUndelivered(1)).toBe(0);
    expect(held(new History('', '', ''))).toBe(1);
  });
});

describe('attempts', () => {
  test('begin with 1 and rise by 1', () => {
    expect(() => new History('').deliver('a', 0, 2)).toThrow(/with attempt 2; by the cursor .* it is 1/);
    const history = new History('').deliver('a', 0).nack('a', 0).commit();
    expect(() => history.deliver('a', 0, 3)).toThrow(/with attempt 3; by the cursor .* it is 2/);
  });

  test('are durable before the redelivery', () => {
    const history = new History('').deliver('a', 0).nack('a', 0);
    expect(() => history.deliver('a', 0, 2)).toThrow(/with attempt 2; by the cursor .* it is 1/);
  });

  test('are not taken back by a crash; what it cuts short counts if a cursor was written since', () => {
    const again = (): History => new History('').deliver('a', 0).nack('a', 0).commit().deliver('a', 0, 2);
    again().crash().deliver('b', 0, 2);
    expect(() => again().crash().deliver('b', 0, 1)).toThrow(/with attempt 1/);
    again().commit().crash().deliver('b', 0, 3);
    expect(() => again().commit().crash().deliver('b', 0, 2)).toThrow(/with attempt 2/);
  });
});

describe('an ordering key', () => {
  test('is not shared by two consumers', () => {
    const history = new History('k', 'k').deliver('a', 0);
    expect(() => history.deliver('b', 1)).toThrow(/overtakes 0, which client 2 at b does not have/);
  });

  test('goes on at the consumer that has all before, up to maxRun', () => {
    const history = new History('k', 'k', 'k', 'k').deliver('a', 0).deliver('a', 1).deliver('a', 2);
    expect(() => history.deliver('a', 3)).toThrow(/one too many/);
  });

  test('does not skip a message', () => {
    expect(() => new History('k', 'k').deliver('a', 1)).toThrow(/overtakes/);
    expect(() => new History('k', 'k', 'k').deliver('a', 0).deliver('a', 2)).toThrow(/overtakes/);
  });

  test('resumes from the lowest message that was given back, once the rest is settled', () => {
    const broken = (): History =>
      new History('k', 'k', 'k').deliver('a', 0).deliver('a', 1).nack('a', 1).commit();
    expect(() => broken().deliver('a', 2)).toThrow(/overtakes 1/);
    expect(() => broken().deliver('b', 1, 2)).toThrow(/overtakes 0/);
    expect(() => broken().ack(0).deliver('a', 2)).toThrow(/overtakes 1/);
    broken().ack(0).deliver('b', 1, 2).deliver('b', 2);
  });

  test('gives back what is behind the message that expired', () => {
    const history = new History('k', 'k').deliver('a', 0).pass(60).deliver('a', 1).pass(40).commit();
    history.deliver('b', 0, 2).deliver('b', 1, 2);
  });

  test('leaves other keys alone', () => {
    new History('k', 'l', '').deliver('a', 0).deliver('b', 1).deliver('c', 2);
  });

  test('goes by the cursor in the store after a crash', () => {
    const crashed = (): History => new History('k', 'k').deliver('a', 0).commit().ack(0).crash();
    crashed().deliver('a', 0, 2).deliver('a', 1);
    expect(() => crashed().deliver('a', 1)).toThrow(/overtakes 0/);
  });
});

test('a cursor has no more holes than can have come about', () => {
  const history = new History('', '', '', '', '');
  for (const offset of [0, 1, 2, 3, 4]) history.deliver('a', offset).ack(offset);
  expect(() => history.commit()).toThrow(/has 5 holes; at most 4/);
});

describe('partitions take turns', () => {
  const busy = new History(...Array.from({ length: 50 }, () => ''));
  const serveBusy = (turns: Turns, quiet: History, times: number): void => {
    for (let nth = 0; nth < times; nth += 1)
      turns.served(busy.judge, [busy.judge, quiet.judge], LONG_AFTER_MS);
  };

  test('one that waits is not passed over for long', () => {
    const quiet = new History('');
    expect(() => serveBusy(new Turns('sub'), quiet, 40)).toThrow(/partition 0 waits at 0, and others/);
  });

  test('one in which nothing waits does not count, nor what was before its turn', () => {
    const turns = new Turns('sub');
    const quiet = new History('', '');
    serveBusy(turns, quiet, 15);
    quiet.deliver('a', 0);
    turns.served(quiet.judge, [busy.judge, quiet.judge], LONG_AFTER_MS);
    serveBusy(turns, quiet, 15);
    quiet.deliver('a', 1);
    expect(() => serveBusy(turns, quiet, 40)).not.toThrow();
  });
});
