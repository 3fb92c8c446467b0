// Definitions in memory and in the DefinitionStore, kept in agreement, and the deletions that are not
// finished. Knows nothing of rules and quotas; core/definition-merge.ts decides which of the two is right.
//
//   State of a name:
//            put         put of a tombstone            data dropped, tombstone removed
//     absent ─────▶ live ───────────────────▶ tombstone ───────────────────────────────▶ absent
//                    └─ its topic becomes a tombstone ─▶ doomed ─ put of a tombstone ─▶ tombstone
//
// Doomed (a tombstone here, and still live in the store) and tombstoned names don't exist for users. A crash
// or a failing store leaves them as they are; #reconcile goes on from there: at start, before the name is
// used again, and from finishDeletions.
//
// Invariant: nobody drops data because a definition is missing. What the store lacks, and was not deleted, a
// store that went back has forgotten: it is written again.
//
// Changes of one name run one after another (exclusively); a topic's turn is taken before its subscriptions',
// never the other way round.
import { decodeSubscription, decodeTopic } from '../../core/definition-codec.ts';
import {
  type DefinitionEntry,
  type DefinitionState,
  incarnationOf,
  liveState,
  type MergeStep,
  merge,
  type Past,
  tombstoneOf,
} from '../../core/definition-merge.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../core/definitions.ts';
import { assertNever, BrokerError } from '../../core/errors.ts';
import type { Definition, DefinitionKind, DefinitionStore } from '../../ports/definition-store.ts';
import type { DefinitionIndex } from './definition-index.ts';
import { KnownDefinitions, keyOf, topicsFirst } from './known-definitions.ts';
import { RemovalMemory } from './removal-memory.ts';
import { SerialByKey } from './serial-by-key.ts';

/** `forgotten`: it does not exist here any more, but what it has stored stays. */
export type ChangeKind = 'created' | 'updated' | 'deleted' | 'forgotten';

export type DefinitionChange =
  | { readonly kind: ChangeKind; readonly topic: TopicDefinition }
  | { readonly kind: ChangeKind; readonly subscription: SubscriptionDefinition };

/**
 * Called after a change is durable; the call that made it is answered once all listeners have resolved. Must
 * not change definitions itself. `deleted` may come more than once, and for something never seen as created
 * (after a restart): drop its data if there is any. After a rejection `deleted` is tried again later;
 * `created` and `updated` reach the caller with it, and come again as `updated`: both mean that the
 * definition is to be taken up. `forgotten` does not come again.
 */
export type ChangeListener = (change: DefinitionChange) => void | Promise<void>;

/** Something went wrong, or was put right: for the log. */
export type WarningSink = (message: string, fields: object) => void;

interface Name {
  readonly kind: DefinitionKind;
  readonly name: string;
}

/** The most steps in bringing one name into agreement: others may write it at the same time. */
const MAX_STEPS = 20;
/** The most names in one line of the log. */
const MAX_NAMES_SAID = 20;

export class DefinitionCatalog {
  readonly #store: DefinitionStore;
  readonly #warn: WarningSink;
  readonly #onWritten: (kind: DefinitionKind, name: string) => void;
  readonly #checkStore: () => Promise<void>;
  readonly #known = new KnownDefinitions();
  readonly #removals = new RemovalMemory();
  readonly #past: Past;
  /** Definitions that were created or changed, but a listener failed: it hears of them again. */
  readonly #unheard = new Map<string, DefinitionEntry>();
  /** Names of which what is known and what the store has may differ: they are to be brought together. */
  readonly #differing = new Map<string, Name>();
  readonly #serial = new SerialByKey();
  readonly #listeners = new Set<ChangeListener>();
  /** The store's version when everything was in agreement with it; undefined: not known. */
  #agreedVersion: number | undefined;
  /**
   * Since then something was written, or learned of one name: a store that goes back to that version has
   * forgotten it.
   */
  #isTouched = false;
  /** Names that were put right since that was last logged. */
  #writtenAgain: Name[] = [];
  #deletedAgain: Name[] = [];

