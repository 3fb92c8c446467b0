// engine/links/relay/relayed-publishes.ts: whatever links and owners do, what is stored is in the order in
// which it was published.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import type { PublishOutcome } from '../../services/broker/engine/links/relay/relay-link.ts';
import {
  type PublishLink,
  RelayedPublishes,
  WAIT_FOR_OWNER_MS,
} from '../../services/broker/engine/links/relay/relayed-publishes.ts';
import type { PendingPublish } from '../../services/broker/engine/log/publish-group.ts';
import { createStats } from '../../services/broker/engine/stats.ts';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import { engineLimits, PUBLISH_LIMITS } from '../../services/broker/limits.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

const ID = { logEpoch: 1, partition: 0 };
const MEMBERS = ['here', 'a', 'b'] as const;
type MemberName = (typeof MEMBERS)[number];

interface Sent {
  readonly attempt: number;
  readonly numbers: readonly number[];
  readonly outcome: (outcome: PublishOutcome) => void;
}

/** A link to a member, and what that member remembers of it. */
class Link implements PublishLink {
  readonly member: MemberName;
  readonly requests: Sent[] = [];
  readonly answers: (() => void)[] = [];
  readonly #unanswered = new Set<Sent>();
  refused = 0;
  closed = false;

  constructor(member: MemberName) {
    this.member = member;
  }

  publish(
    _topic: string,
    _partition: unknown,
    attempt: number,
    messages: Buffer,
    outcome: (outcome: PublishOutcome) => void,
  ): void {
    const sent = { attempt, numbers: numbersOf(messages), outcome };
    this.requests.push(sent);
    this.#unanswered.add(sent);
  }

  answer(sent: Sent, outcome: PublishOutcome): void {
    this.answers.push(() => {
      this.#unanswered.delete(sent);
      sent.outcome(outcome);
    });
  }

  close(): void {
    this.closed = true;
    for (const sent of this.#unanswered) sent.outcome({ kind: 'unknown' });
  }
}

class World {
  readonly clock = new VirtualClock();
  readonly stats = createStats();
  readonly log: number[] = [];
  readonly outcomes = new Map<number, 'done' | 'not stored' | 'unknown'>();
  readonly #sticky: boolean;
  #published = 0;
  #owner: MemberName | undefined = 'a';
  #target: MemberName = 'a';
  readonly #links = new Map<MemberName, Link>();
  readonly partition: RelayedPublishes;

