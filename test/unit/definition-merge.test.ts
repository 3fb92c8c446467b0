// Definitions of several brokers over one store that forgets its last writes at any moment: whatever happens
// they come to agree, nothing is dropped that nobody has deleted, and what was acknowledged is there as long
// as a broker remembers it.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeTopic } from '../../services/broker/core/definition-codec.ts';
import {
  type DefinitionState,
  liveState,
  merge,
  tombstoneOf,
} from '../../services/broker/core/definition-merge.ts';
import type { TopicDefinition } from '../../services/broker/core/definitions.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import { createSharedMemory, type SharedMemory } from '../support/memory-store.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const TOPIC: TopicDefinition = {
  name: 'projects/p/topics/orders',
  partitions: 4,
  retentionMs: 1_000,
  retentionBytesPerPartition: 0,
  durability: 'stored',
  minReplicas: 0,
  labels: {},
  logEpoch: 5,
  createTimeMs: 0,
  revision: 3,
};

function live(change: Partial<TopicDefinition> = {}): DefinitionState {
  return liveState({ kind: 'topic', definition: { ...TOPIC, ...change } });
}

function tombstone(change: Partial<TopicDefinition> = {}): DefinitionState {
  return tombstoneOf({ kind: 'topic', definition: { ...TOPIC, ...change } });
}

describe('what a broker knows and what the store has', () => {
  const removed = new Set<number>();
  const past = {
    wasRemoved: ({ definition }: DefinitionState['entry']) =>
      removed.has((definition as TopicDefinition).logEpoch),
    isComplete: true,
  };
  const older = { logEpoch: 4, revision: 9 };
  const newer = { logEpoch: 6, revision: 1 };

  test.each([
    ['nothing, nothing', undefined, undefined, 'none'],
    ['nothing, live', undefined, live(), 'take'],
    ['nothing, a tombstone', undefined, tombstone(), 'take'],
    ['the same', live(), live(), 'none'],
    ['live, nothing', live(), undefined, 'write 3'],
    ['live, an older revision', live(), live({ revision: 2 }), 'write 3'],
    ['live, a newer revision', live(), live({ revision: 4 }), 'take'],
    ['live, the same revision by somebody else', live(), live({ labels: { a: 'b' } }), 'take'],
    ['grown, a newer revision that has not', live({ partitions: 9 }), live({ revision: 4 }), 'write 5'],
    ['live, its tombstone', live(), tombstone({ revision: 4 }), 'take'],
    ['live, its predecessor', live(), live(older), 'write 10'],
    ['live, the tombstone of its predecessor', live(), tombstone(older), 'finish'],
    ['live, a successor', live(), live(newer), 'letGo'],
    ['live, the tombstone of a successor', live(), tombstone(newer), 'letGo'],
    ['a tombstone, nothing', tombstone(), undefined, 'write 3'],
    ['a tombstone, live', tombstone({ revision: 4 }), live(), 'write 4'],
    ['a tombstone, live and changed since', tombstone(), live({ revision: 7 }), 'write 8'],
    ['a tombstone, the same', tombstone(), tombstone(), 'finish'],
    ['a tombstone, a later one', tombstone(), tombstone({ revision: 4 }), 'take'],
    ['a tombstone, its predecessor', tombstone(), live(older), 'write 10'],
    ['a tombstone, a successor', tombstone(), live(newer), 'drop'],
  ])('%s', (_name, known, found, expected) => {
    expect(shown(merge(known, found, past))).toBe(expected);
  });

  test.each([
    ['live, nothing: it was removed', live(), undefined, 'drop'],
    ['live, a successor: it was removed', live(), live(newer), 'drop'],
    ['nothing, live: its deletion was lost', undefined, live(), 'write 4'],
    ['live, live: as well', live(), live(), 'write 4'],
    ['a successor, live: as well', live(newer), live(), 'write 4'],
    ['a tombstone, nothing: it was removed', tombstone(), undefined, 'drop'],
  ])('%s', (_name, known, found, expected) => {
    removed.add(5);
    const step = merge(known, found, past);
    removed.clear();
    expect(shown(step)).toBe(expected);
    if (step.kind === 'write') expect(step.state.deleted).toBe(true);
  });

  test('what is missing may have been deleted long ago, if the store has forgotten such', () => {
    const forgetful = { ...past, isComplete: false };
    expect(merge(live(), undefined, forgetful)).toEqual({ kind: 'letGo' });
    expect(merge(tombstone(), undefined, forgetful)).toEqual({ kind: 'drop' });
    expect(shown(merge(live(), live({ revision: 1 }), forgetful))).toBe('write 3');
  });

  test('every count that either knows stays known, whoever is newer', () => {
    const four = { partitions: 9, formerPartitions: [4] };
    const six = { partitions: 8, formerPartitions: [4, 6] };
    const all = { partitions: 9, formerPartitions: [4, 6, 8] };
    for (const [known, found] of [
      [live({ ...four, revision: 3 }), live({ ...six, revision: 4 })],
      [live({ ...six, revision: 4 }), live({ ...four, revision: 3 })],
      [live({ ...four, revision: 4 }), live({ ...six, revision: 4 })],
    ] as const) {
      const step = merge(known, found, past);
      expect(step).toMatchObject({ kind: 'write', state: { entry: { definition: all } } });
      // The written body says the same as the definition.
      const { state } = step as { state: DefinitionState };
      expect(decodeTopic(TOPIC.name, 0, state.body).definition).toMatchObject(all);
    }
  });

  test('grown partitions stay, with everything else as it was changed last', () => {
    const step = merge(live({ partitions: 9 }), live({ revision: 4, labels: { a: 'b' } }), past);
    expect(step).toMatchObject({
      kind: 'write',
      state: { entry: { definition: { partitions: 9, labels: { a: 'b' }, revision: 5 } } },
    });
  });
});

