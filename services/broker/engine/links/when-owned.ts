// Waits for partitions that are just moving: what is asked of all owners of a topic has no answer while one
// of them is missing.
import type { TopicDefinition } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import type { PartitionId } from '../../core/partition.ts';
import { type Clock, sleep } from '../../ports/clock.ts';
import type { Routes } from '../membership/routes.ts';
import type { PeerHost } from './peer-host.ts';

export const WAIT_FOR_OWNERS_MS = 2_000;
const LOOK_AGAIN_MS = 20;

export type OwnedPartitions = Pick<PeerHost, 'owner' | 'topicDefinition' | 'runtimeOf'>;

/** The topics of the named subscriptions; all if none are named. */
export function concerned(
  host: OwnedPartitions,
  topics: Iterable<TopicDefinition>,
  names: readonly string[],
): TopicDefinition[] {
  if (names.length === 0) return [...topics];
  const wanted = new Map<string, TopicDefinition>();
  for (const name of names) {
    try {
      const { topic } = host.runtimeOf(name).definition;
      wanted.set(topic, host.topicDefinition(topic));
    } catch (error) {
      // A report leaves out what does not exist.
      if (!(error instanceof BrokerError)) throw error;
    }
  }
  return [...wanted.values()];
}

/**
 * Resolves once every partition of the topics has a target and those that should be owned here are.
 * UNAVAILABLE: not in time.
 */
export async function whenOwned(
  host: Pick<OwnedPartitions, 'owner'>,
  routes: Routes,
  topics: readonly TopicDefinition[],
  clock: Clock,
): Promise<void> {
  const giveUpMs = clock.monotonicMs() + WAIT_FOR_OWNERS_MS;
  for (let id = lacking(host, routes, topics); id !== undefined; id = lacking(host, routes, topics)) {
    if (clock.monotonicMs() >= giveUpMs) {
      throw new BrokerError(
        'UNAVAILABLE',
        `partition ${id.partition} of a topic has no owner just now, so the backlog is not known: try again`,
      );
    }
    await sleep(clock, LOOK_AGAIN_MS);
  }
}

function lacking(
  host: Pick<OwnedPartitions, 'owner'>,
  routes: Routes,
  topics: readonly TopicDefinition[],
): PartitionId | undefined {
  for (const { logEpoch, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition += 1) {
      const id = { logEpoch, partition };
      const route = routes.targetOf(id);
      if (route === undefined) return id;
      if (route.memberId === routes.selfId && host.owner(id) === undefined) return id;
    }
  }
  return undefined;
}