  constructor(
    store: DefinitionStore,
    warn: WarningSink,
    onWritten: (kind: DefinitionKind, name: string) => void = () => undefined,
    checkStore: () => Promise<void> = async () => undefined,
  ) {
    this.#store = store;
    this.#warn = warn;
    this.#onWritten = onWritten;
    this.#checkStore = checkStore;
    const removals = this.#removals;
    this.#past = {
      wasRemoved: (entry) => this.#wasRemoved(entry),
      get isComplete() {
        return removals.isComplete;
      },
    };
  }

  get topics(): DefinitionIndex<TopicDefinition> {
    return this.#known.topics;
  }

  get subscriptions(): DefinitionIndex<SubscriptionDefinition> {
    return this.#known.subscriptions;
  }

  /** The partitions of all live topics. */
  get partitions(): number {
    return this.#known.partitions;
  }

  /** How many dispatchers all live subscriptions need: one for each partition of the topic. */
  get dispatchers(): number {
    return this.#known.dispatchers;
  }

  subscriptionsOf(topic: string): readonly SubscriptionDefinition[] {
    return this.#known.subscriptionsOf(topic);
  }

  /** Returns a function that ends it. */
  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads everything from the store. Once, before anything else; listeners hear nothing of it. */
  async load(): Promise<void> {
    const version = await this.#store.version();
    for (const stored of await this.#store.list()) this.#known.set(decode(stored));
    await this.#learnRemovals();
    this.#removals.sawAll(version);
    // A subscription is never written without its topic, so the topic was deleted.
    for (const definition of [...this.subscriptions.values()])
      if (this.topics.get(definition.topic)?.logEpoch !== definition.topicEpoch) this.#doom(definition);
  }

  /**
   * Takes up what other brokers have written since, and writes again what the store has forgotten; costs one
   * question if nothing has changed. Rejects if the store does not answer, or if a change is not in effect
   * yet.
   */
  async refresh(): Promise<void> {
    const version = await this.#store.version();
    if (version === this.#agreedVersion && !this.#isTouched) return;
    this.#agreedVersion = undefined;
    this.#isTouched = false;
    await this.#bringTogether();
    this.#removals.sawAll(version);
    // What was written in between is looked at again rather than missed.
    if ((await this.#store.version()) === version) this.#agreedVersion = version;
  }

  async #bringTogether(): Promise<void> {
    const stored = await this.#store.list();
    await this.#learnRemovals();
    const differing = new Map<string, Name>();
    const listed = new Set<string>();
    for (const each of stored) {
      const key = keyOf(each.kind, each.name);
      listed.add(key);
      if (!this.#agrees(each)) differing.set(key, each);
    }
    for (const [key, { entry }] of this.#known.entries())
      if (!listed.has(key)) differing.set(key, { kind: entry.kind, name: entry.definition.name });
    let failure: BrokerError | undefined;
    // Topics first: their subscriptions need them.
    for (const [key, { kind, name }] of [...differing].sort(([, a], [, b]) => topicsFirst(a, b))) {
      const error = await this.#expected(() => this.#serial.run(key, () => this.#reconcile(kind, name)));
      if (error === undefined) continue;
      failure ??= error;
      this.#warn('a change by another broker is not in effect yet and will be tried again', { error, name });
    }
    this.#sayWhatWasPutRight();
    if (failure !== undefined) throw failure;
  }

  /**
   * How many partitions the topic of that incarnation has by the store's word, without taking it up; 0: it is
   * not there.
   */
  async storedPartitionsOf(topic: string, logEpoch: number): Promise<number> {
    const stored = await this.#store.get('topic', topic);
    const found = stored && decode(stored);
    if (found === undefined || found.deleted || incarnationOf(found.entry) !== logEpoch) return 0;
    return found.entry.kind === 'topic' ? found.entry.definition.partitions : 0;
  }

  /** A number that no topic or subscription has had. */
  nextIncarnation(): Promise<number> {
    return this.#store.nextIncarnation(this.#known.highestIncarnation);
  }

  /**
   * Runs a change of one name after all earlier ones of it, as the store has it now, with no deletion left
   * over.
   */
  exclusively<T>(kind: DefinitionKind, name: string, change: () => Promise<T>): Promise<T> {
    return this.#serial.run(keyOf(kind, name), async () => {
      await this.#checkStore();
      await this.#finishEarlier(kind, name);
      return change();
    });
  }

  /**
   * Writes a draft in place of its revision (0: a new one), tells the listeners, and returns it with its new
   * revision.
   */
  async write<E extends DefinitionEntry>(draft: E): Promise<E['definition']> {
    const { revision } = draft.definition;
    const state = liveState(draft, revision + 1);
    await this.#put(state, revision);
    this.#setUnlessDoomed(state);
    await this.#emit(revision === 0 ? 'created' : 'updated', state.entry);
    return state.entry.definition;
  }

  /**
   * Deletes: resolves once it is durable that it is gone, with its subscriptions if it is a topic. Their data
   * is dropped by then too, unless that failed; then finishDeletions has to.
   */
  async delete(live: DefinitionEntry): Promise<void> {
    const { name, revision } = live.definition;
    const tombstone = tombstoneOf(live, revision + 1);
    await this.#put(tombstone, revision);
    this.#bury(tombstone);
    await this.#tryToFinish({ kind: live.kind, name });
  }

  /**
   * Looks up what became of puts without a known outcome, and tells listeners again what they failed to take
   * up.
   */
  async finishChanges(): Promise<void> {
    const left = new Map(this.#differing);
    for (const [key, { kind, definition }] of this.#unheard) left.set(key, { kind, name: definition.name });
    // Topics first: their subscriptions need them.
    for (const [key, { kind, name }] of [...left].sort(([, a], [, b]) => topicsFirst(a, b))) {
      const error = await this.#expected(() => this.#serial.run(key, () => this.#finishEarlier(kind, name)));
      if (error !== undefined)
        this.#warn('a change is not in effect yet and will be tried again', { error, name });
    }
  }

  /** Goes on with all unfinished deletions; returns how many are left. */
  async finishDeletions(): Promise<number> {
    for (const { entry } of this.#known.deleted()) {
      const name = { kind: entry.kind, name: entry.definition.name };
      await this.#serial.run(keyOf(name.kind, name.name), () => this.#tryToFinish(name));
    }
    return this.#known.deleted().length;
  }

  /** Within the name's turn: ends what earlier changes have left open. */
  async #finishEarlier(kind: DefinitionKind, name: string): Promise<void> {
    this.#isTouched = true;
    await this.#reconcile(kind, name);
    this.#sayWhatWasPutRight();
    const entry = this.#unheard.get(keyOf(kind, name));
    if (entry !== undefined) await this.#emit('updated', entry);
  }

  async #tryToFinish({ kind, name }: Name): Promise<void> {
    const error = await this.#expected(() => this.#reconcile(kind, name));
    if (error !== undefined)
      this.#warn('a deletion could not be finished and will be tried again', { error, name });
  }

  /** Within the name's turn: brings what is known and what the store has into agreement, step by step. */
  async #reconcile(kind: DefinitionKind, name: string): Promise<void> {
    const key = keyOf(kind, name);
    this.#differing.set(key, { kind, name });
    for (let steps = 0; steps < MAX_STEPS; steps += 1) {
      const stored = await this.#store.get(kind, name);
      const found = stored && decode(stored);
      const known = this.#known.get(kind, name);
      let step = merge(known, found, this.#past);
      if (step.kind === 'none') {
        this.#differing.delete(key);
        return;
      }
      // The check comes after the name was looked up: nothing may be concluded from a store that was out of
      // sight for a moment.
      if (steps === 0) await this.#checkStore();
      // So do the removals, each time: the name may have gone a moment ago.
      if (dependsOnRemovals(step)) {
        await this.#learnRemovals();
        step = merge(known, found, this.#past);
      }
      await this.#perform(step, known, found);
    }
    throw new BrokerError('ABORTED', `${name} is being changed by others: try again`);
  }

  async #perform(
    step: MergeStep,
    known: DefinitionState | undefined,
    found: DefinitionState | undefined,
  ): Promise<void> {
    switch (step.kind) {
      case 'none':
        return;
      case 'take':
        return this.#take(found!, known === undefined);
      case 'write':
        return this.#writeAgain(step.state, known, found);
      case 'finish':
        return this.#finish(found!);
      case 'drop':
        if (!known!.deleted) this.#bury(tombstoneOf(known!.entry));
        await this.#buryData(known!.entry);
        return this.#forget(known!.entry);
      case 'letGo':
        return this.#letGo(known!.entry);
      default:
        assertNever(step);
    }
  }

  async #take(found: DefinitionState, isNew: boolean): Promise<void> {
    // The broker that deleted a topic deletes its subscriptions, too, unless it has died.
    if (found.deleted) this.#bury(found);
    else {
      this.#setUnlessDoomed(found);
      await this.#emit(isNew ? 'created' : 'updated', found.entry);
    }
  }

  async #writeAgain(
    state: DefinitionState,
    known: DefinitionState | undefined,
    found: DefinitionState | undefined,
  ): Promise<void> {
    const { kind, definition } = state.entry;
    if (!state.deleted) {
      if (kind === 'subscription') await this.#checkTopicOf(definition);
      // A number that the store has forgotten, too, must not be given a second time.
      await this.nextIncarnation();
    }
    try {
      await this.#put(state, found?.entry.definition.revision ?? 0, 'again');
    } catch (error) {
      if (!(error instanceof BrokerError) || !/^(ABORTED|ALREADY_EXISTS)$/.test(error.code)) throw error;
      // Another broker was quicker: there is something else to bring together.
      return;
    }
    const name = { kind, name: definition.name };
    if (!state.deleted) this.#writtenAgain.push(name);
    else if (this.#removals.has(incarnationOf(state.entry))) this.#deletedAgain.push(name);
    if (known === undefined || incarnationOf(known.entry) !== incarnationOf(state.entry)) return;
    if (state.deleted) return known.deleted ? this.#known.set(state) : this.#bury(state);
    this.#setUnlessDoomed(state);
    if (state.body !== known.body) await this.#emit('updated', state.entry);
  }

  /**
   * Rejects with UNAVAILABLE where the topic is not in the store: a subscription without its topic counts as
   * deleted with it.
   */
  async #checkTopicOf({ name, topic, topicEpoch }: SubscriptionDefinition): Promise<void> {
    const stored = await this.#store.get('topic', topic);
    const found = stored && decode(stored);
    if (found !== undefined && !found.deleted && incarnationOf(found.entry) === topicEpoch) return;
    throw new BrokerError('UNAVAILABLE', `the topic of ${name} is not in the store yet: try again`);
  }

  /** Finishes a deletion whose tombstone the store has. */
  async #finish({ entry }: DefinitionState): Promise<void> {
    await this.#buryData(entry);
    await this.#remove(entry);
    const known = this.#known.get(entry.kind, entry.definition.name);
    if (known !== undefined && incarnationOf(known.entry) === incarnationOf(entry)) this.#forget(entry);
    else this.#removals.add(incarnationOf(entry));
  }

  /** Drops the data; that of a topic after that of its deleted subscriptions. Idempotent. */
  async #buryData(entry: DefinitionEntry): Promise<void> {
    if (entry.kind === 'topic') {
      const { logEpoch } = entry.definition;
      for (const { entry: each } of this.#known.deleted()) {
        if (each.kind !== 'subscription' || each.definition.topicEpoch !== logEpoch) continue;
        const { name } = each.definition;
        await this.#serial.run(keyOf(each.kind, name), () => this.#reconcile(each.kind, name));
      }
    }
    await this.#emit('deleted', entry);
  }

  /** Forgets a name that was deleted, its data included. */
  #forget({ kind, definition }: DefinitionEntry): void {
    const { entry } = this.#known.get(kind, definition.name)!;
    this.#removals.add(incarnationOf(entry));
    this.#known.delete(kind, definition.name);
    this.#unheard.delete(keyOf(kind, definition.name));
  }

  async #letGo(entry: DefinitionEntry): Promise<void> {
    const { kind, definition } = entry;
    if (kind === 'topic') {
      for (const subscription of this.subscriptionsOf(definition.name))
        await this.#serial.run(keyOf('subscription', subscription.name), async () => {
          const now = this.subscriptions.get(subscription.name);
          if (now?.incarnation === subscription.incarnation)
            await this.#letGo({ kind: 'subscription', definition: now });
        });
    }
    this.#known.delete(kind, definition.name);
    this.#unheard.delete(keyOf(kind, definition.name));
    this.#warn(
      'what this broker knew under a name is not what the store has, and was not deleted as far as it knows: its data stays in the store',
      { name: definition.name, incarnation: incarnationOf(entry) },
    );
    await this.#emit('forgotten', entry);
  }

  #wasRemoved(entry: DefinitionEntry): boolean {
    if (this.#removals.has(incarnationOf(entry))) return true;
    if (entry.kind === 'topic') return false;
    const { topic, topicEpoch } = entry.definition;
    const present = this.topics.get(topic)?.logEpoch ?? 0;
    return present > topicEpoch || this.#removals.has(topicEpoch);
  }

  #agrees({ kind, name, revision, body }: Definition): boolean {
    const known = this.#known.get(kind, name);
    if (known === undefined || known.deleted) return false;
    const { entry } = known;
    return entry.definition.revision === revision && known.body === body && !this.#wasRemoved(entry);
  }

  async #learnRemovals(): Promise<void> {
    const removals = await this.#store.removals();
    const incarnations = removals.removed.map((removed) => incarnationOf(decode(removed).entry));
    this.#removals.learn(removals, incarnations);
  }

  #setUnlessDoomed(state: DefinitionState): void {
    const { kind, definition } = state.entry;
    const known = this.#known.get(kind, definition.name);
    const isDoomed = known?.deleted === true && incarnationOf(known.entry) === incarnationOf(state.entry);
    // Its topic was deleted while it was being updated: it stays doomed, at the revision that the store has
    // now.
    this.#known.set(isDoomed ? tombstoneOf(state.entry) : state);
  }

  /** The name does not exist for users from now on, and if it is a topic neither do its subscriptions. */
  #bury(tombstone: DefinitionState): void {
    const { kind, definition } = tombstone.entry;
    this.#known.set(tombstone);
    this.#unheard.delete(keyOf(kind, definition.name));
    if (kind !== 'topic') return;
    for (const each of this.subscriptionsOf(definition.name))
      if (each.topicEpoch <= definition.logEpoch) this.#doom(each);
  }

  #doom(definition: SubscriptionDefinition): void {
    this.#bury(tombstoneOf({ kind: 'subscription', definition }));
  }

  /** `again`: the store had it once, at that revision. */
  async #put(
    { entry: { kind, definition }, body }: DefinitionState,
    expectedRevision: number,
    how?: 'again',
  ): Promise<void> {
    const { name, revision } = definition;
    this.#isTouched = true;
    try {
      await this.#store.put(kind, name, body, expectedRevision, how && revision);
    } catch (error) {
      if (!(error instanceof BrokerError) || error.code === 'RESOURCE_EXHAUSTED') throw error;
      // The outcome is unknown, or someone else wrote. If ours is there it was written; otherwise
      // finishChanges and the next change of the name look again, since a write that timed out may still
      // arrive.
      this.#differing.set(keyOf(kind, name), { kind, name });
      let found: Definition | undefined;
      const failure = await this.#expected(async () => {
        found = await this.#store.get(kind, name);
      });
      if (failure !== undefined || found?.revision !== revision || found.body !== body) throw error;
    } finally {
      this.#onWritten(kind, name);
    }
  }

  async #remove({ kind, definition: { name, revision } }: DefinitionEntry): Promise<void> {
    this.#isTouched = true;
    try {
      await this.#store.remove(kind, name, revision);
    } catch (error) {
      // An earlier try, or another broker, may have removed it without our hearing so.
      if (!(error instanceof BrokerError) || (await this.#store.get(kind, name)) !== undefined) throw error;
    } finally {
      this.#onWritten(kind, name);
    }
  }

  async #emit(kind: ChangeKind, entry: DefinitionEntry): Promise<void> {
    const key = keyOf(entry.kind, entry.definition.name);
    const change: DefinitionChange =
      entry.kind === 'topic' ? { kind, topic: entry.definition } : { kind, subscription: entry.definition };
    if (kind === 'created' || kind === 'updated') this.#unheard.set(key, entry);
    for (const listener of this.#listeners) await listener(change);
    if (this.#unheard.get(key) === entry) this.#unheard.delete(key);
  }

  /** Returns why the work failed; undefined if it did not. What is not a BrokerError is thrown. */
  async #expected(work: () => Promise<void>): Promise<BrokerError | undefined> {
    try {
      await work();
      return undefined;
    } catch (error) {
      if (error instanceof BrokerError) return error;
      throw error;
    }
  }

  #sayWhatWasPutRight(): void {
    const say = (names: readonly Name[], message: string): void => {
      if (names.length === 0) return;
      const topics = names.filter(({ kind }) => kind === 'topic').length;
      const some = names.slice(0, MAX_NAMES_SAID).map(({ name }) => name);
      this.#warn(message, { topics, subscriptions: names.length - topics, names: some });
    };
    say(
      this.#writtenAgain.splice(0),
      'the store had lost topics or subscriptions: written again from memory',
    );
    say(
      this.#deletedAgain.splice(0),
      'the store had lost deletions of topics or subscriptions: deleted again',
    );
  }
}

/** Whether it would be another step if it were known that the incarnation was removed. */
function dependsOnRemovals(step: MergeStep): boolean {
  return step.kind === 'letGo' || step.kind === 'write';
}

function decode({ kind, name, revision, body }: Definition): DefinitionState {
  if (kind === 'topic') {
    const { definition, deleted } = decodeTopic(name, revision, body);
    return { entry: { kind, definition }, deleted, body };
  }
  const { definition, deleted } = decodeSubscription(name, revision, body);
  return { entry: { kind, definition }, deleted, body };
}
