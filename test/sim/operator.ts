// An operator of the broker: adds partitions, deletes and creates topics and subscriptions under load, and
// remembers what it was told.
//
//   remembered   what was created is there after any restart, the same incarnation; what was deleted is not
//   latest       a new subscription begins at an end of the log that lies between what was acknowledged
//                before and what was there afterwards
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Life } from './life.ts';
import type { Chance } from './prng.ts';
import { PROJECT, type SubscriptionPlan, type TopicPlan } from './scenario.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

const ROOT = 'operator';
const MAX_PARTITIONS = 8;

/** An incarnation; 0: deleted; undefined: a call about it had no answer. */
type Known = number | undefined;

export class Operator {
  readonly #world: World;
  readonly #chance: Chance;
  readonly #topics = new Map<string, Known>();
  readonly #subscriptions = new Map<string, Known>();
  readonly #plans: { readonly topic: TopicPlan; readonly subscription: SubscriptionPlan }[] = [];
  #extras = 0;
  #underWay = 0;

  constructor(world: World) {
    this.#world = world;
    this.#chance = world.chance.fork();
    for (const topic of world.scenario.topics) {
      this.#topics.set(topic.name, undefined);
      for (const subscription of topic.subscriptions) {
        this.#plans.push({ topic, subscription });
        this.#subscriptions.set(subscription.name, undefined);
      }
    }
  }

  get busy(): boolean {
    return this.#underWay > 0;
  }

