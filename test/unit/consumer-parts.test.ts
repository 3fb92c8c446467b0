// core/consumer-parts.ts and core/consumer-part.ts whatever happens in whatever order, against owners and
// links that keep the order of what is said. The usual courses are in test/golden/consumer-parts.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ConsumerPart, type PartEvent } from '../../services/broker/core/consumer-part.ts';
import {
  type ConsumerEffect,
  type ConsumerEvent,
  ConsumerParts,
} from '../../services/broker/core/consumer-parts.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import { cases } from '../support/property.ts';

const HERE = 'x';
const OTHERS = ['y', 'z'];
const PARTITIONS = 3;

type ToOwner =
  | { readonly kind: 'credit'; readonly sequence: number; readonly messages: number }
  | { readonly kind: 'settle'; readonly operations: readonly SettleOperation[] };
type ToRelay =
  | { readonly kind: 'credited'; readonly sequence: number; readonly outstanding: number }
  | { readonly kind: 'deliver' }
  | { readonly kind: 'bounced'; readonly operations: readonly SettleOperation[] }
  | { readonly kind: 'refused' };

/** One broker as an owner, and the link to it. */
class Owner {
  isUp = false;
  limit = 0;
  outstanding = 0;
  sequence = 0;
  /** It has heard anything since it was attached: then nobody knows what. */
  heard = false;
  toOwner: ToOwner[] = [];
  toRelay: ToRelay[] = [];
  /** What it has thrown away because it refuses the consumer, who does not know that yet. */
  refused: SettleOperation[] = [];
  leg: ConsumerPart | undefined;

  get attached(): boolean {
    return this.leg?.state.kind === 'attached';
  }

  /** The consumer is not attached here any more. Returns what was on its way. */
  reset(): SettleOperation[] {
    const onItsWay = [...this.toOwner, ...this.toRelay].flatMap(operationsOf);
    const lost = [...this.refused, ...onItsWay];
    this.refused = [];
    this.limit = 0;
    this.outstanding = 0;
    this.heard = false;
    this.toOwner = [];
    this.toRelay = [];
    return lost;
  }
}

class World {
  readonly parts: ConsumerParts;
  readonly owners = new Map([HERE, ...OTHERS].map((name) => [name, new Owner()]));
  /** The owner of each partition. */
  readonly routes: string[] = [HERE, 'y', 'z'];
  readonly lingering = new Set<string>();
  readonly said = new Map<number, SettleOperation>();
  /** How often an owner has performed what was said, by its number. */
  readonly settled = new Map<number, number>();
  /** A link broke, or the leg was given up, while they may have been on it. */
  readonly uncertain = new Set<number>();
  readonly later: SettleOperation[] = [];
  mostMessages: number;
  isQuiet = false;
  retries = false;
  asked = false;

  constructor(messages: number) {
    this.mostMessages = messages;
    const limits = { maxOutstandingMessages: messages, maxOutstandingBytes: 1_000, ackDeadlineMs: 1_000 };
    this.parts = new ConsumerParts({ here: HERE, limits, draining: false, logEpoch: 1, turn: 1 });
    this.owner(HERE).isUp = true;
    this.routed();
  }

  owner(name: string): Owner {
    return this.owners.get(name)!;
  }

  routed(): void {
    const owners = [...new Set(this.routes)];
    this.on({ kind: 'routed', owners, partitions: PARTITIONS });
    this.on({ kind: 'placed' });
  }

  on(event: ConsumerEvent): void {
    const effects = this.parts.step(event, {
      nowMs: 0,
      queued: 0,
      tellable: (partition) => {
        const name = this.routes[partition]!;
        return name === HERE || this.owner(name).attached ? name : undefined;
      },
    });
    for (const effect of effects)
      if (this.parts.phase !== 'left' || effect.kind === 'leave' || effect.kind === 'settle later')
        this.#perform(effect);
  }

