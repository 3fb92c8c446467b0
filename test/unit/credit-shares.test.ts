// core/credit-shares.ts: owners together never have more of a consumer's credit than it gave, whatever they
// say and however late; every owner that wants some gets some.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CreditShares, type ShareOrder } from '../../services/broker/core/credit-shares.ts';
import { cases } from '../support/property.ts';

/** An owner as the shares can't see it: what is in force there, and what is on the way in both directions. */
class Owner {
  readonly orders: ShareOrder<number>[] = [];
  readonly answers: { sequence: number; outstanding: number }[] = [];
  limit = 0;
  bytes = 0;
  sequence = 0;
  outstanding = 0;
  backlog = 0;
  delivered = 0;
  #over = false;

  /** Takes the next order over and delivers what it may. */
  hear(): void {
    const order = this.orders.shift();
    if (order === undefined) return;
    this.limit = order.messages;
    this.bytes = order.bytes;
    this.sequence = order.sequence;
    this.deliver();
    this.answers.push({ sequence: order.sequence, outstanding: this.outstanding });
    this.#over = this.outstanding > this.limit;
  }

  deliver(): void {
    const count = Math.min(this.backlog, Math.max(0, this.limit - this.outstanding));
    this.backlog -= count;
    this.outstanding += count;
    this.delivered += count;
  }

  settle(count: number): void {
    this.outstanding -= Math.min(count, this.outstanding);
    if (this.#over) {
      this.answers.push({ sequence: this.sequence, outstanding: this.outstanding });
      this.#over = this.outstanding > this.limit;
    }
    this.deliver();
  }

  get wants(): boolean {
    return this.backlog > 0 && this.outstanding >= this.limit;
  }

  /** The most that it uses or may come to use by what it was told. */
  get messagesAtMost(): number {
    return Math.max(this.limit, this.outstanding, ...this.orders.map(({ messages }) => messages));
  }

  get bytesAtMost(): number {
    return Math.max(this.bytes, ...this.orders.map(({ bytes }) => bytes));
  }
}

class World {
  readonly shares: CreditShares<number>;
  readonly owners = new Map<number, Owner>();
  messages: number;
  bytes: number;

  constructor(messages: number, bytes: number) {
    this.shares = new CreditShares(messages, bytes);
    this.messages = messages;
    this.bytes = bytes;
  }

  take(orders: readonly ShareOrder<number>[]): void {
    for (const order of orders) this.owners.get(order.owner)!.orders.push(order);
  }

  join(id: number): void {
    if (this.owners.has(id)) return;
    this.owners.set(id, new Owner());
    this.take(this.shares.join(id));
  }

  leave(id: number): void {
    if (this.owners.delete(id)) this.take(this.shares.leave(id));
  }

  say(id: number): void {
    const owner = this.owners.get(id);
    const answer = owner?.answers.shift();
    if (answer !== undefined) this.take(this.shares.credited(id, answer.sequence, answer.outstanding));
  }

  sayWants(id: number): void {
    const owner = this.owners.get(id);
    if (owner !== undefined) this.take(this.shares.wants(id, owner.wants));
  }

  /** Everything that is under way arrives. */
  calm(): void {
    for (let busy = true; busy; ) {
      busy = false;
      for (const [id, owner] of this.owners) {
        while (owner.orders.length > 0 || owner.answers.length > 0) {
          busy = true;
          owner.hear();
          this.say(id);
        }
        this.sayWants(id);
        if (owner.orders.length > 0) busy = true;
      }
    }
  }

  limits(): number[] {
    return [...this.owners.values()].map(({ limit }) => limit);
  }
}

const step = fc.oneof(
  fc.record({
    kind: fc.constantFrom('join', 'leave', 'hear', 'say', 'sayWants', 'turn', 'again'),
    id: fc.nat(4),
  }),
  fc.record({ kind: fc.constant('publish'), id: fc.nat(4), count: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('settle'), id: fc.nat(4), count: fc.integer({ min: 1, max: 40 }) }),
);
type Step = { kind: string; id: number; count?: number };

function perform(world: World, { kind, id, count = 0 }: Step): void {
  const owner = world.owners.get(id);
  if (kind === 'join') world.join(id);
  else if (kind === 'leave') world.leave(id);
  else if (kind === 'hear') owner?.hear();
  else if (kind === 'say') world.say(id);
  else if (kind === 'sayWants') world.sayWants(id);
  else if (kind === 'turn') world.take(world.shares.turn());
  else if (kind === 'again') world.take(world.shares.again());
  else if (kind === 'settle') owner?.settle(count);
  else if (owner !== undefined) {
    owner.backlog += count;
    owner.deliver();
  }
}

