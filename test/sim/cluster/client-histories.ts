// What the clients of a simulation see from outside, as the histories that test/support/history-checker.ts
// judges: the judge of tests that kill and freeze real processes. It knows nothing of owners and cursors, so
// it sees what the checker beside the owners may be blind to, and seeds try the judge itself.
//
// Only topics are kept of which no message may be missing: nothing deletes any, no failover forgets any, and
// nobody is told of a message before it is stored; and that do not grow, as of a key in several partitions a
// client does not see what came first. Invariant: what is noted here changes nothing in the simulation.
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import { checkHistory, type PublishedMessage, type SubscriberEvent } from '../../support/history-checker.ts';
import type { Received } from '../received.ts';
import { publisherOf, type SentMessage } from '../sent-message.ts';
import type { Place } from '../settlements.ts';
import { type ClusterScenario, DAY_MS, type TopicPlan } from './scenario.ts';
import { byRun } from './sent-index.ts';

interface TopicHistory {
  readonly plan: TopicPlan;
  /** By identity, in the order of publishing. */
  readonly published: Map<string, { -readonly [K in keyof PublishedMessage]: PublishedMessage[K] }>;
  readonly events: ReadonlyMap<string, SubscriberEvent[]>;
}

export class ClientHistories {
  readonly #topics = new Map<string, TopicHistory>();
  readonly #bySubscription = new Map<string, SubscriberEvent[]>();

  constructor(scenario: ClusterScenario) {
    for (const plan of scenario.topics) {
      if (!isKept(plan, scenario)) continue;
      const events = new Map(plan.subscriptions.map(({ name }) => [name, []]));
      this.#topics.set(plan.name, { plan, published: new Map(), events });
      for (const [name, each] of events) this.#bySubscription.set(name, each);
    }
  }

  publishes(topic: string, messages: readonly SentMessage[]): void {
    for (const sent of messages) {
      this.#topics.get(topic)?.published.set(sent.identity, {
        ...{ key: keyOf(sent.identity, sent.key), fingerprint: sent.content },
        ...{ toldId: undefined, retried: false },
      });
    }
  }

  publishesAgain(topic: string, messages: readonly SentMessage[]): void {
    const published = this.#topics.get(topic)?.published;
    for (const { identity } of messages) {
      const message = published?.get(identity);
      if (message !== undefined) message.retried = true;
    }
  }

  /** The publisher has heard that they are stored. */
  told(
    topic: string,
    logEpoch: number,
    messages: readonly SentMessage[],
    runs: readonly PublishedRun[],
  ): void {
    const published = this.#topics.get(topic)?.published;
    if (published === undefined) return;
    for (const { partition, firstOffset, messages: told } of byRun(messages, runs))
      for (const [index, { identity }] of told.entries())
        published.get(identity)!.toldId = idOf({ logEpoch, partition, offset: firstOffset + index });
  }

  handed(subscription: string, consumer: string, atMs: number, message: Received): void {
    const { attempt, identity, key, content: fingerprint } = message;
    this.#bySubscription.get(subscription)?.push({
      ...{ kind: 'handed', atMs, consumer, stream: 1, messageId: idOf(message), attempt, fingerprint },
      key: keyOf(identity, key),
    });
  }

  /** The consumer is about to acknowledge it. */
  acked(subscription: string, consumer: string, atMs: number, place: Place): void {
    this.#bySubscription.get(subscription)?.push({ kind: 'acked', atMs, consumer, messageId: idOf(place) });
  }

  /** What is wrong with what clients have seen, once all is acknowledged; undefined if nothing is. */
  problem(): string | undefined {
    for (const { plan, published, events } of this.#topics.values()) {
      const { problems } = checkHistory({
        published: [...published.values()],
        subscriptions: plan.subscriptions.map(({ name, ordering, ackDeadlineMs }) => ({
          ...{ subscription: name, ordering, ackDeadlineMs, events: events.get(name)! },
        })),
        faults: undefined,
      });
      if (problems.length > 0) return `as clients of ${plan.name} see it: ${problems.join('; ')}`;
    }
    return undefined;
  }
}

function isKept(
  { retentionMs, retentionBytes, durability }: TopicPlan,
  { weather }: ClusterScenario,
): boolean {
  const { failovers, adminChanges, updates, damages, growths } = weather;
  if (failovers > 0 || adminChanges > 0 || updates > 0 || damages > 0 || growths > 0) return false;
  return retentionMs >= DAY_MS && retentionBytes === 0 && durability !== 'memory';
}

/** Order is promised for what one publisher publishes of a key. */
function keyOf(identity: string, key: string): string {
  return key === '' ? '' : `${publisherOf(identity)} ${key}`;
}

function idOf({ logEpoch, partition, offset }: Place): string {
  return `${logEpoch}.${partition}-${offset}`;
}