  leg(name: string, event: PartEvent): void {
    const owner = this.owner(name);
    const part = owner.leg!;
    for (const effect of part.step(event)) {
      switch (effect.kind) {
        case 'attach':
          expect(owner.isUp).toBe(true);
          owner.reset();
          break;
        case 'credit':
          expect(owner.isUp).toBe(true);
          owner.toOwner.push({
            kind: 'credit',
            sequence: effect.sequence,
            messages: effect.limits.maxOutstandingMessages,
          });
          break;
        case 'settle':
          expect(owner.isUp).toBe(true);
          owner.toOwner.push(effect);
          break;
        case 'detach':
          expect(owner.isUp).toBe(true);
          this.#doubt(owner.reset());
          break;
        case 'joined':
        case 'left':
          this.on({ kind: effect.kind, part: name });
          break;
        case 'bounced':
          this.on(effect);
          break;
        case 'end':
          this.on({ kind: 'leave', leases: 'end' });
          break;
        default:
          break;
      }
    }
  }

  #perform(effect: ConsumerEffect): void {
    switch (effect.kind) {
      case 'make leg': {
        const owner = this.owner(effect.part);
        owner.leg = new ConsumerPart();
        if (owner.isUp) this.leg(effect.part, { kind: 'up', opening: true });
        break;
      }
      case 'drop leg':
        if (effect.part === HERE) this.owner(HERE).reset();
        else {
          this.leg(effect.part, { kind: 'leave', leases: 'stay' });
          this.owner(effect.part).leg = undefined;
        }
        break;
      case 'linger':
        this.lingering.add(effect.part);
        break;
      case 'stop lingering':
        this.lingering.delete(effect.part);
        break;
      case 'credit': {
        const { part, sequence, limits } = effect;
        if (part !== HERE) {
          this.leg(part, { kind: 'credit', sequence, limits });
          break;
        }
        const here = this.owner(HERE);
        here.limit = limits.maxOutstandingMessages;
        here.sequence = sequence;
        this.on({ kind: 'credited', part, sequence, outstandingMessages: here.outstanding });
        break;
      }
      case 'settle':
        if (effect.part === HERE) this.#settle(effect.operations);
        else this.leg(effect.part, { kind: 'settle', operations: effect.operations });
        break;
      case 'settle later':
        this.later.push(...effect.acks);
        break;
      case 'retry':
        expect(this.retries).toBe(false);
        this.retries = true;
        break;
      case 'ask':
        this.asked = true;
        break;
      case 'is quiet':
        this.isQuiet = true;
        break;
      case 'leave':
        for (const name of OTHERS) if (this.owner(name).leg) this.leg(name, effect);
        break;
      default:
        break;
    }
  }

  #settle(operations: readonly SettleOperation[]): void {
    for (const { first, last } of operations)
      for (const each of range(first, last)) this.settled.set(each, (this.settled.get(each) ?? 0) + 1);
  }

  /** The owner hears one thing. */
  hear(name: string): void {
    const owner = this.owner(name);
    const said = owner.toOwner.shift();
    if (said === undefined) return;
    owner.heard = true;
    if (said.kind === 'credit') {
      owner.limit = said.messages;
      owner.sequence = said.sequence;
      owner.toRelay.push({ kind: 'credited', sequence: said.sequence, outstanding: owner.outstanding });
      return;
    }
    const mine = said.operations.filter(({ partition }) => this.routes[partition] === name);
    const others = said.operations.filter(({ partition }) => this.routes[partition] !== name);
    this.#settle(mine);
    if (others.length > 0) owner.toRelay.push({ kind: 'bounced', operations: others });
  }

  /** The relay hears one thing of the owner. */
  answer(name: string): void {
    const owner = this.owner(name);
    const said = owner.toRelay.shift();
    if (said === undefined) return;
    switch (said.kind) {
      case 'credited':
        owner.leg!.heard();
        this.on({
          kind: 'credited',
          part: name,
          sequence: said.sequence,
          outstandingMessages: said.outstanding,
        });
        break;
      case 'deliver':
        owner.leg!.delivered();
        break;
      case 'bounced':
        this.on(said);
        break;
      default:
        this.#gone(name, owner.isUp);
    }
  }

  #gone(name: string, linkIsUp: boolean): void {
    const owner = this.owner(name);
    const { state } = owner.leg!;
    // What the owner may have heard without an answer comes back all the same.
    if (owner.heard && state.kind === 'attached') this.#doubt(state.unheard ?? []);
    const { heard } = owner;
    const lost = owner.reset();
    if (heard) this.#doubt(lost);
    this.leg(name, { kind: 'ended', code: 'UNAVAILABLE', linkIsUp });
  }

  #doubt(operations: readonly SettleOperation[]): void {
    for (const { first, last } of operations) for (const each of range(first, last)) this.uncertain.add(each);
  }

  breakLink(name: string): void {
    const owner = this.owner(name);
    owner.isUp = false;
    if (owner.attached) this.#gone(name, false);
  }

  linkUp(name: string): void {
    const owner = this.owner(name);
    owner.isUp = true;
    if (owner.leg !== undefined) this.leg(name, { kind: 'up', opening: false });
  }

  refuse(name: string): void {
    const owner = this.owner(name);
    if (!owner.attached) return;
    owner.toRelay.push({ kind: 'refused' });
    if (owner.heard) return;
    owner.refused.push(...owner.toOwner.flatMap(operationsOf));
    owner.toOwner = [];
  }

  deliver(name: string): void {
    const owner = this.owner(name);
    if ((name !== HERE && !owner.attached) || owner.outstanding >= owner.limit) return;
    owner.outstanding += 1;
    if (name !== HERE) owner.toRelay.push({ kind: 'deliver' });
  }

  leaseEnds(name: string): void {
    const owner = this.owner(name);
    if (owner.outstanding === 0) return;
    owner.outstanding -= 1;
    const { sequence, outstanding } = owner;
    if (outstanding < owner.limit) return;
    if (name === HERE) this.on({ kind: 'credited', part: HERE, sequence, outstandingMessages: outstanding });
    else owner.toRelay.push({ kind: 'credited', sequence, outstanding });
  }

  say(kind: 'ack' | 'nack', partition: number): void {
    const first = this.said.size;
    const operation = { kind, logEpoch: 1, partition, first, last: first, seconds: 0 };
    this.said.set(first, operation);
    this.on({ kind: 'settle', operations: [operation] });
  }

  retry(): void {
    if (!this.retries) return;
    this.retries = false;
    this.on({ kind: 'look', retried: true });
  }

  /** Everything is up and said, until nothing happens any more. */
  settle(): void {
    for (const name of OTHERS) this.linkUp(name);
    for (const name of this.owners.keys()) while (this.owner(name).outstanding > 0) this.leaseEnds(name);
    for (let round = 0; round < 200; round += 1) {
      for (const name of OTHERS) {
        this.hear(name);
        if (this.owner(name).leg?.state.kind === 'resting') this.linkUp(name);
        this.answer(name);
      }
      this.retry();
    }
  }

  check(): void {
    const owners = [...this.owners.values()];
    const sum = (of: (owner: Owner) => number): number => owners.reduce((all, each) => all + of(each), 0);
    expect(sum(({ outstanding }) => outstanding)).toBeLessThanOrEqual(this.mostMessages);
    expect(sum(({ limit }) => limit)).toBeLessThanOrEqual(this.mostMessages);
  }
}

