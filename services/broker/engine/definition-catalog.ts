// What engine/definitions.ts stands on: definitions in memory and in the DefinitionStore, kept equal, and the deletions
// that are not finished. Knows nothing of rules and quotas.
//
// State of a name:       put                      put of a tombstone            data dropped, tombstone removed
//             absent ──────────────▶ live ──────────────────────────▶ tombstone ──────────────────────────▶ absent
//                                     └─ its topic becomes a tombstone ─▶ doomed ─ put of a tombstone ─▶ tombstone
// Doomed and tombstoned names don't exist for users. A crash or a failing store leaves them as they are; bury goes on
// from there: at start, before the name is used again, and from finishDeletions.
//
// Changes of one name run one after another (exclusively); a topic's turn is taken before its subscriptions', never the
// other way round.
import { decodeSubscription, decodeTopic, encodeDefinition } from '../core/definition-codec.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../core/definitions.ts';
import { BrokerError } from '../core/errors.ts';
import type { Definition, DefinitionKind, DefinitionStore } from '../ports/definition-store.ts';
import { DefinitionIndex } from './definition-index.ts';
import { SerialByKey } from './serial-by-key.ts';

export type ChangeKind = 'created' | 'updated' | 'deleted';

export type DefinitionChange =
  | { readonly kind: ChangeKind; readonly topic: TopicDefinition }
  | { readonly kind: ChangeKind; readonly subscription: SubscriptionDefinition };

/**
 * Called after a change is durable; the call that made it is answered once all listeners have resolved. Must not change
 * definitions itself. `deleted` may come more than once, and for something never seen as created (after a restart): drop
 * its data if there is any. A rejection of `deleted` is tried again later; of the others it reaches the caller, and they come
 * again as `updated`: both mean that the definition is to be taken up.
 */
export type ChangeListener = (change: DefinitionChange) => void | Promise<void>;

/** The error is the cause; `name` the resource's. */
export type WarningSink = (
  message: string,
  fields: { readonly error: unknown; readonly name: string },
) => void;

export type Entry =
  | { readonly kind: 'topic'; readonly definition: TopicDefinition }
  | { readonly kind: 'subscription'; readonly definition: SubscriptionDefinition };

/** `doomed`: the store still has it as live. */
type Tombstone = Entry & { readonly doomed: boolean };

