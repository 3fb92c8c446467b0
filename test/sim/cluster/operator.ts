// Whoever administers the cluster: adds partitions, changes settings, deletes and creates topics and
// subscriptions under load, each change through another broker.
//
//   latest       a new subscription begins at an end of the log that lies between what was acknowledged
//                before and what was there afterwards
import type { TopicInput } from '../../../services/broker/core/definitions.ts';
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { Chance } from '../prng.ts';
import { Violation } from '../violation.ts';
import type { DefinitionTruth } from './definition-truth.ts';
import type { Member } from './member.ts';
import { DAY_MS, PROJECT, type SubscriptionPlan, type TopicPlan } from './scenario.ts';
import type { ClusterWorld } from './world.ts';

const ROOT = 'operator';
const MAX_PARTITIONS = 12;
/** The most subscriptions that are created beside those of the scenario. */
const MAX_EXTRAS = 3;
const SECOND_MS = 1_000;

export class ClusterOperator {
  readonly #world: ClusterWorld;
  readonly #chance: Chance;
  #underWay = 0;
  #updates = 0;
  #extras = 0;
  readonly #plans: { readonly topic: TopicPlan; readonly subscription: SubscriptionPlan }[] = [];

  constructor(world: ClusterWorld) {
    this.#world = world;
    this.#chance = world.chance.fork();
    for (const topic of world.scenario.topics)
      for (const subscription of topic.subscriptions) this.#plans.push({ topic, subscription });
  }

  get busy(): boolean {
    return this.#underWay > 0;
  }