const name = fc.constantFrom(...OTHERS);
const anybody = fc.constantFrom(HERE, ...OTHERS);
const partition = fc.nat(PARTITIONS - 1);
const act = <T>(value: fc.Arbitrary<T>, perform: (world: World, value: T) => void) =>
  value.map((drawn) => (world: World) => perform(world, drawn));

const happening = fc.oneof(
  { weight: 6, arbitrary: act(name, (world, owner) => world.hear(owner)) },
  { weight: 6, arbitrary: act(name, (world, owner) => world.answer(owner)) },
  { weight: 4, arbitrary: act(anybody, (world, owner) => world.deliver(owner)) },
  { weight: 2, arbitrary: act(anybody, (world, owner) => world.leaseEnds(owner)) },
  { weight: 4, arbitrary: act(partition, (world, at) => world.say('ack', at)) },
  act(partition, (world, at) => world.say('nack', at)),
  { weight: 2, arbitrary: act(name, (world, owner) => world.linkUp(owner)) },
  act(name, (world, owner) => world.breakLink(owner)),
  act(name, (world, owner) => world.refuse(owner)),
  act(fc.tuple(partition, anybody), (world, [at, owner]) => {
    world.routes[at] = owner;
    world.routed();
  }),
  act(name, (world, part) => {
    if (world.lingering.has(part)) world.on({ kind: 'lingered', part });
  }),
  act(fc.tuple(anybody, fc.boolean()), (world, [part, more]) => world.on({ kind: 'wants', part, more })),
  act(fc.integer({ min: 1, max: 12 }), (world, messages) => {
    world.mostMessages = Math.max(world.mostMessages, messages);
    const limits = { maxOutstandingMessages: messages, maxOutstandingBytes: 1_000, ackDeadlineMs: 1_000 };
    world.on({ kind: 'limits', limits });
  }),
  act(fc.boolean(), (world, draining) => world.on({ kind: 'drain', draining })),
  act(fc.constant(undefined), (world) => world.retry()),
  act(fc.constant(undefined), (world) => world.on({ kind: 'turn' })),
);
const course = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.array(happening, { maxLength: 120 }));