test('owners never have more than the total, whatever is late', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(step, { maxLength: 200 }),
      (messages, bytes, steps) => {
        const world = new World(messages, bytes);
        for (const each of steps) {
          perform(world, each);
          let used = 0;
          let usedBytes = 0;
          for (const owner of world.owners.values()) {
            used += owner.messagesAtMost;
            usedBytes += owner.bytesAtMost;
          }
          expect(used).toBeLessThanOrEqual(messages);
          expect(usedBytes).toBeLessThanOrEqual(bytes);
        }
      },
    ),
    cases(400),
  );
});

test('a smaller total is reached once what is outstanding has ended, a larger one at once', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 60 }),
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 60 }),
      (steps, before, after) => {
        const world = new World(before, before * 100);
        for (const each of steps) perform(world, each);
        world.take(world.shares.setTotal(after, after * 100));
        for (const owner of world.owners.values()) {
          owner.backlog = 0;
          owner.settle(1_000);
        }
        world.calm();
        const limits = world.limits();
        expect(limits.reduce((sum, limit) => sum + limit, 0)).toBeLessThanOrEqual(after);
        if (limits.length > 0 && after >= limits.length) expect(Math.min(...limits)).toBeGreaterThan(0);
      },
    ),
    cases(500),
  );
});

test('every owner that wants credit gets some in time, also where there are more owners than messages', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 8 }),
      fc.array(step, { maxLength: 60 }),
      (messages, count, steps) => {
        const world = new World(messages, messages * 10);
        for (const each of steps) perform(world, each);
        for (let id = 0; id < count; id += 1) world.join(id);
        for (const owner of world.owners.values()) {
          owner.backlog = 1_000;
          owner.delivered = 0;
        }
        for (let turn = 0; turn < 60; turn += 1) {
          world.calm();
          for (const owner of world.owners.values()) owner.settle(1);
          world.calm();
          if (world.shares.restless) world.take(world.shares.turn());
        }
        for (const owner of world.owners.values()) expect(owner.delivered).toBeGreaterThan(0);
      },
    ),
    cases(300),
  );
});

test('an idle owner lends what it does not need, and keeps enough for its next message', () => {
  const world = new World(1_000, 1_000_000);
  for (const id of [0, 1, 2]) world.join(id);
  world.calm();
  expect(world.limits()).toEqual([333, 333, 333]);
  world.owners.get(1)!.backlog = 10_000;
  world.owners.get(1)!.deliver();
  world.calm();
  expect(world.limits()).toEqual([41, 918, 41]);
  // Nobody wants any more, so nothing moves back without need.
  world.owners.get(1)!.backlog = 0;
  world.owners.get(1)!.settle(1_000);
  world.calm();
  for (let turn = 0; turn < 10; turn += 1) world.take(world.shares.turn());
  world.calm();
  expect(world.limits()).toEqual([41, 918, 41]);
  expect(world.shares.restless).toBe(false);
});

test('one owner has everything, at once', () => {
  const shares = new CreditShares<string>(1_000, 64);
  expect(shares.join('only')).toEqual([{ owner: 'only', sequence: 1, messages: 1_000, bytes: 64 }]);
  expect(shares.credited('only', 1, 0)).toEqual([]);
  expect(shares.setTotal(2_000, 64)).toEqual([{ owner: 'only', sequence: 2, messages: 2_000, bytes: 64 }]);
});

test('with as many owners as messages nothing is ordered again and again', () => {
  const world = new World(3, 300);
  for (const id of [0, 1, 2]) world.join(id);
  for (const owner of world.owners.values()) owner.backlog = 100;
  world.calm();
  const before = [...world.owners.values()].map(({ sequence }) => sequence);
  for (let turn = 0; turn < 20; turn += 1) {
    world.take(world.shares.turn());
    world.calm();
  }
  expect([...world.owners.values()].map(({ sequence }) => sequence)).toEqual(before);
});

test('what an owner gives up goes to another when it has confirmed the newest order, not an earlier one', () => {
  const shares = new CreditShares<string>(10, 1_000);
  shares.join('a');
  shares.join('b');
  const [lowered] = shares.credited('a', 1, 0);
  expect(lowered).toMatchObject({ owner: 'a', sequence: 2, messages: 5 });
  shares.credited('b', 1, 0);
  expect(shares.credited('a', 1, 0)).toEqual([]);
  expect(shares.credited('a', 2, 0)).toMatchObject([{ owner: 'b', messages: 5 }]);
});