  constructor(sticky: boolean) {
    this.#sticky = sticky;
    for (const member of MEMBERS) this.#links.set(member, new Link(member));
    this.partition = new RelayedPublishes({
      topic: 'projects/p/topics/t',
      id: ID,
      context: {
        clock: this.clock,
        steady: new SteadyClock(this.clock, SILENT),
        limits: engineLimits(1 << 23),
        stats: this.stats,
        logger: { info: () => {}, warn: () => {}, error: () => {} },
        tracing: undefined,
      },
      link: () => (this.#target === 'here' ? undefined : this.#links.get(this.#target)),
      owner: () => (this.#owner === 'here' ? { publish: (publish) => this.#store(publish) } : undefined),
      partitions: () => 1,
    });
  }

  publish(count: number): void {
    const first = this.#published;
    this.#published += count;
    this.partition.publish(publishOf(first, count, this.outcomes));
  }

  /** The next request on the way to a member arrives. */
  arrive(member: MemberName): void {
    const link = this.#links.get(member)!;
    const sent = link.requests.shift();
    if (sent === undefined) return;
    if ((this.#sticky && sent.attempt <= link.refused) || this.#owner !== member) {
      link.refused = Math.max(link.refused, sent.attempt);
      link.answer(sent, { kind: 'not owner' });
      return;
    }
    link.answer(sent, { kind: 'published', firstOffset: this.log.length });
    this.log.push(...sent.numbers);
  }

  answer(member: MemberName): void {
    this.#links.get(member)!.answers.shift()?.();
  }

  cut(member: MemberName): void {
    const link = this.#links.get(member)!;
    this.#links.set(member, new Link(member));
    link.close();
    this.partition.pump();
  }

  route(member: MemberName): void {
    this.#target = member;
    this.partition.routed();
  }

  own(member: MemberName | undefined): void {
    this.#owner = member;
    if (member === 'here') void this.partition.opened();
  }

  async calm(): Promise<void> {
    // In the end the member that is to own the partition does.
    this.own(this.#target);
    for (let turn = 0; turn < 20; turn += 1) {
      await this.clock.advance(300);
      for (const member of MEMBERS) {
        while (this.#links.get(member)!.requests.length > 0) this.arrive(member);
        while (this.#links.get(member)!.answers.length > 0) this.answer(member);
      }
    }
  }

  #store(publish: PendingPublish): void {
    const firstOffset = this.log.length;
    const { batch } = publish.slice;
    for (let i = 0; i < batch.count; i += 1) this.log.push(numberAt(batch.bytes, batch.starts[i]!));
    publish.done(firstOffset);
  }

  check(): void {
    for (const [at, number] of this.log.entries()) {
      if (at > 0 && number <= this.log[at - 1]!)
        throw new Error(`${number} is stored behind ${this.log[at - 1]}: ${this.log}`);
      if (this.outcomes.get(number) === 'not stored')
        throw new Error(`${number} is stored, in spite of its answer`);
    }
    for (const [number, outcome] of this.outcomes)
      if (outcome === 'done' && !this.log.includes(number)) throw new Error(`${number} is not stored`);
    if (this.outcomes.size !== this.#published) throw new Error('a publish has no outcome');
    if (this.stats.uncommittedBytes !== 0) throw new Error('bytes are still counted');
    if (!this.partition.empty) throw new Error('something is left');
    if (this.clock.timerCount !== 0) throw new Error('a timer is left');
  }
}

function publishOf(first: number, count: number, outcomes: World['outcomes']): PendingPublish {
  const record = Buffer.alloc(count * 8);
  for (let i = 0; i < count; i += 1) {
    // The record is messages { data: 4 bytes }.
    record.set([0x12, 6, 0x0a, 4], i * 8);
    record.writeUInt32BE(first + i, i * 8 + 4);
  }
  return {
    slice: { batch: parsePublish(record, PUBLISH_LIMITS), indexes: undefined },
    done: () => {
      for (let i = 0; i < count; i += 1) outcomes.set(first + i, 'done');
    },
    failed: ({ message }) => {
      const outcome = message.includes('may have been stored') ? 'unknown' : 'not stored';
      for (let i = 0; i < count; i += 1) outcomes.set(first + i, outcome);
    },
    misrouted: () => {
      throw new Error('the topic has not grown');
    },
  };
}

function numberAt(bytes: Uint8Array, start: number): number {
  return Buffer.from(bytes).readUInt32BE(start + 2);
}

function numbersOf(messages: Buffer): number[] {
  const batch = parsePublish(messages, PUBLISH_LIMITS);
  return Array.from(batch.starts.subarray(0, batch.count), (start) => numberAt(messages, start));
}

const member = fc.constantFrom(...MEMBERS);
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('publish' as const), count: fc.integer({ min: 1, max: 3 }) }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constantFrom('arrive' as const, 'answer' as const), member }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), member }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom('route' as const, 'own' as const), member }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.constantFrom(0, 0, 10, 50) }),
  },
);

function property(sticky: boolean) {
  return fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 60 }), async (steps) => {
    const world = new World(sticky);
    for (const each of steps) {
      if (each.kind === 'publish') world.publish(each.count);
      else if (each.kind === 'pass') await world.clock.advance(each.ms);
      else world[each.kind](each.member);
    }
    await world.calm();
    world.check();
  });
}

test(
  'nothing is stored out of order, whatever is refused, cut or moved',
  async () => {
    await fc.assert(property(true), cases(1_000));
  },
  TIMEOUT_MS,
);

test(
  'an owner that takes what it has refused the like of before lets later publishes overtake',
  async () => {
    const result = await fc.check(property(false), { ...cases(20_000), endOnFailure: true });
    expect(result.failed).toBe(true);
    expect(String(result.errorInstance)).toContain('is stored behind');
  },
  TIMEOUT_MS,
);

test('waits for an owner, not for ever', async () => {
  const world = new World(true);
  world.own(undefined);
  world.route('here');
  world.publish(2);
  await world.clock.advance(WAIT_FOR_OWNER_MS - 1);
  expect(world.outcomes.size).toBe(0);
  await world.clock.advance(1);
  expect([...world.outcomes.values()]).toEqual(['not stored', 'not stored']);
  world.check();
});

test('what waits when the topic is deleted fails with that', () => {
  const world = new World(true);
  world.route('here');
  world.own(undefined);
  const failures: BrokerError[] = [];
  const publish = publishOf(0, 1, new Map());
  world.partition.publish({ ...publish, failed: (error) => failures.push(error) });
  const deleted = new BrokerError('NOT_FOUND', 'deleted');
  world.partition.close(deleted);
  expect(failures).toEqual([deleted]);
  expect(world.stats.uncommittedBytes).toBe(0);
  expect(world.clock.timerCount).toBe(0);
});

test('publishes of one turn go together', async () => {
  const world = new World(true);
  for (let i = 0; i < 10; i += 1) world.publish(1);
  await world.clock.settle();
  world.arrive('a');
  expect(world.log).toHaveLength(10);
  world.answer('a');
  world.check();
});
