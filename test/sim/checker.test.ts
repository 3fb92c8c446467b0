// The judge of deliveries against histories made by hand: each broken promise is called by its name, and what
// only looks broken is let pass.
import { describe, expect, test } from 'vitest';
import { DeliveryHistory } from './delivery-history.ts';
import type { Moment } from './lease.ts';
import { PartitionHistory } from './log-history.ts';
import { Turns } from './turns.ts';

const LEASE_MS = 100;
const LONG_AFTER_MS = 10_000;

/** One partition of an ordered subscription; its log has one message for each key given, '' for none. */
class History {
  readonly log = new PartitionHistory({ logEpoch: 1, partition: 0 });
  readonly judge: DeliveryHistory;
  nowMs = 0;
  life = 1;
  #at = 0;

  constructor(...keys: string[]) {
    keys.forEach((key, offset) => {
      const sent = {
        identity: `p/${offset}`,
        key,
        content: '',
        batch: offset,
        nth: offset,
        batchFirst: offset,
      };
      this.log.messages.push({ sent, appendedMs: 0 });
      this.log.byKey.set(key, [...(this.log.byKey.get(key) ?? []), offset]);
    });
    this.judge = new DeliveryHistory({ what: 'sub', ordering: true, startOffset: 0, maxRun: 3 }, this.log);
  }

  deliver(consumer: string, offset: number, attempt = 1): this {
    const deadlineMs = this.nowMs + LEASE_MS;
    this.judge.delivered(consumer, { offset, attempt }, deadlineMs, this.#moment(), false);
    return this;
  }

  ack(first: number, last = first): this {
    this.judge.acked(first, last, this.#moment());
    return this;
  }

  nack(consumer: string, offset: number): this {
    this.judge.nacked(consumer, offset, offset, this.#moment());
    return this;
  }

  leave(consumer: string): this {
    this.judge.left(consumer, this.#moment());
    return this;
  }

  commit(): this {
    this.judge.committed(this.#moment().at);
    return this;
  }

  pass(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  crash(): this {
    this.judge.lifeEnded(this.nowMs, 0);
    this.life += 1;
    return this;
  }

  #moment(): Moment {
    this.#at += 1;
    return { at: this.#at, nowMs: this.nowMs, life: this.life };
  }
}

describe('a settled message', () => {
  test('is not delivered again in the same life', () => {
    const history = new History('').deliver('a', 0).ack(0);
    expect(() => history.deliver('b', 0, 2)).toThrow(/although it is settled/);
  });

  test('is not delivered again in the next life if its cursor was durable', () => {
    const history = new History('').deliver('a', 0).ack(0).commit().crash();
    expect(() => history.deliver('b', 0)).toThrow(/although it is settled/);
  });

  test('may be delivered again in the next life if its cursor was not', () => {
    new History('').deliver('a', 0).commit().ack(0).crash().deliver('b', 0, 2);
  });

  test('is one that was said to be durable, whatever the cursors', () => {
    const history = new History('').deliver('a', 0).ack(0);
    history.judge.confirmed(0, 0);
    expect(() => history.crash().deliver('b', 0)).toThrow(/although it is settled/);
  });
});

describe('a leased message', () => {
  test('is not delivered while the lease lasts', () => {
    const history = new History('').deliver('a', 0).pass(LEASE_MS - 1);
    expect(() => history.commit().deliver('b', 0, 2)).toThrow(/a has it until 100/);
  });

  test('is delivered again after its deadline, a nack or the end of its stream', () => {
    new History('').deliver('a', 0).pass(LEASE_MS).commit().deliver('b', 0, 2);
    new History('').deliver('a', 0).nack('a', 0).commit().deliver('b', 0, 2);
    new History('').deliver('a', 0).leave('a').commit().deliver('b', 0, 2);
  });

  test("does not lose its lease by another consumer's nack", () => {
    const history = new History('').deliver('a', 0).nack('b', 0).commit();
    expect(() => history.deliver('b', 0, 2)).toThrow(/a has it until/);
  });
});

describe('attempts', () => {
  test('begin with 1 and rise by 1', () => {
    expect(() => new History('').deliver('a', 0, 2)).toThrow(/attempt 2 on its first delivery/);
    const history = new History('').deliver('a', 0).nack('a', 0).commit();
    expect(() => history.deliver('a', 0, 3)).toThrow(/attempt 3 after 1/);
  });

  test('are durable before the redelivery', () => {
    const history = new History('').deliver('a', 0).commit().nack('a', 0);
    expect(() => history.deliver('a', 0, 2)).toThrow(/a crash now would forget that/);
  });

  test('are not taken back by a crash; what it cuts short counts if a cursor was written since', () => {
    const again = (): History => new History('').deliver('a', 0).nack('a', 0).commit().deliver('a', 0, 2);
    again().crash().deliver('b', 0, 2);
    again().crash().deliver('b', 0, 3);
    expect(() => again().crash().deliver('b', 0, 1)).toThrow(/attempt 1 in life 2, had 2/);
    expect(() => again().crash().deliver('b', 0, 4)).toThrow(/attempt 4 in life 2, had 2/);
    again().commit().crash().deliver('b', 0, 3);
    expect(() => again().commit().crash().deliver('b', 0, 2)).toThrow(/attempt 2 in life 2, had 2/);
  });
});

describe('an ordering key', () => {
  test('is not shared by two consumers', () => {
    const history = new History('k', 'k').deliver('a', 0);
    expect(() => history.deliver('b', 1)).toThrow(/to b while a has 0/);
  });

  test('goes on at the consumer that has all before, up to maxRun', () => {
    const history = new History('k', 'k', 'k', 'k').deliver('a', 0).deliver('a', 1).deliver('a', 2);
    expect(() => history.deliver('a', 3)).toThrow(/one too many/);
  });

  test('does not skip a message', () => {
    expect(() => new History('k', 'k').deliver('a', 1)).toThrow(/overtakes/);
    expect(() => new History('k', 'k', 'k').deliver('a', 0).deliver('a', 2)).toThrow(/a has 0|overtakes/);
  });

  test('resumes from the lowest message that was given back, once the rest is settled', () => {
    const broken = (): History =>
      new History('k', 'k', 'k').deliver('a', 0).deliver('a', 1).nack('a', 1).commit();
    expect(() => broken().deliver('a', 2)).toThrow(/a has 0/);
    expect(() => broken().deliver('a', 1, 2)).toThrow(/a has 0/);
    expect(() => broken().ack(0).deliver('a', 2)).toThrow(/overtakes/);
    broken().ack(0).deliver('b', 1, 2).deliver('b', 2);
  });

  test('gives back what is behind the message that expired', () => {
    const history = new History('k', 'k').deliver('a', 0).pass(60).deliver('a', 1).pass(40).commit();
    history.deliver('b', 0, 2).deliver('b', 1, 2);
  });

  test('leaves other keys alone', () => {
    new History('k', 'l', '').deliver('a', 0).deliver('b', 1).deliver('c', 2);
  });

  test('decides once, after a crash, whether an uncertain ack is forgotten', () => {
    const crashed = (): History => new History('k', 'k').deliver('a', 0).ack(0).crash();
    crashed().deliver('a', 0).deliver('a', 1);
    const passed = crashed().deliver('a', 1);
    expect(() => passed.deliver('a', 0)).toThrow(/although it is settled/);
  });
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
