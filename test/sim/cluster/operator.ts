// An operator of the cluster: adds partitions, deletes and creates topics and subscriptions under load, each
// change through another broker.
//
//   latest       a new subscription begins at an end of the log that lies between what was acknowledged
//                before and what was there afterwards
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { Chance } from '../prng.ts';
import { Violation } from '../violation.ts';
import type { DefinitionTruth } from './definition-truth.ts';
import type { Member } from './member.ts';
import type { SubscriptionPlan, TopicPlan } from './scenario.ts';
import type { ClusterWorld } from './world.ts';

const ROOT = 'operator';
const MAX_PARTITIONS = 12;

export class ClusterOperator {
  readonly #world: ClusterWorld;
  readonly #chance: Chance;
  #underWay = 0;

  constructor(world: ClusterWorld) {
    this.#world = world;
    this.#chance = world.chance.fork();
  }

  get busy(): boolean {
    return this.#underWay > 0;
  }

  start(): void {
    const { adminChanges, growths } = this.#world.scenario.weather;
    const { topics } = this.#world.scenario;
    if (adminChanges > 0) this.#world.spawn(this.#run(adminChanges, (member) => this.#change(member)));
    if (growths > 0)
      this.#world.spawn(
        this.#run(growths, (member) => this.#addPartitions(member, this.#chance.pick(topics).name)),
      );
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
    const topic = this.#chance.pick(this.#world.scenario.topics);
    const subscription = this.#chance.pick(topic.subscriptions);
    const { definitions } = member;
    if (definitions.topic(topic.name) === undefined) return this.#createTopic(member, topic);
    if (definitions.subscription(subscription.name) === undefined)
      return this.#createSubscription(member, topic.name, subscription);
    switch (this.#chance.int(0, 4)) {
      case 0:
        return this.#deleteTopic(member, topic);
      case 1:
      case 2:
        return this.#deleteSubscription(member, subscription.name);
      default:
        return this.#addPartitions(member, topic.name);
    }
  }

  async #createTopic(member: Member, { name, partitions }: TopicPlan): Promise<void> {
    this.#say(member, `creates ${name}`);
    this.#truth.trying(name);
    const topic = await this.#call(member, () => member.definitions.createTopic(ROOT, { name, partitions }));
    this.#truth.topic(topic, member.id);
  }

  async #deleteTopic(member: Member, topic: TopicPlan): Promise<void> {
    this.#say(member, `deletes ${topic.name}`);
    for (const { name } of [topic, ...topic.subscriptions]) this.#truth.trying(name);
    const logEpoch = member.definitions.topic(topic.name)?.logEpoch;
    await this.#call(member, () => member.definitions.deleteTopic(ROOT, topic.name, { force: true }));
    this.#truth.deleted(topic.name, logEpoch, member.id);
    // The topic may be created again at once, through another broker.
    const other = this.#world.members.reachable(this.#chance);
    if (this.#chance.bool(0.5) && other !== undefined) await this.#createTopic(other, topic);
  }

  async #addPartitions(member: Member, name: string): Promise<void> {
    const before = member.definitions.topic(name)?.partitions ?? 0;
    const partitions = this.#chance.bool(0.5) ? before + 1 : before * 2;
    if (before === 0 || partitions > MAX_PARTITIONS) return;
    this.#say(member, `gives ${name} ${partitions} partitions`);
    this.#truth.trying(name);
    const topic = await this.#call(member, () =>
      member.definitions.updateTopic(ROOT, { name, partitions }, ['partitions']),
    );
    this.#truth.topic(topic, member.id);
  }

  async #createSubscription(member: Member, topic: string, plan: SubscriptionPlan): Promise<void> {
    const { name, ordering } = plan;
    const start = this.#chance.pick(['earliest', 'latest'] as const);
    this.#say(member, `creates ${name} from the ${start}`);
    const { checker } = this.#world;
    const logEpoch = member.definitions.topic(topic)?.logEpoch ?? 0;
    const before = checker
      .partitionsOf(logEpoch)
      .map((truth) => ({ truth, toldEnd: truth.toldEnd, returns: truth.returns }));
    this.#truth.trying(name);
    const created = await this.#call(member, () =>
      member.definitions.createSubscription(ROOT, {
        name,
        topic,
        ordering,
        ackDeadlineMs: Math.max(1_000, plan.ackDeadlineMs),
        start,
      }),
    );
    this.#truth.subscription(created, member.id);
    if (created.startOffsets === undefined || created.topicEpoch !== logEpoch) return;
    for (const { truth, toldEnd, returns } of before) {
      const startsAt = created.startOffsets[truth.id.partition] ?? 0;
      if (truth.returns === returns && (startsAt < toldEnd || startsAt > truth.endOffset))
        throw new Violation(
          `${name} begins at ${truth.name}-${startsAt}; acknowledged were ${toldEnd} messages before`,
        );
    }
  }

  async #deleteSubscription(member: Member, name: string): Promise<void> {
    this.#say(member, `deletes ${name}`);
    this.#truth.trying(name);
    const incarnation = member.definitions.subscription(name)?.incarnation;
    await this.#call(member, () => member.definitions.deleteSubscription(ROOT, name));
    this.#truth.deleted(name, incarnation, member.id);
  }

  get #truth(): DefinitionTruth {
    return this.#world.checker.definitions;
  }

  #call<T>(member: Member, call: () => Promise<T>): Promise<T> {
    return this.#world.calls.ask(member, 'an admin call', call);
  }

  #say(member: Member, what: string): void {
    if (this.#world.trace.on) this.#world.say('operator', `${what} through ${member.id}`);
  }
}
