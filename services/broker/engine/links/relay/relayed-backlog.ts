// How far behind subscriptions are at other brokers.
//
// Invariant: a part is never given out as the whole, or a scaler would see backlog vanish while a partition
// moves. Each owner answers when it has all that it should have, and without an answer of every owner there
// is none.
import type { BacklogReport, PartitionQuestion } from '../../../core/backlog-report.ts';
import type { TopicDefinition } from '../../../core/definitions.ts';
import { BrokerError } from '../../../core/errors.ts';
import type { Clock } from '../../../ports/clock.ts';
import type { Route, Routes } from '../../membership/routes.ts';
import { concerned, type OwnedPartitions, WAIT_FOR_OWNERS_MS, whenOwned } from '../when-owned.ts';
import type { RelayLinks } from './relay-links.ts';

const ANSWER_WITHIN_MS = 3_000;

export interface RelayedBacklogOptions {
  readonly peers: RelayLinks;
  readonly routes: Routes;
  readonly host: OwnedPartitions;
  readonly clock: Clock;
  readonly topics: () => Iterable<TopicDefinition>;
}

export class RelayedBacklog {
  readonly #options: RelayedBacklogOptions;
  readonly #listeners = new Set<(subscription: string) => void>();
  /** Links that are kept open for listeners, by member id. */
  readonly #watched = new Map<string, () => void>();

  constructor(options: RelayedBacklogOptions) {
    this.#options = options;
  }

  /**
   * The backlog of all partitions that other brokers own. UNAVAILABLE: one of them does not answer, or a
   * partition has no owner.
   */
  async report(
    parent: string,
    names: readonly string[],
    question?: PartitionQuestion,
  ): Promise<BacklogReport[]> {
    const { peers, routes, host, clock, topics } = this.#options;
    const wanted = concerned(host, topics(), names);
    await whenOwned(host, routes, wanted, clock);
    const answers = [...targetsOf(wanted, routes).values()].map(async (route) => {
      if (route.memberId === routes.selfId) return [];
      const { link, release } = await peers.reach(route, WAIT_FOR_OWNERS_MS);
      try {
        return await within(link.backlog(parent, names, question), ANSWER_WITHIN_MS, clock, route);
      } finally {
        release();
      }
    });
    return mergeReports(await Promise.all(answers));
  }

  onFirstMessage(listener: (subscription: string) => void): () => void {
    this.#listeners.add(listener);
    this.routed();
    return () => {
      this.#listeners.delete(listener);
      this.routed();
    };
  }

  firstMessage(subscription: string): void {
    for (const listener of this.#listeners) listener(subscription);
  }

  /** Keeps a link to every owner while somebody listens. */
  routed(): void {
    const { peers, routes, topics } = this.#options;
    const wanted = this.#listeners.size === 0 ? new Map<string, Route>() : targetsOf(topics(), routes);
    wanted.delete(routes.selfId);
    for (const [memberId, release] of [...this.#watched]) {
      if (wanted.has(memberId)) continue;
      this.#watched.delete(memberId);
      release();
    }
    for (const [memberId, route] of wanted) {
      if (this.#watched.has(memberId)) continue;
      this.#watched.set(memberId, peers.use(route, { up: (link) => link.watchFirstMessages() }));
    }
  }
}

/** The targets of the topics' partitions, by member id. */
export function targetsOf(topics: Iterable<TopicDefinition>, routes: Routes): Map<string, Route> {
  const targets = new Map<string, Route>();
  for (const { logEpoch, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition += 1) {
      const route = routes.targetOf({ logEpoch, partition });
      if (route !== undefined) targets.set(route.memberId, route);
    }
  }
  return targets;
}

/**
 * One report for each subscription, of what several brokers have measured for their partitions. Every
 * consumer is attached at every owner, so there are as many consumers as the owner with most of them knows.
 */
export function mergeReports(parts: readonly (readonly BacklogReport[])[]): BacklogReport[] {
  const merged = new Map<string, BacklogReport>();
  for (const report of parts.flat()) {
    const other = merged.get(report.subscription);
    merged.set(report.subscription, other === undefined ? report : sum(other, report));
  }
  return [...merged.values()];
}

function sum(a: BacklogReport, b: BacklogReport): BacklogReport {
  const ages = [a.oldestUnackedAgeMs, b.oldestUnackedAgeMs].filter((age) => age !== undefined);
  return {
    subscription: a.subscription,
    topic: a.topic,
    messages: a.messages + b.messages,
    bytes: a.bytes + b.bytes,
    outstandingMessages: a.outstandingMessages + b.outstandingMessages,
    oldestUnackedAgeMs: ages.length === 0 ? undefined : Math.max(...ages),
    consumers: Math.max(a.consumers, b.consumers),
    appendedTotal: a.appendedTotal + b.appendedTotal,
    deliveredTotal: a.deliveredTotal + b.deliveredTotal,
    ackedTotal: a.ackedTotal + b.ackedTotal,
    redeliveredTotal: a.redeliveredTotal + b.redeliveredTotal,
    expiredByRetentionTotal: a.expiredByRetentionTotal + b.expiredByRetentionTotal,
    measureTimeMs: Math.min(a.measureTimeMs, b.measureTimeMs),
    // The greatest, as for consumers: each has its credit at every owner.
    consumersWithoutCredit: Math.max(a.consumersWithoutCredit, b.consumersWithoutCredit),
    blockedMessages: a.blockedMessages + b.blockedMessages,
    // The sum, as a key is in one partition. What one owner does not know nobody does.
    activeKeys:
      a.activeKeys === undefined || b.activeKeys === undefined ? undefined : a.activeKeys + b.activeKeys,
    ...((a.partitions ?? b.partitions) && {
      partitions: [...(a.partitions ?? []), ...(b.partitions ?? [])],
    }),
  };
}

/** UNAVAILABLE if the broker does not answer in time. */
export function within<T>(answer: Promise<T>, timeoutMs: number, clock: Clock, { name }: Route): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancelTimer = clock.setTimer(timeoutMs, () =>
      reject(new BrokerError('UNAVAILABLE', `broker ${name} does not answer: try again`)),
    );
    answer.then(resolve, reject).finally(cancelTimer);
  });
}
