// What this broker knows of each name: its state, and the live definitions by name, project and topic.
// Synchronous throughout.
//
// Invariant: a definition is in `topics` or `subscriptions` exactly if the state of its name is there and not
// deleted.

import { type DefinitionEntry, type DefinitionState, incarnationOf } from '../../core/definition-merge.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../core/definitions.ts';
import type { DefinitionKind } from '../../ports/definition-store.ts';
import { DefinitionIndex } from './definition-index.ts';

export class KnownDefinitions {
  readonly topics = new DefinitionIndex<TopicDefinition>();
  readonly subscriptions = new DefinitionIndex<SubscriptionDefinition>();
  readonly #states = new Map<string, DefinitionState>();
  /** The keys of tombstones. */
  readonly #deleted = new Set<string>();
  readonly #ofTopic = new Map<string, Set<string>>();
  #partitions = 0;
  #dispatchers = 0;
  #highestIncarnation = 0;

  /** The partitions of all live topics. */
  get partitions(): number {
    return this.#partitions;
  }

  /** How many dispatchers all live subscriptions need: one for each partition of the topic. */
  get dispatchers(): number {
    return this.#dispatchers;
  }

  /** The highest incarnation that was ever known. */
  get highestIncarnation(): number {
    return this.#highestIncarnation;
  }

  get(kind: DefinitionKind, name: string): DefinitionState | undefined {
    return this.#states.get(keyOf(kind, name));
  }

  entries(): IterableIterator<[string, DefinitionState]> {
    return this.#states.entries();
  }

  subscriptionsOf(topic: string): readonly SubscriptionDefinition[] {
    return [...(this.#ofTopic.get(topic) ?? [])].map((name) => this.subscriptions.get(name)!);
  }

  /** Tombstones, topics first: they bury their subscriptions. */
  deleted(): DefinitionState[] {
    return [...this.#deleted]
      .map((key) => this.#states.get(key)!)
      .sort((a, b) => topicsFirst(a.entry, b.entry));
  }

  /** Takes the place of whatever was known of the name. */
  set(state: DefinitionState): void {
    const { entry, deleted } = state;
    const key = keyOf(entry.kind, entry.definition.name);
    const topic = topicOf(entry);
    const before = this.#dispatchersOf(topic);
    this.#forgetLive(this.#states.get(key), deleted ? undefined : entry);
    this.#states.set(key, state);
    this.#highestIncarnation = Math.max(this.#highestIncarnation, incarnationOf(entry));
    if (deleted) this.#deleted.add(key);
    else {
      this.#deleted.delete(key);
      this.#setLive(entry);
    }
    this.#dispatchers += this.#dispatchersOf(topic) - before;
  }

  delete(kind: DefinitionKind, name: string): void {
    const key = keyOf(kind, name);
    const state = this.#states.get(key);
    if (state === undefined) return;
    const topic = topicOf(state.entry);
    const before = this.#dispatchersOf(topic);
    this.#forgetLive(state, undefined);
    this.#states.delete(key);
    this.#deleted.delete(key);
    this.#dispatchers += this.#dispatchersOf(topic) - before;
  }

  #dispatchersOf(topic: string): number {
    return (this.topics.get(topic)?.partitions ?? 0) * (this.#ofTopic.get(topic)?.size ?? 0);
  }

  #setLive(entry: DefinitionEntry): void {
    if (entry.kind === 'topic') {
      this.#partitions += entry.definition.partitions;
      this.topics.set(entry.definition);
    } else {
      const { topic, name } = entry.definition;
      this.#ofTopic.set(topic, (this.#ofTopic.get(topic) ?? new Set()).add(name));
      this.subscriptions.set(entry.definition);
    }
  }

  /**
   * Takes a live definition out. Where `next` takes its place at once, the pages in the order of names need
   * not be made anew.
   */
  #forgetLive(state: DefinitionState | undefined, next: DefinitionEntry | undefined): void {
    if (state === undefined || state.deleted) return;
    const { entry } = state;
    if (entry.kind === 'topic') {
      this.#partitions -= entry.definition.partitions;
      if (next === undefined) this.topics.delete(entry.definition.name);
      return;
    }
    const { topic, name } = entry.definition;
    const names = this.#ofTopic.get(topic);
    names?.delete(name);
    if (names?.size === 0) this.#ofTopic.delete(topic);
    if (next === undefined) this.subscriptions.delete(name);
  }
}

function topicOf(entry: DefinitionEntry): string {
  return entry.kind === 'topic' ? entry.definition.name : entry.definition.topic;
}

export function keyOf(kind: DefinitionKind, name: string): string {
  return `${kind} ${name}`;
}

export function topicsFirst(a: { kind: DefinitionKind }, b: { kind: DefinitionKind }): number {
  return a.kind === b.kind ? 0 : a.kind === 'topic' ? -1 : 1;
}
