// What really came to be in the shared store, and by whom: the checker's truth. It wraps one member's view of
// the shared memory, below everything that is slow, lossy or cut.
import { decodeSubscription, decodeTopic } from '../../../services/broker/core/definition-codec.ts';
import type { SubscriptionDefinition, TopicDefinition } from '../../../services/broker/core/definitions.ts';
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { PartitionId } from '../../../services/broker/core/partition.ts';
import type { CursorCommit } from '../../../services/broker/ports/cursor-store.ts';
import type { Chunk, LogBounds } from '../../../services/broker/ports/log-store.ts';
import type { Claim } from '../../../services/broker/ports/ownership-store.ts';
import type { ClusterStores } from '../../support/memory-store.ts';

/** Told in the instant in which the store has changed. */
export interface StoreWitness {
  appended(id: PartitionId, ownerEpoch: number, chunks: readonly Chunk[]): void;
  trimmed(id: PartitionId, ownerEpoch: number, bounds: LogBounds): void;
  /** The topic is being deleted. */
  deleted(logEpoch: number): void;
  dropped(logEpoch: number): void;
  committed(commit: CursorCommit): void;
  /** The subscription is being deleted. */
  forgotten(subscription: number): void;
  created(subscription: SubscriptionDefinition): void;
  /** The store has this definition now. `isNew`: not again. */
  defined(definition: TopicDefinition | SubscriptionDefinition, isNew: boolean): void;
  /** Whether the store takes writes of this claim. */
  owns(id: PartitionId, ownerEpoch: number): boolean;
  acquired(id: PartitionId, above: number | undefined, claim: Claim): void;
  released(id: PartitionId): void;
  renewed(leaseMs: number): void;
  left(): void;
  assigned(body: string): void;
}

export interface StoreState {
  /** What needs room is refused: messages, new definitions. */
  full: boolean;
}

export function witnessed(
  inner: ClusterStores,
  witness: StoreWitness,
  state: StoreState,
  fail: (error: unknown) => void,
): ClusterStores {
  const { log, cursors, definitions, ownership, membership, signals } = inner;
  const see = (tell: () => void): void => {
    try {
      tell();
    } catch (error) {
      fail(error);
    }
  };
  const room = (): void => {
    if (state.full) throw new BrokerError('RESOURCE_EXHAUSTED', 'fault: the store is full');
  };
  return {
    signals,
    log: {
      bounds: (id) => log.bounds(id),
      read: (id, fromOffset, maxBytes) => log.read(id, fromOffset, maxBytes),
      describe: (id, fromOffset, maxChunks) => log.describe(id, fromOffset, maxChunks),
      skip: (id, range) => log.skip(id, range),
      skipped: (id) => log.skipped(id),
      confirm: (id, ownerEpoch, endOffset, durability) => log.confirm(id, ownerEpoch, endOffset, durability),
      async append(id, ownerEpoch, expectedEnd, chunks, durability) {
        room();
        await log.append(id, ownerEpoch, expectedEnd, chunks, durability);
        see(() => witness.appended(id, ownerEpoch, chunks));
      },
      async trim(id, ownerEpoch, beforeOffset, maxChunks) {
        const bounds = await log.trim(id, ownerEpoch, beforeOffset, maxChunks);
        see(() => witness.trimmed(id, ownerEpoch, bounds));
        return bounds;
      },
      async drop(logEpoch) {
        await log.drop(logEpoch);
        see(() => witness.dropped(logEpoch));
      },
    },
    cursors: {
      load: (subscription, partition) => cursors.load(subscription, partition),
      drop: (subscription) => cursors.drop(subscription),
      async commit(commits) {
        try {
          const stale = await cursors.commit(commits);
          commits.forEach((commit, index) => {
            if (!stale.includes(index)) see(() => witness.committed(commit));
          });
          return stale;
        } catch (error) {
          // The store had forgotten some of the claims; the commits of the others were written.
          for (const commit of commits)
            if (witness.owns(commit.partition, commit.ownerEpoch)) see(() => witness.committed(commit));
          throw error;
        }
      },
    },
    definitions: {
      list: () => definitions.list(),
      version: () => definitions.version(),
      get: (kind, name) => definitions.get(kind, name),
      remove: (kind, name, expectedRevision) => definitions.remove(kind, name, expectedRevision),
      removals: () => definitions.removals(),
      async nextIncarnation(above) {
        room();
        return definitions.nextIncarnation(above);
      },
      async put(kind, name, body, expectedRevision, given) {
        if (expectedRevision === 0 && given === undefined) room();
        const revision = await definitions.put(kind, name, body, expectedRevision, given);
        if (kind === 'topic')
          see(() => {
            const { definition, deleted } = decodeTopic(name, revision, body);
            if (deleted) witness.deleted(definition.logEpoch);
            else witness.defined(definition, given === undefined);
          });
        else
          see(() => {
            const { definition, deleted } = decodeSubscription(name, revision, body);
            if (deleted) witness.forgotten(definition.incarnation);
            else witness.defined(definition, given === undefined);
            if (!deleted && expectedRevision === 0) witness.created(definition);
          });
        return revision;
      },
    },
    ownership: {
      describe: (ids) => ownership.describe(ids),
      async acquire(id, how) {
        const claim = await ownership.acquire(id, how);
        // The keeper of a partition expects an epoch; an owner whose claim the store has forgotten expects
        // none.
        see(() => witness.acquired(id, how?.ifEpoch === undefined ? how?.above : undefined, claim));
        return claim;
      },
      async release(id, ownerEpoch, handOver) {
        await ownership.release(id, ownerEpoch, handOver);
        see(() => witness.released(id));
      },
    },
    membership: {
      identity: () => membership.identity(),
      initialize: (identity) => membership.initialize(identity),
      assignment: () => membership.assignment(),
      setDrained: (name, drained) => membership.setDrained(name, drained),
      async heartbeat(identity, member, leaseMs) {
        const view = await membership.heartbeat(identity, member, leaseMs);
        see(() => witness.renewed(leaseMs));
        return view;
      },
      async leave(memberId) {
        await membership.leave(memberId);
        see(() => witness.left());
      },
      async assign(memberId, term, expectedVersion, body) {
        const version = await membership.assign(memberId, term, expectedVersion, body);
        see(() => witness.assigned(body));
        return version;
      },
    },
  };
}
