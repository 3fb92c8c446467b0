// What a broker knows of a name and what the store has of it, brought together. Either may be behind: the
// broker may not have heard yet what others wrote, and the store may have gone back (a failover lost its last
// writes).
//
// Invariant: nothing is dropped because it is missing. An incarnation ends by its deletion alone, and stays
// deleted: a tombstone in the store, or the memory of a finished deletion, outweighs everything else that is
// known of the incarnation. Otherwise the greater (incarnation, revision) wins, a topic has had every count
// of partitions that either knows, and what the store lacks is written again. The state of a name only rises
// in this order, whoever writes it, so brokers that know different things come to agree.
import { encodeDefinition, encodeTombstone } from './definition-codec.ts';
import type { SubscriptionDefinition, TopicDefinition } from './definitions.ts';
import { partitionCounts } from './growth.ts';

export type DefinitionEntry =
  | { readonly kind: 'topic'; readonly definition: TopicDefinition }
  | { readonly kind: 'subscription'; readonly definition: SubscriptionDefinition };

/** A definition that is live, or a tombstone: deleted, while its data may still be there. */
export interface DefinitionState {
  readonly entry: DefinitionEntry;
  readonly deleted: boolean;
  /** The document, as it is stored. */
  readonly body: string;
}

/** What a broker remembers of deletions. */
export interface Past {
  /** Whether the deletion of the entry's incarnation was finished. */
  wasRemoved(entry: DefinitionEntry): boolean;
  /** Whether every deletion is known that was finished since this broker last saw all definitions. */
  readonly isComplete: boolean;
}

export type MergeStep =
  | { readonly kind: 'none' }
  /** What the store has is newer: the broker takes it up. */
  | { readonly kind: 'take' }
  /** The store is to have this state, at its revision, in place of what it has, if anything. */
  | { readonly kind: 'write'; readonly state: DefinitionState }
  /** What the store has is a tombstone: finish the deletion by dropping the data, then the tombstone. */
  | { readonly kind: 'finish' }
  /** What is known was deleted: forget it, and drop its data. */
  | { readonly kind: 'drop' }
  /** What is known has lost the name, or may have been deleted long ago: forget it, and leave its data. */
  | { readonly kind: 'letGo' };

/** The next step of the broker or the store towards the other; 'none' once they agree. */
export function merge(
  known: DefinitionState | undefined,
  found: DefinitionState | undefined,
  past: Past,
): MergeStep {
  if (found !== undefined && (found.deleted || past.wasRemoved(found.entry)))
    return endOf(known, found, past);
  if (known === undefined) return { kind: found === undefined ? 'none' : 'take' };
  const order = found === undefined ? 1 : incarnationOf(known.entry) - incarnationOf(found.entry);
  if (order < 0) return { kind: known.deleted || past.wasRemoved(known.entry) ? 'drop' : 'letGo' };
  if (found !== undefined && order === 0) return sameIncarnation(known, found);
  // The store lacks it.
  if (past.wasRemoved(known.entry)) return { kind: 'drop' };
  if (found === undefined && !past.isComplete) return { kind: known.deleted ? 'drop' : 'letGo' };
  return writeOver(found, known);
}

export function incarnationOf({ kind, definition }: DefinitionEntry): number {
  return kind === 'topic' ? definition.logEpoch : definition.incarnation;
}

/** The entry as a live definition at that revision. */
export function liveState(entry: DefinitionEntry, revision = entry.definition.revision): DefinitionState {
  return { entry: at(entry, revision), deleted: false, body: encodeDefinition(entry.definition) };
}

/** The entry as a tombstone at that revision. */
export function tombstoneOf(entry: DefinitionEntry, revision = entry.definition.revision): DefinitionState {
  return { entry: at(entry, revision), deleted: true, body: encodeTombstone(entry.definition) };
}

/** The store has a tombstone, or something whose deletion was finished once and that has come back. */
function endOf(known: DefinitionState | undefined, found: DefinitionState, past: Past): MergeStep {
  if (!found.deleted) return { kind: 'write', state: tombstoneOf(found.entry, revisionOf(found) + 1) };
  if (known === undefined) return { kind: 'take' };
  const order = incarnationOf(known.entry) - incarnationOf(found.entry);
  if (order < 0) return { kind: known.deleted || past.wasRemoved(known.entry) ? 'drop' : 'letGo' };
  const isNews = order === 0 && (!known.deleted || revisionOf(known) !== revisionOf(found));
  return { kind: isNews ? 'take' : 'finish' };
}

function sameIncarnation(known: DefinitionState, found: DefinitionState): MergeStep {
  if (known.deleted) return writeOver(found, known);
  if (revisionOf(found) < revisionOf(known)) {
    const entry = withCountsOf(known.entry, found.entry);
    return writeOver(found, entry === known.entry ? known : liveState(entry));
  }
  if (revisionOf(found) === revisionOf(known) && found.body === known.body) return { kind: 'none' };
  // Two brokers have changed it, one of them without knowing of a change that the store had forgotten.
  const entry = withCountsOf(found.entry, known.entry);
  if (entry === found.entry) return { kind: 'take' };
  return { kind: 'write', state: liveState(entry, revisionOf(found) + 1) };
}

/** The entry with the other one's counts of partitions, too: partitions may have messages by any of them. */
function withCountsOf(entry: DefinitionEntry, other: DefinitionEntry): DefinitionEntry {
  if (entry.kind !== 'topic' || other.kind !== 'topic') return entry;
  const counts = partitionCounts(entry.definition);
  const all = [...new Set([...counts, ...partitionCounts(other.definition)])].sort((a, b) => a - b);
  if (all.length === counts.length) return entry;
  const definition = { ...entry.definition, partitions: all.at(-1)!, formerPartitions: all.slice(0, -1) };
  return { kind: 'topic', definition };
}

function writeOver(found: DefinitionState | undefined, known: DefinitionState): MergeStep {
  const revision =
    found === undefined ? revisionOf(known) : Math.max(revisionOf(known), revisionOf(found) + 1);
  return { kind: 'write', state: { ...known, entry: at(known.entry, revision) } };
}

function revisionOf({ entry }: DefinitionState): number {
  return entry.definition.revision;
}

function at(entry: DefinitionEntry, revision: number): DefinitionEntry {
  if (entry.kind === 'topic') return { kind: 'topic', definition: { ...entry.definition, revision } };
  return { kind: 'subscription', definition: { ...entry.definition, revision } };
}