export class DefinitionCatalog {
  readonly topics = new DefinitionIndex<TopicDefinition>();
  readonly subscriptions = new DefinitionIndex<SubscriptionDefinition>();
  readonly #store: DefinitionStore;
  readonly #warn: WarningSink;
  readonly #ofTopic = new Map<string, Set<string>>();
  readonly #tombstones = new Map<string, Tombstone>();
  /** Created or changed, but a listener failed: it hears of them again. */
  readonly #unheard = new Map<string, Entry>();
  /** A put had no known outcome: what the store has is looked up again. */
  readonly #unsure = new Map<string, { readonly kind: DefinitionKind; readonly name: string }>();
  readonly #onWritten: (kind: DefinitionKind, name: string) => void;
  readonly #checkStore: () => Promise<void>;
  readonly #serial = new SerialByKey();
  readonly #listeners = new Set<ChangeListener>();
  #partitions = 0;

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
  }

  /** Of all live topics. */
  get partitions(): number {
    return this.#partitions;
  }

  subscriptionsOf(topic: string): readonly SubscriptionDefinition[] {
    return [...(this.#ofTopic.get(topic) ?? [])].map((name) => this.subscriptions.get(name)!);
  }

  /** Returns a function that ends it. */
  onChange(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads everything from the store. Once, before anything else; listeners hear nothing of it. */
  async load(): Promise<void> {
    for (const stored of await this.#store.list()) {
      const { entry, deleted } = decode(stored);
      if (deleted) this.#tombstones.set(keyOf(entry), { ...entry, doomed: false });
      else this.#remember(entry);
    }
    for (const definition of [...this.subscriptions.values()]) {
      if (this.topics.get(definition.topic)?.logEpoch !== definition.topicEpoch) this.#doom(definition);
    }
  }

  /** Takes up what other brokers have written since. Rejects if the store does not answer, or if a change is not in effect yet. */
  async refresh(): Promise<void> {
    let failure: BrokerError | undefined;
    const stored = new Map((await this.#store.list()).map((each) => [`${each.kind} ${each.name}`, each]));
    const changed = new Map<string, { kind: DefinitionKind; name: string }>();
    for (const [key, each] of stored) {
      const { kind, name, revision } = each;
      const known = this.#tombstones.get(key) ?? this.#live(kind, name);
      // Deleted and created again since the last look, it may be at the same revision.
      if (known?.definition.revision !== revision || !isSame(known, decode(each).entry))
        changed.set(key, { kind, name });
    }
    for (const { definition: topic } of this.#allLive('topic')) {
      if (!stored.has(`topic ${topic.name}`))
        changed.set(`topic ${topic.name}`, { kind: 'topic', name: topic.name });
    }
    for (const { definition } of this.#allLive('subscription')) {
      const key = `subscription ${definition.name}`;
      if (!stored.has(key)) changed.set(key, { kind: 'subscription', name: definition.name });
    }
    for (const [key, { kind, definition }] of this.#tombstones) {
      if (!stored.has(key)) changed.set(key, { kind, name: definition.name });
    }
    // Topics first: their subscriptions need them.
    for (const [key, { kind, name }] of [...changed].sort(([, a], [, b]) => topicsFirst(a, b))) {
      await this.#serial.run(key, async () => {
        try {
          await this.#take(kind, name);
          await this.#bury(kind, name);
        } catch (error) {
          this.#warn('a change by another broker is not in effect yet and will be tried again', {
            error,
            name,
          });
          if (error instanceof BrokerError) failure ??= error;
        }
      });
    }
    if (failure !== undefined) throw failure;
  }

  *#allLive(kind: DefinitionKind): IterableIterator<Entry> {
    if (kind === 'topic') for (const definition of this.topics.values()) yield { kind, definition };
    else for (const definition of this.subscriptions.values()) yield { kind, definition };
  }

  /** Runs a change of one name after all earlier ones of it, as the store has it now, with no deletion left over. */
  exclusively<T>(kind: DefinitionKind, name: string, change: () => Promise<T>): Promise<T> {
    return this.#serial.run(`${kind} ${name}`, async () => {
      await this.#checkStore();
      await this.#settle(kind, name);
      return change();
    });
  }

  /** Writes a draft in place of its revision (0: a new one), tells the listeners, and returns it with its new revision. */
  async write<E extends Entry>(draft: E): Promise<E['definition']> {
    const kind = draft.definition.revision === 0 ? 'created' : 'updated';
    const entry = withRevision(draft, await this.#put(draft, false));
    this.#remember(entry);
    await this.#emit(kind, entry);
    return entry.definition;
  }

  /**
   * Deletes: resolves once it is durable that it is gone, with its subscriptions if it is a topic. Their data is dropped
   * by then too, unless that failed; then finishDeletions has to.
   */
  async delete(live: Entry): Promise<void> {
    const entry = withRevision(live, await this.#put(live, true));
    this.#forget(entry);
    this.#tombstones.set(keyOf(entry), { ...entry, doomed: false });
    if (entry.kind === 'topic')
      this.subscriptionsOf(entry.definition.name).forEach((each) => void this.#doom(each));
    await this.#tryToBury(entry);
  }

  /** Looks up what became of puts without a known outcome, and tells listeners again what they failed to take up. */
  async finishChanges(): Promise<void> {
    const left = new Map(this.#unsure);
    for (const [key, { kind, definition }] of this.#unheard) left.set(key, { kind, name: definition.name });
    // Topics first: their subscriptions need them.
    for (const [key, { kind, name }] of [...left].sort(([, a], [, b]) => topicsFirst(a, b))) {
      try {
        await this.#serial.run(key, () => this.#settle(kind, name));
      } catch (error) {
        this.#warn('a change is not in effect yet and will be tried again', { error, name });
      }
    }
  }

  /** Goes on with all unfinished deletions; returns how many are left. */
  async finishDeletions(): Promise<number> {
    // Topics first: they bury their subscriptions.
    const left = [...this.#tombstones.values()].sort(topicsFirst);
    for (const tombstone of left) {
      await this.#serial.run(keyOf(tombstone), () => this.#tryToBury(tombstone));
    }
    return this.#tombstones.size;
  }

  /** Within the name's turn: nothing of earlier changes is left open. */
  async #settle(kind: DefinitionKind, name: string): Promise<void> {
    const key = `${kind} ${name}`;
    await this.#take(kind, name);
    this.#unsure.delete(key);
    await this.#bury(kind, name);
    await this.#tellAgain(key);
  }

  async #tryToBury({ kind, definition: { name } }: Entry): Promise<void> {
    try {
      await this.#bury(kind, name);
    } catch (error) {
      this.#warn('a deletion could not be finished and will be tried again', { error, name });
    }
  }

  /** Within the name's turn. */
  async #bury(kind: DefinitionKind, name: string): Promise<void> {
    const key = `${kind} ${name}`;
    let tombstone = this.#tombstones.get(key);
    if (tombstone === undefined) return;
    if (tombstone.doomed) {
      tombstone = { ...withRevision(tombstone, await this.#put(tombstone, true)), doomed: false };
      this.#tombstones.set(key, tombstone);
    }
    if (tombstone.kind === 'topic') await this.#burySubscriptionsOf(tombstone.definition);
    await this.#emit('deleted', tombstone);
    await this.#remove(tombstone);
    this.#tombstones.delete(key);
  }

  async #burySubscriptionsOf(topic: TopicDefinition): Promise<void> {
    for (const { kind, definition } of [...this.#tombstones.values()]) {
      if (kind !== 'subscription' || definition.topicEpoch !== topic.logEpoch) continue;
      await this.#serial.run(`${kind} ${definition.name}`, () => this.#bury(kind, definition.name));
    }
  }

  #doom(definition: SubscriptionDefinition): void {
    const entry: Entry = { kind: 'subscription', definition };
    this.#forget(entry);
    this.#tombstones.set(keyOf(entry), { ...entry, doomed: true });
  }

  async #put(entry: Entry, deleted: boolean): Promise<number> {
    const { kind, definition } = entry;
    const { name, revision } = definition;
    const body = encodeDefinition(definition, deleted);
    try {
      return await this.#store.put(kind, name, body, revision);
    } catch (error) {
      if (error instanceof BrokerError && error.code === 'RESOURCE_EXHAUSTED') throw error;
      // Unknown, or someone else wrote. If ours is there it was written; otherwise finishChanges and the next change of the
      // name look again, since a write that timed out may still arrive.
      const found = await this.#store.get(kind, name).catch(() => undefined);
      if (found?.revision !== revision + 1 || found.body !== body) {
        this.#unsure.set(`${kind} ${name}`, { kind, name });
        throw error;
      }
      return found.revision;
    } finally {
      this.#onWritten(kind, name);
    }
  }

  async #remove({ kind, definition: { name, revision } }: Entry): Promise<void> {
    try {
      await this.#store.remove(kind, name, revision);
    } catch (error) {
      // An earlier try may have removed it without our hearing so.
      if ((await this.#store.get(kind, name)) !== undefined) throw error;
    }
  }

  /** Takes up what the store has under a name: another broker may have changed it, or a put of ours had no known outcome. */
  async #take(kind: DefinitionKind, name: string): Promise<void> {
    const found = await this.#store.get(kind, name);
    const key = `${kind} ${name}`;
    const known = this.#live(kind, name);
    const next = found === undefined ? undefined : decode(found);
    if (next?.deleted === true) {
      const before = this.#tombstones.get(key);
      if (known !== undefined) this.#forget(known);
      // Who deleted a topic deletes its subscriptions, too, unless that broker has gone.
      if (known?.kind === 'topic') this.subscriptionsOf(name).forEach((each) => void this.#doom(each));
      if (known !== undefined || before === undefined || before.doomed)
        this.#tombstones.set(key, { ...next.entry, doomed: false });
      return;
    }
    const same = next !== undefined && known !== undefined && isSame(known, next.entry);
    if (same && known.definition.revision === next.entry.definition.revision) return;
    const gone = same ? undefined : (known ?? this.#tombstones.get(key));
    if (gone !== undefined && !(next !== undefined && isSame(gone, next.entry))) {
      // Deleted by another broker, and perhaps created again since; or is this another store, or an emptied one? Asked after it
      // was found missing: data must not be dropped because a store was out of sight for a moment.
      await this.#checkStore();
      this.#forget(gone);
      this.#tombstones.delete(key);
      await this.#emit('deleted', gone);
    }
    if (next === undefined || this.#tombstones.has(key)) return;
    this.#remember(next.entry);
    await this.#emit(same ? 'updated' : 'created', next.entry);
  }

  #live(kind: DefinitionKind, name: string): Entry | undefined {
    if (kind === 'topic') {
      const definition = this.topics.get(name);
      return definition && { kind, definition };
    }
    const definition = this.subscriptions.get(name);
    return definition && { kind, definition };
  }

  #remember(entry: Entry): void {
    const key = keyOf(entry);
    if (this.#tombstones.get(key)?.doomed === true) {
      // Its topic was deleted while it was being updated: it stays doomed, at the revision that the store has now.
      this.#tombstones.set(key, { ...entry, doomed: true });
    } else if (entry.kind === 'topic') {
      const { definition } = entry;
      this.#partitions += definition.partitions - (this.topics.get(definition.name)?.partitions ?? 0);
      this.topics.set(definition);
    } else {
      const { definition } = entry;
      const names = this.#ofTopic.get(definition.topic) ?? new Set();
      this.#ofTopic.set(definition.topic, names.add(definition.name));
      this.subscriptions.set(definition);
    }
  }

  #forget(entry: Entry): void {
    const { kind, definition } = entry;
    this.#unheard.delete(keyOf(entry));
    if (kind === 'topic') {
      this.#partitions -= this.topics.get(definition.name)?.partitions ?? 0;
      this.topics.delete(definition.name);
    } else {
      const names = this.#ofTopic.get(definition.topic);
      names?.delete(definition.name);
      if (names?.size === 0) this.#ofTopic.delete(definition.topic);
      this.subscriptions.delete(definition.name);
    }
  }

  async #emit(kind: ChangeKind, entry: Entry): Promise<void> {
    const change: DefinitionChange =
      entry.kind === 'topic' ? { kind, topic: entry.definition } : { kind, subscription: entry.definition };
    if (kind !== 'deleted') this.#unheard.set(keyOf(entry), entry);
    for (const listener of this.#listeners) await listener(change);
    if (this.#unheard.get(keyOf(entry)) === entry) this.#unheard.delete(keyOf(entry));
  }

  /** Within the name's turn. */
  async #tellAgain(key: string): Promise<void> {
    const entry = this.#unheard.get(key);
    if (entry !== undefined) await this.#emit('updated', entry);
  }
}

function topicsFirst(a: { kind: DefinitionKind }, b: { kind: DefinitionKind }): number {
  return a.kind === b.kind ? 0 : a.kind === 'topic' ? -1 : 1;
}

/** Of the same incarnation. */
function isSame(a: Entry, b: Entry): boolean {
  return incarnationOf(a) === incarnationOf(b);
}

function incarnationOf(entry: Entry): number {
  return entry.kind === 'topic' ? entry.definition.logEpoch : entry.definition.incarnation;
}

function keyOf({ kind, definition }: Entry): string {
  return `${kind} ${definition.name}`;
}

function withRevision<E extends Entry>(entry: E, revision: number): E {
  return { ...entry, definition: { ...entry.definition, revision } };
}

function decode({ kind, name, revision, body }: Definition): { entry: Entry; deleted: boolean } {
  if (kind === 'topic') {
    const { definition, deleted } = decodeTopic(name, revision, body);
    return { entry: { kind, definition }, deleted };
  }
  const { definition, deleted } = decodeSubscription(name, revision, body);
  return { entry: { kind, definition }, deleted };
}