function lived([messages, happenings]: [number, ((world: World) => void)[]]): World {
  const world = new World(messages);
  for (const each of happenings) {
    each(world);
    world.check();
  }
  return world;
}

test('credit never exceeds what the consumer gave, and what it says is told once, whatever happens', () => {
  fc.assert(
    fc.property(course, (drawn) => {
      const world = lived(drawn);
      world.settle();
      world.check();
      if (world.parts.limits.maxOutstandingMessages >= world.owners.size)
        for (const owner of new Set(world.routes)) expect(world.owner(owner).limit).toBeGreaterThan(0);
      for (const said of world.said.keys()) {
        if (world.uncertain.has(said)) continue;
        expect(world.settled.get(said), `what was said as number ${said}`).toBe(1);
      }
      // Nothing is kept any more: it can be made quiet.
      world.on({ kind: 'quiesce' });
      world.settle();
      expect(world.isQuiet).toBe(true);
      for (const owner of world.owners.values()) expect(owner.limit).toBe(0);
    }),
    cases(500),
  );
});

test('once it has left nobody is told anything but acks that nobody was told before', () => {
  fc.assert(
    fc.property(course, fc.array(happening, { maxLength: 20 }), (drawn, after) => {
      const world = lived(drawn);
      const told = (): number => OTHERS.reduce((sum, each) => sum + world.owner(each).toOwner.length, 0);
      world.on({ kind: 'leave', leases: 'end' });
      expect(told()).toBe(0);
      const saidBefore = world.said.size;
      for (const each of after) each(world);
      expect(told()).toBe(0);
      const later = new Set(world.later.flatMap(({ first, last }) => range(first, last)));
      expect(world.later.every(({ kind }) => kind === 'ack')).toBe(true);
      for (const [said, { kind }] of world.said) {
        if (kind !== 'ack' || said >= saidBefore || world.uncertain.has(said)) continue;
        expect(Number(later.has(said)) + (world.settled.get(said) ?? 0), `ack number ${said}`).toBe(1);
      }
    }),
    cases(300),
  );
});

function operationsOf(said: ToOwner | ToRelay): readonly SettleOperation[] {
  return 'operations' in said ? said.operations : [];
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}
