// A consumer with a stream at some broker: slow, blocked, forgetful, acknowledging in odd ways; lost in one
// way or another it comes back, often elsewhere. It behaves well once it is told to. stream.ts is one stream
// of it.
import { consumerClient } from '../../../services/broker/core/consumer-client.ts';
import type { Chance } from '../prng.ts';
import type { Place } from '../settlements.ts';
import type { ConsumerPlan, SubscriptionPlan } from './scenario.ts';
import { ConsumerStream } from './stream.ts';
import type { ClusterWorld } from './world.ts';

export class ClusterConsumer {
  readonly plan: ConsumerPlan;
  readonly chance: Chance;
  readonly world: ClusterWorld;
  readonly subscription: string;
  /**
   * Acks that were ready when a stream was lost, and the incarnation they are for: sent on the next stream.
   */
  late: { readonly incarnation: number; readonly places: readonly Place[] } | undefined;
  /**
   * Whether the broker must let the partitions take turns for it: it may have whatever waits in any of them.
   */
  readonly judgesTurns: boolean;
  good = false;
  #stream: ConsumerStream | undefined;
  #streams = 0;

  constructor(world: ClusterWorld, subscription: SubscriptionPlan, plan: ConsumerPlan) {
    this.world = world;
    this.plan = plan;
    this.subscription = subscription.name;
    const { steady, ordering, consumers } = subscription;
    this.judgesTurns = world.scenario.calm && steady && (!ordering || consumers.length === 1);
    this.chance = world.chance.fork();
    world.spawn(this.#run());
  }

  get clientId(): string {
    return this.plan.anonymous ? '' : this.plan.name;
  }

  /** The client's hash as brokers compute it; `drawn` is what the broker draws for a client without an id. */
  hash(drawn: number): number {
    const { hash } = consumerClient('stream', this.clientId, () => drawn, '');
    this.world.members.holders.knows(hash, this.plan.ackDeadlineMs);
    return hash;
  }

  /**
   * Whether the client has a newer stream at the same broker. One without an id is another client on each
   * stream.
   */
  hasNewer(stream: ConsumerStream): boolean {
    return !this.plan.anonymous && this.#stream !== stream && this.#stream?.isAt(stream) === true;
  }

  /** From now on it reads, acknowledges everything, and stays. */
  behave(): void {
    this.good = true;
    this.#stream?.unblock();
  }

  async #run(): Promise<void> {
    await this.world.sleep(this.chance.scale(1, 300));
    while (!this.world.over) {
      const member = this.world.members.reachable(this.chance);
      if (member !== undefined) {
        this.#streams += 1;
        this.#stream = new ConsumerStream(this, `${this.plan.name}/${this.#streams}`, member);
        await this.#stream.over;
        this.#stream = undefined;
      }
      await this.world.sleep(this.chance.scale(1, 300));
    }
  }
}
