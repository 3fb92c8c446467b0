// A consumer with a stream at some broker: slow, blocked, forgetful, acknowledging in odd ways; lost in one way or another it
// comes back, often elsewhere. Made by world.ts; behaves well once it is told to. One stream of it is stream.ts'.
import { hashOfKey } from '../../../services/broker/core/publish-batch.ts';
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
  readonly hash: number;
  /** Acks that were ready when a stream was lost, and for which incarnation: said on the next one. */
  late: { readonly incarnation: number; readonly places: readonly Place[] } | undefined;
  good = false;
  #stream: ConsumerStream | undefined;
  #streams = 0;

  constructor(world: ClusterWorld, subscription: SubscriptionPlan, plan: ConsumerPlan) {
    this.world = world;
    this.plan = plan;
    this.subscription = subscription.name;
    const clientId = Buffer.from(plan.clientId);
    this.hash = hashOfKey(clientId, 0, clientId.length);
    this.chance = world.chance.fork();
    world.members.holders.knows(this.hash, plan.ackDeadlineMs);
    world.spawn(this.#run());
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
        this.#stream = new ConsumerStream(this, `${this.plan.clientId}/${this.#streams}`, member);
        await this.#stream.over;
        this.#stream = undefined;
      }
      await this.world.sleep(this.chance.scale(1, 300));
    }
  }
}