function shown(step: ReturnType<typeof merge>): string {
  return step.kind === 'write' ? `write ${step.state.entry.definition.revision}` : step.kind;
}

const NAMES = ['a', 'b'] as const;
const BROKERS = 3;

const ON_DEFINITIONS = ['create', 'grow', 'delete', 'subscribe', 'unsubscribe'] as const;

interface Act {
  readonly do: (typeof ON_DEFINITIONS)[number] | 'refresh' | 'restart' | 'fallBehind' | 'failOver';
  readonly by: number;
  readonly name: (typeof NAMES)[number];
}

function act(...what: readonly Act['do'][]): fc.Arbitrary<Act> {
  return fc.record({
    do: fc.constantFrom(...what),
    by: fc.nat(BROKERS - 1),
    name: fc.constantFrom(...NAMES),
  });
}

/** Brokers over one store, and what they have told those who asked. */
class Scene {
  readonly memory: SharedMemory = createSharedMemory();
  readonly brokers: Definitions[] = [];
  /** Incarnations that somebody has asked to delete, themselves or their topic. */
  readonly #mayGo = new Set<number>();
  /** Subscriptions that were dropped although nobody has asked for it. */
  readonly #subscriptions: { readonly what: string; readonly topic: string; readonly topicEpoch: number }[] =
    [];
  /** Topics that were dropped although nobody has asked for it. */
  readonly #topics: string[] = [];
  /** The greatest logEpoch that a topic name ever had. */
  readonly #epochs = new Map<string, number>();
  failOvers = 0;
  #failOver: (() => void) | undefined;