  start(): void {
    const { weather, topics } = this.#world.scenario;
    if (weather.adminChanges > 0)
      this.#world.spawn(this.#run(weather.adminChanges, (life) => this.#change(life)));
    if (weather.growths > 0)
      this.#world.spawn(
        this.#run(weather.growths, (life) => this.#addPartitions(life, this.#chance.pick(topics).name)),
      );
  }

  /** Checks what the broker knows when a life has begun. */
  checkDefinitions({ definitions }: Life): void {
    for (const [name, known] of this.#topics)
      this.#topics.set(name, agreed(name, known, definitions.topic(name)?.logEpoch ?? 0));
    for (const [name, known] of this.#subscriptions)
      this.#subscriptions.set(name, agreed(name, known, definitions.subscription(name)?.incarnation ?? 0));
  }

  async #run(rate: number, change: (life: Life) => Promise<void>): Promise<void> {
    const world = this.#world;
    while (world.phase === 'chaos' && !world.over) {
      await world.sleep(this.#chance.pauseMs(rate));
      const life = world.reachable();
      if (life === undefined || world.phase !== 'chaos') continue;
      this.#underWay += 1;
      try {
        await change(life);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (world.trace.on) world.say('operator', `is refused: ${error.code} ${error.message}`);
      }
      this.#underWay -= 1;
    }
  }

  async #change(life: Life): Promise<void> {
    const { topic, subscription } = this.#chance.pick(this.#plans);
    const { definitions } = life;
    if (definitions.topic(topic.name) === undefined) return this.#createTopic(life, topic);
    if (definitions.subscription(subscription.name) === undefined)
      return this.#createSubscription(life, topic.name, subscription);
    switch (this.#chance.int(0, 5)) {
      case 0:
        return this.#deleteTopic(life, topic);
      case 1:
      case 2:
        return this.#deleteSubscription(life, subscription.name);
      case 3:
        return this.#addSubscription(life, topic);
      default:
        return this.#addPartitions(life, topic.name);
    }
  }

  async #createTopic(life: Life, { name, partitions }: TopicPlan): Promise<void> {
    this.#world.say('operator', `creates ${name}`);
    const { logEpoch } = await this.#told(life, this.#topics, name, 'ALREADY_EXISTS', () =>
      life.definitions.createTopic(ROOT, { name, partitions }),
    );
    this.#topics.set(name, logEpoch);
  }

  async #deleteTopic(life: Life, { name }: TopicPlan): Promise<void> {
    this.#world.say('operator', `deletes ${name}`);
    const subscriptions = life.definitions.subscriptionsOf(name).map((each) => each.name);
    for (const each of subscriptions) this.#subscriptions.set(each, undefined);
    await this.#told(life, this.#topics, name, 'NOT_FOUND', () =>
      life.definitions.deleteTopic(ROOT, name, { force: true }),
    );
    this.#topics.set(name, 0);
    for (const each of subscriptions) this.#subscriptions.set(each, 0);
  }

  async #addPartitions(life: Life, name: string): Promise<void> {
    const before = life.definitions.topic(name)?.partitions ?? 0;
    const partitions = this.#chance.bool(0.5) ? before + 1 : before * 2;
    if (before === 0 || partitions > MAX_PARTITIONS) return;
    this.#world.say('operator', `gives ${name} ${partitions} partitions`);
    await this.#world.call(life, () =>
      life.definitions.updateTopic(ROOT, { name, partitions }, ['partitions']),
    );
  }

  async #addSubscription(life: Life, topic: TopicPlan): Promise<void> {
    this.#extras += 1;
    if (this.#extras > 3) return;
    const plan = this.#chance.pick(topic.subscriptions);
    const id = `extra${this.#extras}`;
    const consumers = plan.consumers.map((each, nth) => ({ ...each, name: `${id}-c${nth}` }));
    const name = `${PROJECT}/subscriptions/${id}`;
    const subscription = { ...plan, name, consumers, ordering: this.#chance.bool(0.5), prompt: false };
    this.#plans.push({ topic, subscription });
    this.#world.populate(subscription);
    await this.#createSubscription(life, topic.name, subscription);
  }

  async #createSubscription(life: Life, topic: string, plan: SubscriptionPlan): Promise<void> {
    const { name, ordering, earliest } = plan;
    this.#world.say('operator', `creates ${name}${earliest ? ' from the earliest' : ''}`);
    const { logs } = this.#world.checker;
    const logEpoch = life.definitions.topic(topic)?.logEpoch ?? 0;
    const toldBefore = logs.partitionsOf(logEpoch).map(({ id, toldEnd }) => ({ id, toldEnd }));
    const created = await this.#told(life, this.#subscriptions, name, 'ALREADY_EXISTS', () =>
      life.definitions.createSubscription(ROOT, {
        name,
        topic,
        ordering,
        ackDeadlineMs: Math.max(1_000, plan.ackDeadlineMs),
        start: earliest ? 'earliest' : 'latest',
      }),
    );
    this.#subscriptions.set(name, created.incarnation);
    if (created.startOffsets === undefined || created.topicEpoch !== logEpoch) return;
    for (const { id, toldEnd } of toldBefore) {
      const start = created.startOffsets[id.partition] ?? 0;
      if (start < toldEnd || start > logs.partition(id).endOffset)
        throw new Violation(`${name} begins at ${start}; acknowledged were ${toldEnd} messages before`);
    }
  }

  async #deleteSubscription(life: Life, name: string): Promise<void> {
    this.#world.say('operator', `deletes ${name}`);
    await this.#told(life, this.#subscriptions, name, 'NOT_FOUND', () =>
      life.definitions.deleteSubscription(ROOT, name),
    );
    this.#subscriptions.set(name, 0);
  }

  /**
   * Makes a call whose outcome is unknown until it is answered; the error `harmless` says that nothing was
   * changed.
   */
  async #told<T>(
    life: Life,
    known: Map<string, Known>,
    name: string,
    harmless: BrokerError['code'],
    call: () => Promise<T>,
  ): Promise<T> {
    const before = known.get(name);
    known.set(name, undefined);
    try {
      return await this.#world.call(life, call);
    } catch (error) {
      if (error instanceof BrokerError && error.code === harmless) known.set(name, before);
      throw error;
    }
  }
}

function agreed(name: string, known: Known, found: number): number {
  if (known !== undefined && known !== found)
    throw new Violation(`${name} should have the incarnation ${known}, and has ${found}`);
  return found;
}
