// A client without a stream: Pull at one broker, work, Acknowledge or ModifyAckDeadline at any, over and
// over.
import type { SubscriptionDefinition } from '../../../services/broker/core/definitions.ts';
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { SettleOperation } from '../../../services/broker/core/settle-request.ts';
import type { Chance } from '../prng.ts';
import { decodeFrames, type Received } from '../received.ts';
import { describe, operationsFor } from '../settlements.ts';
import { Violation } from '../violation.ts';
import type { Member } from './member.ts';
import type { SubscriptionPlan } from './scenario.ts';
import type { ClusterWorld } from './world.ts';

export class ClusterPuller {
  readonly #world: ClusterWorld;
  readonly #name: string;
  readonly #subscription: string;
  #rounds = 0;
  readonly #chance: Chance;
  #good = false;

  constructor(world: ClusterWorld, subscription: SubscriptionPlan, nth: number) {
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
      const member = this.#world.members.reachable(chance);
      const definition = member?.definitions.subscription(this.#subscription);
      if (member === undefined || definition === undefined) continue;
      try {
        await this.#round(member, definition);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (this.#world.trace.on) this.#world.say(this.#name, `has failed: ${error.message}`);
      }
    }
  }

  async #round(member: Member, definition: SubscriptionDefinition): Promise<void> {
    const chance = this.#chance;
    const most = chance.scale(1, 30);
    const waitMs = chance.pick([0, 20, 500, 3_000]);
    const messages = await this.#pull(member, most, waitMs);
    const mine = messages.filter(({ logEpoch }) => logEpoch === definition.topicEpoch);
    if (mine.length === 0) return;
    const { histories, clock } = this.#world;
    this.#rounds += 1;
    const round = `${this.#name}/${this.#rounds}`;
    for (const message of mine) histories.handed(this.#subscription, round, clock.monotonicMs(), message);
    await this.#world.sleep(chance.scale(1, this.#good ? 10 : 400));
    if (!this.#good && chance.bool(0.1)) return;
    const nacked = mine.filter(() => !this.#good && chance.bool(0.1));
    const acked = mine.filter((message) => !nacked.includes(message));
    if (!this.#good && chance.bool(0.1))
      await this.#settle(definition, operationsFor(chance, 'extend', acked, chance.int(1, 3)));
    await this.#settle(definition, operationsFor(chance, 'nack', nacked));
    for (const each of acked) histories.acked(this.#subscription, round, clock.monotonicMs(), each);
    for (const part of this.#parts(acked)) await this.#settle(definition, operationsFor(chance, 'ack', part));
  }

  #parts(places: readonly Received[]): (readonly Received[])[] {
    if (places.length < 2 || this.#chance.bool(0.7)) return [places];
    const at = this.#chance.int(1, places.length - 1);
    return [places.slice(0, at), places.slice(at)];
  }

  async #pull(member: Member, most: number, waitMs: number): Promise<readonly Received[]> {
    const world = this.#world;
    const frames = await world.calls.ask(member, `${this.#name} pulls`, () =>
      member.broker.pull(this.#subscription, most, waitMs),
    );
    const messages = decodeFrames(Buffer.concat(frames));
    if (world.trace.on && messages.length > 0) {
      const places = messages.map(({ partition, offset, attempt }) => `${partition}-${offset}-${attempt}`);
      world.say(this.#name, `pulls ${places.join(' ')} of ${most}`);
    }
    if (messages.length > most)
      throw new Violation(`${this.#name} asked for ${most} messages and got ${messages.length}`);
    return messages;
  }

  /** Resolves when some broker has answered. */
  async #settle(definition: SubscriptionDefinition, operations: readonly SettleOperation[]): Promise<void> {
    const world = this.#world;
    const member = world.members.reachable(this.#chance);
    // The name may mean another subscription there; no client would notice, but the checker would be misled.
    const current = member?.definitions.subscription(this.#subscription);
    if (member === undefined || current?.incarnation !== definition.incarnation || operations.length === 0)
      return;
    if (world.trace.on) world.say(this.#name, `${describe(operations)} at ${member.id}`);
    const { alone } = world.scenario;
    let confirmed = alone ? () => {} : world.checker.acknowledging(definition, operations);
    await world.calls.ask(member, `${this.#name} settles`, () => {
      if (alone) confirmed = world.checker.acknowledging(definition, operations);
      return member.broker.settle({ subscription: this.#subscription, operations });
    });
    if (member.definitions.subscription(this.#subscription)?.incarnation === definition.incarnation)
      confirmed();
  }
}
