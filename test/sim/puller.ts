// A client without a stream: Pull, work, Acknowledge or ModifyAckDeadline, over and over.
import type { SubscriptionDefinition } from '../../services/broker/core/definitions.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import type { Life } from './life.ts';
import type { Chance } from './prng.ts';
import { decodeFrames, type Received } from './received.ts';
import type { SubscriptionPlan } from './scenario.ts';
import { describe, operationsFor, type Place } from './settlements.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

export class SimPuller {
  readonly #world: World;
  readonly #name: string;
  readonly #subscription: string;
  readonly #chance: Chance;
  #good = false;

  constructor(world: World, subscription: SubscriptionPlan, nth: number) {
    this.#world = world;
    this.#subscription = subscription.name;
    this.#name = `${subscription.name.split('/').at(-1)}-p${nth}`;
    this.#chance = world.chance.fork();
    world.spawn(this.#run());
  }

  /** From now on it acknowledges whatever it gets. */
  behave(): void {
    this.#good = true;
  }

  async #run(): Promise<void> {
    const chance = this.#chance;
    while (!this.#world.over) {
      await this.#world.sleep(chance.scale(1, this.#good ? 30 : 500));
      const life = this.#world.reachable();
      const definition = life?.definitions.subscription(this.#subscription);
      if (life === undefined || definition === undefined) continue;
      try {
        await this.#round(life, definition);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (this.#world.trace.on) this.#world.say(this.#name, `has failed: ${error.message}`);
      }
    }
  }

  async #round(life: Life, definition: SubscriptionDefinition): Promise<void> {
    const chance = this.#chance;
    const most = chance.scale(1, 30);
    const waitMs = chance.pick([0, 20, 500, 3_000]);
    const messages = await this.#pull(life, definition, most, waitMs);
    if (messages.length === 0 || !life.alive) return;
    await this.#world.sleep(chance.scale(1, this.#good ? 10 : 400));
    if (!this.#good && chance.bool(0.1)) return;
    const nacked = messages.filter(() => !this.#good && chance.bool(0.1));
    const acked = messages.filter((message) => !nacked.includes(message));
    if (!this.#good && chance.bool(0.1))
      await this.#settle(life, definition, operationsFor(chance, 'extend', acked, chance.int(1, 3)));
    if (nacked.length > 0) await this.#settle(life, definition, operationsFor(chance, 'nack', nacked));
    for (const part of this.#parts(acked))
      await this.#settle(life, definition, operationsFor(chance, 'ack', part));
  }

  async #pull(
    life: Life,
    definition: SubscriptionDefinition,
    most: number,
    waitMs: number,
  ): Promise<readonly Received[]> {
    const { checker, clock, trace } = this.#world;
    const before = life.broker.stats.consumers;
    const messages = await this.#world.call(life, async () => {
      const frames = await life.broker.pull(this.#subscription, most, waitMs).catch((error: unknown) => {
        checker.pullLost(definition);
        throw error;
      });
      const received = decodeFrames(Buffer.concat(frames));
      // All Pulls of a subscription are one client to the broker.
      const consumer = `${this.#subscription} pulls in life ${life.number}`;
      const deadlineMs = clock.monotonicMs() + definition.ackDeadlineMs;
      checker.delivered(definition, consumer, received, deadlineMs, true);
      return received;
    });
    if (trace.on && messages.length > 0) {
      const places = messages.map(({ partition, offset, attempt }) => `${partition}-${offset}-${attempt}`);
      this.#world.say(this.#name, `pulls ${places.join(' ')} of ${most} (${before} consumers)`);
    }
    if (messages.length > most)
      throw new Violation(`${this.#name} asked for ${most} messages and got ${messages.length}`);
    return messages;
  }

  /** Resolves when the broker has answered. */
  async #settle(
    life: Life,
    definition: SubscriptionDefinition,
    operations: readonly SettleOperation[],
  ): Promise<void> {
    const { checker, trace } = this.#world;
    // The name may mean another subscription by now; no client would notice, but the checker would be misled.
    const current = life.definitions.subscription(this.#subscription);
    if (!life.ready || current?.incarnation !== definition.incarnation || operations.length === 0) return;
    if (trace.on) this.#world.say(this.#name, describe(operations));
    await this.#world.call(life, () => {
      checker.settling(definition, undefined, operations);
      return life.broker.settle({ subscription: this.#subscription, operations });
    });
    checker.confirmed(definition, operations);
  }

  #parts(places: readonly Received[]): (readonly Place[])[] {
    if (places.length < 2 || this.#chance.bool(0.7)) return [places];
    const at = this.#chance.int(1, places.length - 1);
    return [places.slice(0, at), places.slice(at)];
  }
}
