// A consumer with a stream: connects, is lost in one way or another, and comes back. It behaves well once it
// is told to. What it does while it is connected is in connection.ts.
import { BrokerError } from '../../services/broker/core/errors.ts';
import { Connection } from './connection.ts';
import type { Life } from './life.ts';
import type { Chance } from './prng.ts';
import type { ConsumerPlan, SubscriptionPlan } from './scenario.ts';
import type { Place } from './settlements.ts';
import type { World } from './world.ts';

export class SimConsumer {
  readonly plan: ConsumerPlan;
  readonly chance: Chance;
  readonly world: World;
  /**
   * Acks that were ready when a connection was lost, and the incarnation they are for: sent on the next
   * connection.
   */
  late: { readonly incarnation: number; readonly places: readonly Place[] } | undefined;
  /**
   * Whether the broker must let the partitions take turns for it: it may have whatever waits in any of them.
   */
  readonly judgesTurns: boolean;
  #good = false;
  readonly #subscription: string;
  #connection: Connection | undefined;
  #connections = 0;

  constructor(world: World, subscription: SubscriptionPlan, plan: ConsumerPlan) {
    this.world = world;
    this.plan = plan;
    this.#subscription = subscription.name;
    const { steady, ordering, consumers } = subscription;
    this.judgesTurns = steady && (!ordering || consumers.length === 1);
    this.chance = world.chance.fork();
    world.spawn(this.#run());
  }

  /** From now on it reads, acknowledges everything, and stays. */
  behave(): void {
    this.#good = true;
    this.#connection?.unblock();
  }

  /** Whether the client has another connection. One without an id is another client on each connection. */
  isSuperseded(connection: Connection): boolean {
    return !this.plan.anonymous && this.#connection !== undefined && this.#connection !== connection;
  }

  get good(): boolean {
    return this.#good;
  }

  async #run(): Promise<void> {
    await this.world.sleep(this.chance.scale(1, 300));
    while (!this.world.over) {
      const life = this.world.reachable();
      if (life !== undefined) await this.#connect(life);
      await this.world.sleep(this.chance.scale(1, 300));
    }
  }

  async #connect(life: Life): Promise<void> {
    this.#connections += 1;
    const connection = new Connection(this, `${this.plan.name}#${this.#connections}`, life);
    try {
      connection.open(this.#subscription);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      return;
    }
    this.#connection = connection;
    await connection.over;
    this.#connection = undefined;
  }
}