  async open(): Promise<void> {
    for (let nth = 0; nth < BROKERS; nth += 1) this.brokers.push(await this.#broker(nth));
  }

  async perform(act: Act): Promise<void> {
    if (act.do === 'fallBehind') this.#failOver = this.memory.checkpoint();
    else if (act.do === 'failOver') {
      if (this.#failOver !== undefined) this.failOvers += 1;
      this.#failOver?.();
    } else {
      try {
        await this.#ask(this.brokers[act.by]!, act);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
      }
    }
  }

  /** Lets all brokers refresh until nothing changes any more. */
  async settle(): Promise<void> {
    const { definitions } = this.memory.open('x');
    for (let round = 0; round < 20; round += 1) {
      const before = await definitions.version();
      for (const broker of this.brokers) await broker.refresh();
      if (before === (await definitions.version())) return;
    }
    throw new Error('the brokers write again and again');
  }

  async #broker(nth: number): Promise<Definitions> {
    const made = new Definitions({
      store: this.memory.open(`broker-${nth}`).definitions,
      clock: new VirtualClock(),
      durability: { supported: ['stored'], default: 'stored' },
      currentEnds: async () => [],
      audit: () => {},
      onWarning: () => {},
    });
    await made.load();
    for (const topic of made.topics()) this.#saw(topic);
    made.onChange((change) => {
      if ('topic' in change) this.#saw(change.topic);
      if (change.kind !== 'deleted') return;
      if ('topic' in change) {
        const { name, logEpoch } = change.topic;
        if (!this.#mayGo.has(logEpoch)) this.#topics.push(`${name} (${logEpoch})`);
        return;
      }
      const { name, incarnation, topic, topicEpoch } = change.subscription;
      if (this.#mayGo.has(incarnation) || this.#mayGo.has(topicEpoch)) return;
      this.#subscriptions.push({ what: `${name} (${incarnation})`, topic, topicEpoch });
    });
    return made;
  }

  #saw({ name, logEpoch }: TopicDefinition): void {
    this.#epochs.set(name, Math.max(logEpoch, this.#epochs.get(name) ?? 0));
  }

  /**
   * What was dropped although nobody has asked for it. Several failovers can each lose the creation of one
   * topic by another broker: then the later one is the topic, and subscriptions to the other go with that.
   */
  get dropped(): string[] {
    const left = this.#subscriptions.filter(
      ({ topic, topicEpoch }) => this.failOvers < 2 || topicEpoch >= this.#epochs.get(topic)!,
    );
    return [...this.#topics, ...left.map(({ what }) => what)];
  }

  async #ask(broker: Definitions, act: Act): Promise<void> {
    if (act.do === 'refresh') return broker.refresh();
    if (act.do === 'restart') {
      this.brokers[act.by] = await this.#broker(act.by);
      return;
    }
    const topic = `projects/p/topics/topic-${act.name}`;
    const subscription = `projects/p/subscriptions/sub-${act.name}`;
    switch (act.do) {
      case 'create':
        await broker.createTopic('me', { name: topic, partitions: 1 });
        return;
      case 'grow': {
        const partitions = (broker.topic(topic)?.partitions ?? 0) + 1;
        await broker.updateTopic('me', { name: topic, partitions }, ['partitions']);
        return;
      }
      case 'delete':
        for (const each of this.brokers) this.#note(each.topic(topic)?.logEpoch);
        return broker.deleteTopic('me', topic, { force: true });
      case 'subscribe':
        await broker.createSubscription('me', { name: subscription, topic, start: 'earliest' });
        return;
      case 'unsubscribe':
        for (const each of this.brokers) this.#note(each.subscription(subscription)?.incarnation);
        return broker.deleteSubscription('me', subscription);
    }
  }

  #note(incarnation: number | undefined): void {
    if (incarnation !== undefined) this.#mayGo.add(incarnation);
  }
}

async function storedBy(scene: Scene): Promise<string[]> {
  const stored = await scene.memory.open('x').definitions.list();
  return stored
    .map(({ kind, name, revision, body }) => `${kind} ${name} ${revision} ${incarnationIn(body)}`)
    .sort();
}

function knownTo(broker: Definitions): string[] {
  const topics = [...broker.topics()].map(
    ({ name, revision, logEpoch }) => `topic ${name} ${revision} ${logEpoch}`,
  );
  const subscriptions = [...broker.subscriptions()].map(
    ({ name, revision, incarnation }) => `subscription ${name} ${revision} ${incarnation}`,
  );
  return [...topics, ...subscriptions].sort();
}

function incarnationIn(body: string): number {
  const { logEpoch, incarnation } = JSON.parse(body) as { logEpoch?: number; incarnation?: number };
  return incarnation ?? logEpoch!;
}

test('brokers come to agree with the store, and drop only what was deleted', {
  timeout: TIMEOUT_MS,
}, async () => {
  const acts = fc.oneof(
    { weight: 6, arbitrary: act(...ON_DEFINITIONS) },
    { weight: 3, arbitrary: act('refresh', 'fallBehind', 'failOver') },
    { weight: 1, arbitrary: act('restart') },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(acts, { maxLength: 60, size: 'max' }), async (story) => {
      const scene = new Scene();
      await scene.open();
      for (const act of story) await scene.perform(act);
      await scene.settle();
      const stored = await storedBy(scene);
      for (const broker of scene.brokers) expect(knownTo(broker)).toEqual(stored);
      expect(scene.dropped).toEqual([]);
    }),
    cases(300),
  );
});

test('while every broker lives and hears of each change, a failover changes nothing', {
  timeout: TIMEOUT_MS,
}, async () => {
  const acts = act(...ON_DEFINITIONS, 'fallBehind', 'failOver');
  await fc.assert(
    fc.asyncProperty(fc.array(acts, { maxLength: 60, size: 'max' }), async (story) => {
      const scene = new Scene();
      await scene.open();
      let before: string[] = [];
      for (const act of story) {
        await scene.perform(act);
        if (act.do === 'failOver') {
          await scene.settle();
          expect(await storedBy(scene)).toEqual(before);
        }
        await scene.settle();
        before = await storedBy(scene);
      }
      expect(scene.dropped).toEqual([]);
    }),
    cases(300),
  );
});