  start(): void {
    const { adminChanges, growths, updates } = this.#world.scenario.weather;
    const { topics } = this.#world.scenario;
    if (adminChanges > 0) this.#world.spawn(this.#run(adminChanges, (member) => this.#change(member)));
    if (growths > 0)
      this.#world.spawn(
        this.#run(growths, (member) => this.#addPartitions(member, this.#chance.pick(topics).name)),
      );
    if (updates > 0)
      this.#world.spawn(this.#run(updates, (member) => this.#update(member, this.#chance.pick(topics))));
  }

  async #run(rate: number, change: (member: Member) => Promise<void>): Promise<void> {
    const world = this.#world;
    while (world.phase === 'chaos' && !world.over) {
      await world.sleep(this.#chance.pauseMs(rate));
      const member = world.members.reachable(this.#chance);
      if (member === undefined || world.phase !== 'chaos') continue;
      this.#underWay += 1;
      try {
        await change(member);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        if (world.trace.on) world.say('operator', `is refused: ${error.code} ${error.message}`);
      }
      this.#underWay -= 1;
    }
  }

  async #change(member: Member): Promise<void> {
    const { topic, subscription } = this.#chance.pick(this.#plans);
    const { definitions } = member;
    if (definitions.topic(topic.name) === undefined) return this.#createTopic(member, topic);
    if (definitions.subscription(subscription.name) === undefined)
      return this.#createSubscription(member, topic.name, subscription);
    switch (this.#chance.int(0, 5)) {
      case 0:
        return this.#deleteTopic(member, topic);
      case 1:
      case 2:
        return this.#deleteSubscription(member, subscription.name);
      case 3:
        return this.#addSubscription(member, topic);
      default:
        return this.#addPartitions(member, topic.name);
    }
  }

  #createTopic(member: Member, { name, partitions, durability }: TopicPlan): Promise<void> {
    this.#say(member, `creates ${name}`);
    return this.#try(
      member,
      [name],
      () => member.definitions.createTopic(ROOT, { name, partitions, durability }),
      (topic) => this.#truth.topic(topic, member.id),
    );
  }

  async #deleteTopic(member: Member, topic: TopicPlan): Promise<void> {
    this.#say(member, `deletes ${topic.name}`);
    const logEpoch = member.definitions.topic(topic.name)?.logEpoch;
    const subscriptions = member.definitions.subscriptionsOf(topic.name);
    await this.#try(
      member,
      [
        topic.name,
        ...this.#plans.filter((plan) => plan.topic === topic).map((plan) => plan.subscription.name),
      ],
      () => member.definitions.deleteTopic(ROOT, topic.name, { force: true }),
      () => {
        this.#truth.deleted(topic.name, logEpoch, member.id);
        for (const { name, incarnation } of subscriptions) this.#truth.deleted(name, incarnation, member.id);
      },
    );
    // At once, and through another broker.
    const other = this.#world.members.reachable(this.#chance);
    if (this.#chance.bool(0.5) && other !== undefined) await this.#createTopic(other, topic);
  }

  async #addPartitions(member: Member, name: string): Promise<void> {
    const before = member.definitions.topic(name)?.partitions ?? 0;
    const partitions = this.#chance.bool(0.5) ? before + 1 : before * 2;
    if (before === 0 || partitions > MAX_PARTITIONS) return;
    this.#say(member, `gives ${name} ${partitions} partitions`);
    await this.#updateTopic(member, { name, partitions }, ['partitions']);
  }

  /** Of a topic or one of its subscriptions: one setting, or several. */
  async #update(member: Member, topic: TopicPlan): Promise<void> {
    const chance = this.#chance;
    this.#updates += 1;
    const labels = { update: `${this.#updates}` };
    const { name } = chance.pick(topic.subscriptions);
    const paths = chance.bool(0.5) ? ['labels'] : [];
    if (chance.bool(0.3)) {
      if (member.definitions.subscription(name) === undefined) return;
      if (paths.length === 0 || chance.bool(0.5)) paths.push('ack_deadline_seconds');
      const ackDeadlineMs = SECOND_MS * chance.int(1, 10);
      this.#say(member, `changes ${paths.join(', ')} of ${name}: ${this.#updates}, ${ackDeadlineMs} ms`);
      await this.#try(
        member,
        [name],
        () =>
          member.definitions.updateSubscription(
            ROOT,
            { name, topic: topic.name, ackDeadlineMs, labels },
            paths,
          ),
        (subscription) => this.#truth.subscription(subscription, member.id),
      );
      return;
    }
    if (member.definitions.topic(topic.name) === undefined) return;
    const retentionMs = chance.bool(0.5) ? DAY_MS : chance.scale(1_500, 20_000);
    const retentionBytesPerPartition = chance.bool(0.5) ? 0 : chance.scale(1_000, 20_000);
    if (chance.bool(0.6)) paths.push('retention');
    if (paths.length === 0 || chance.bool(0.6)) paths.push('retention_bytes_per_partition');
    this.#say(
      member,
      `changes ${paths.join(', ')} of ${topic.name}: ${this.#updates}, ${retentionMs} ms, ${retentionBytesPerPartition} bytes`,
    );
    await this.#updateTopic(
      member,
      { name: topic.name, retentionMs, retentionBytesPerPartition, labels },
      paths,
    );
  }

  #updateTopic(member: Member, input: TopicInput, paths: readonly string[]): Promise<void> {
    return this.#try(
      member,
      [input.name],
      () => member.definitions.updateTopic(ROOT, input, paths),
      (topic) => this.#truth.topic(topic, member.id),
    );
  }

  /** One more, with consumers of its own. */
  async #addSubscription(member: Member, topic: TopicPlan): Promise<void> {
    this.#extras += 1;
    if (this.#extras > MAX_EXTRAS) return;
    const plan = this.#chance.pick(topic.subscriptions);
    const id = `extra${this.#extras}`;
    const consumers = plan.consumers.map((each, nth) => ({ ...each, name: `${id}-c${nth}` }));
    const name = `${PROJECT}/subscriptions/${id}`;
    const subscription = { ...plan, name, consumers, ordering: this.#chance.bool(0.5) };
    this.#plans.push({ topic, subscription });
    this.#world.populate(subscription);
    await this.#createSubscription(member, topic.name, subscription);
  }

  async #createSubscription(member: Member, topic: string, plan: SubscriptionPlan): Promise<void> {
    const { name, ordering } = plan;
    const start = this.#chance.pick(['earliest', 'latest'] as const);
    this.#say(member, `creates ${name} from the ${start}`);
    const { checker } = this.#world;
    const logEpoch = member.definitions.topic(topic)?.logEpoch ?? 0;
    const before = checker
      .partitionsOf(logEpoch)
      // Whose publishers hear early may give out as new what they have heard of.
      .map((truth) => ({ truth, toldEnd: truth.toldEarly ? 0 : truth.toldEnd, returns: truth.returns }));
    const ackDeadlineMs = Math.max(SECOND_MS, plan.ackDeadlineMs);
    await this.#try(
      member,
      [name],
      () => member.definitions.createSubscription(ROOT, { name, topic, ordering, ackDeadlineMs, start }),
      (created) => this.#truth.subscription(created, member.id),
      (created) => {
        if (created.startOffsets === undefined || created.topicEpoch !== logEpoch) return;
        for (const { truth, toldEnd, returns } of before) {
          const startsAt = created.startOffsets[truth.id.partition] ?? 0;
          if (truth.returns === returns && (startsAt < toldEnd || startsAt > truth.endOffset))
            throw new Violation(
              `${name} begins at ${truth.name}-${startsAt}; acknowledged were ${toldEnd} messages before`,
            );
        }
      },
    );
  }

  #deleteSubscription(member: Member, name: string): Promise<void> {
    this.#say(member, `deletes ${name}`);
    const incarnation = member.definitions.subscription(name)?.incarnation;
    return this.#try(
      member,
      [name],
      () => member.definitions.deleteSubscription(ROOT, name),
      () => this.#truth.deleted(name, incarnation, member.id),
    );
  }

  /**
   * `known` is told what it is if nobody else was changing the names at the same time; `then` in any case.
   */
  async #try<T>(
    member: Member,
    names: readonly string[],
    call: () => Promise<T>,
    known: (result: T) => void,
    then: (result: T) => void = () => {},
  ): Promise<void> {
    const trial = this.#truth.trying(names);
    try {
      const result = await this.#world.calls.ask(member, 'an admin call', call);
      if (trial.isAlone) known(result);
      then(result);
    } finally {
      trial.over();
    }
  }

  get #truth(): DefinitionTruth {
    return this.#world.checker.definitions;
  }

  #say(member: Member, what: string): void {
    if (this.#world.trace.on) this.#world.say('operator', `${what} through ${member.id}`);
  }
}
