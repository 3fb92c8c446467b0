// Settlements that somebody waits for (Acknowledge, ModifyAckDeadline, and what relays bring): performed at
// once for partitions that are owned here, brought to their owners for others. Invariant: an ack is answered
// when it is durable in the cursor of the partition's present owner, and not before.
import type { BrokerError } from '../core/errors.ts';
import {
  isOfAnother,
  type SettledSubscription,
  type SettleOperation,
  type UnarySettleRequest,
} from '../core/settle-request.ts';
import type { Dispatcher } from './delivery/dispatcher.ts';
import type { SubscriptionRuntime } from './delivery/subscription-runtime.ts';
import type { CursorCommitter } from './log/cursor-committer.ts';
import { MOVED } from './log/partition-owner.ts';
import type { Remote } from './remote.ts';
import type { Runtimes } from './runtimes.ts';

export interface SettleRouterOptions {
  readonly runtimes: Runtimes;
  readonly committer: CursorCommitter;
  /** Undefined: there are no other brokers. */
  readonly remote: () => Remote | undefined;
  /** As Definitions.partitionsOf. */
  readonly partitionsOf: (topic: string, logEpoch: number, least: number) => Promise<number>;
}

export class SettleRouter {
  readonly #options: SettleRouterOptions;
  #ended: BrokerError | undefined;

  constructor(options: SettleRouterOptions) {
    this.#options = options;
  }

  /** Nothing is written any more: what comes for partitions here is refused. */
  end(reason: BrokerError): void {
    this.#ended = reason;
  }

  /**
   * Resolves when acks are durable in the cursors. Rejects with INVALID_ARGUMENT; NOT_FOUND; UNAVAILABLE: a
   * partition has no owner just now, or lost it meanwhile.
   */
  async settle(request: UnarySettleRequest): Promise<void> {
    const runtime = this.#options.runtimes.subscription(request.subscription);
    if (isOfAnother(request, runtime.incarnation)) return;
    const { here, elsewhere } = split(runtime, request.operations);
    const remotely =
      elsewhere.length > 0 ? this.#options.remote()?.settle(runtime.definition, elsewhere) : undefined;
    // Both are awaited together: the remote part must not be left alone if the local one fails.
    await Promise.all([this.#settleHere(runtime, here), remotely]);
  }

  /**
   * Settles what concerns partitions owned here, durably, and returns the rest. Rejects with NOT_FOUND,
   * UNAVAILABLE.
   */
  async settleOwned(
    { name, incarnation }: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]> {
    const runtime = this.#options.runtimes.subscription(name);
    // Above: the subscription that was meant was deleted. Below: this broker has not heard of it yet.
    if (runtime.incarnation > incarnation) return [];
    if (runtime.incarnation < incarnation) return operations;
    const { here, elsewhere } = split(runtime, operations);
    await this.#settleHere(runtime, here);
    return elsewhere;
  }

  /**
   * How many partitions the subscription's topic has; 0 if the subscription is gone. See
   * Definitions.partitionsOf for `least`. Rejects with UNAVAILABLE.
   */
  async partitionsToSettle({ name, incarnation }: SettledSubscription, least: number): Promise<number> {
    const runtime = this.#options.runtimes.subscriptions.get(name);
    if (runtime?.incarnation !== incarnation) return 0;
    const { topic, topicEpoch } = runtime.definition;
    return this.#options.partitionsOf(topic, topicEpoch, least);
  }

  async #settleHere(runtime: SubscriptionRuntime, operations: readonly SettleOperation[]): Promise<void> {
    if (operations.length === 0) return;
    if (this.#ended !== undefined) throw this.#ended;
    const { committer } = this.#options;
    const touched: ReadonlySet<Dispatcher> = runtime.settle(0, { operations });
    if (touched.size === 0 || !operations.some(({ kind }) => kind === 'ack')) return;
    // An ack of what this owner has never had: another may own the partition by now, which a commit finds
    // out.
    for (const dispatcher of touched) {
      const { id, bounds } = dispatcher.owner;
      if (operations.some(({ partition, last }) => partition === id.partition && last >= bounds.endOffset))
        committer.now(dispatcher);
    }
    await committer.flushed();
    for (const { owner, closed } of touched) {
      if (closed && owner.closed) throw MOVED;
    }
  }
}

function split(
  { dispatchers, definition }: SubscriptionRuntime,
  operations: readonly SettleOperation[],
): { here: SettleOperation[]; elsewhere: SettleOperation[] } {
  const here: SettleOperation[] = [];
  const elsewhere: SettleOperation[] = [];
  for (const operation of operations) {
    // The operation is on an earlier incarnation of the topic: there is nothing to settle.
    if (operation.logEpoch !== definition.topicEpoch) continue;
    if (dispatchers.has(operation.partition)) here.push(operation);
    else elsewhere.push(operation);
  }
  return { here, elsewhere };
}
