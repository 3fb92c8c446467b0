// How far behind subscriptions are in the partitions that are owned here, as reports on demand, and a call
// when a partition that had no backlog gets a message.

import type { BacklogReport, PartitionBacklog, PartitionQuestion } from '../../core/backlog-report.ts';
import type { EngineContext } from '../context.ts';
import type { BacklogReporter } from './backlog-types.ts';
import type { Dispatcher } from './dispatcher.ts';
import type { SubscriptionRuntime } from './subscription-runtime.ts';

interface Floor {
  readonly publishTimeMs: number;
  readonly byte: number;
}

/** What one broker has of a subscription: the partitions that it owns, and its consumers. */
export interface LocalBacklog extends BacklogReport {
  /** Consumers whose streams end at this broker; `consumers` has those of other brokers as well. */
  readonly connectedConsumers: number;
}

export class EngineBacklogReporter implements BacklogReporter {
  readonly #context: EngineContext;
  readonly #subscriptions: ReadonlyMap<string, SubscriptionRuntime>;
  readonly #listeners = new Set<(subscription: string) => void>();

  constructor(context: EngineContext, subscriptions: ReadonlyMap<string, SubscriptionRuntime>) {
    this.#context = context;
    this.#subscriptions = subscriptions;
  }

  async report(
    parent: string,
    names: readonly string[],
    question?: PartitionQuestion,
  ): Promise<BacklogReport[]> {
    const runtimes =
      names.length > 0
        ? names.map((name) => this.#subscriptions.get(name))
        : [...this.#subscriptions.values()].filter(({ definition }) =>
            definition.name.startsWith(`${parent}/`),
          );
    const reports: BacklogReport[] = [];
    for (const runtime of runtimes)
      if (runtime !== undefined) reports.push(await this.#reportOne(runtime, question));
    return reports;
  }

  /** As report, with what only this broker can say. */
  async reportLocal(names: readonly string[]): Promise<LocalBacklog[]> {
    const reports = await this.report('', names);
    return reports.map((report) => ({
      ...report,
      connectedConsumers: this.#subscriptions.get(report.subscription)?.connectedConsumers ?? 0,
    }));
  }

  onFirstMessage(listener: (subscription: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A partition of the subscription had no backlog and has some now. */
  firstMessage(subscription: string): void {
    for (const listener of this.#listeners) listener(subscription);
  }

  async #reportOne(
    runtime: SubscriptionRuntime,
    question: PartitionQuestion | undefined,
  ): Promise<BacklogReport> {
    const nowMs = this.#context.steady.datedMs();
    const sums = {
      messages: 0,
      bytes: 0,
      outstandingMessages: 0,
      appendedTotal: 0,
      deliveredTotal: 0,
      ackedTotal: 0,
      redeliveredTotal: 0,
      expiredByRetentionTotal: 0,
      blockedMessages: 0,
    };
    let activeKeys: number | undefined = runtime.definition.ordering ? 0 : undefined;
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const dispatcher of runtime.dispatchers.values()) {
      const { delivery, owner } = dispatcher;
      const messages = delivery.backlogMessages;
      sums.messages += messages;
      sums.outstandingMessages += delivery.outstandingMessages;
      sums.appendedTotal += delivery.appendedTotal;
      sums.deliveredTotal += delivery.deliveredTotal;
      sums.ackedTotal += delivery.ackedTotal;
      sums.redeliveredTotal += delivery.redeliveredTotal;
      sums.expiredByRetentionTotal += delivery.expiredByRetentionTotal;
      if (messages === 0) continue;
      sums.blockedMessages += delivery.blockedMessages;
      if (activeKeys !== undefined) activeKeys = added(activeKeys, delivery.activeKeys);
      const span = owner.bounds.endOffset - delivery.floor;
      const floor = await this.#floorOf(dispatcher);
      if (floor === undefined) continue;
      oldestMs = Math.min(oldestMs, floor.publishTimeMs);
      sums.bytes += Math.round(((owner.bounds.endByte - floor.byte) * messages) / span);
    }
    return {
      subscription: runtime.definition.name,
      topic: runtime.definition.topic,
      ...sums,
      consumers: runtime.consumers,
      oldestUnackedAgeMs: oldestMs === Number.POSITIVE_INFINITY ? undefined : Math.max(0, nowMs - oldestMs),
      measureTimeMs: nowMs,
      consumersWithoutCredit: runtime.consumersWithoutCredit,
      activeKeys,
      ...(question !== undefined && { partitions: partitionsOf(runtime, question) }),
    };
  }

  /**
   * When the oldest unsettled message was published, and where in the log's bytes it is; within a chunk in
   * proportion.
   */
  async #floorOf({ delivery, owner }: Dispatcher): Promise<Floor | undefined> {
    const offset = delivery.floor;
    const info = owner.chunks.get(offset) ?? (await owner.describe(offset));
    if (info === undefined) return undefined;
    const part = Math.max(0, offset - info.firstOffset) / info.count;
    return { publishTimeMs: info.publishTimeMs, byte: info.startByte + part * info.byteLength };
  }
}

function partitionsOf(
  { dispatchers }: SubscriptionRuntime,
  { consumerHash, beforeOffsets }: PartitionQuestion,
): PartitionBacklog[] {
  return [...dispatchers].map(([partition, { delivery, owner }]) => {
    const { endOffset } = owner.bounds;
    return {
      partition,
      endOffset,
      ...delivery.backlogBefore(beforeOffsets[partition] ?? endOffset, consumerHash),
    };
  });
}

function added(sum: number, more: number | undefined): number | undefined {
  return more === undefined ? undefined : sum + more;
}
