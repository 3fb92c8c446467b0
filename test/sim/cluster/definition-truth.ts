// What operators were told of topics and subscriptions, and what has to be true in the end.
//
//   defined      what was created is there, with as many partitions as it was given, until somebody deletes
//                it
//   deleted      what was deleted does not come back, whatever has been created under its name since
//
// Only the broker that made a change needs to know it once a failover has lost it: the change is owed while
// that broker lives. When an attempt to change a name has no known outcome, nothing is known of the name
// until the next change.
import type { SubscriptionDefinition, TopicDefinition } from '../../../services/broker/core/definitions.ts';
import type { Definitions } from '../../../services/broker/engine/definitions/definitions.ts';
import { Violation } from '../violation.ts';

interface Change {
  /** The incarnation that the change made; 0: it deleted. */
  readonly incarnation: number;
  readonly partitions: number;
  readonly settings: string;
  readonly revision: number;
  readonly by: string;
  /** A subscription's topic: the subscription goes with it. */
  readonly topic: { readonly name: string; readonly logEpoch: number } | undefined;
  /** A failover may have lost the change, so that perhaps only its broker knows it. */
  lost: boolean;
}

/** An attempt to change something. */
export interface Trial {
  /** Nobody else has tried to change the same meanwhile: what its caller hears is what has become of it. */
  readonly isAlone: boolean;
  over(): void;
}

export class DefinitionTruth {
  /** The last known change of each name. */
  readonly #changes = new Map<string, Change>();
  /** Deletions by the incarnation that they deleted. */
  readonly #deletions = new Map<number, Change>();
  /** By name. */
  readonly #underWay = new Map<string, Set<{ isAlone: boolean }>>();
  /** What was ever written of each incarnation because somebody has asked for it. */
  readonly #written = new Map<number, { readonly revision: number; readonly settings: string }[]>();

  /** Nothing is known of the names from now on. */
  trying(names: readonly string[]): Trial {
    const trial = {
      isAlone: true,
      over: () => {
        for (const name of names) this.#underWay.get(name)?.delete(trial);
      },
    };
    for (const name of names) {
      this.#changes.delete(name);
      const others = this.#underWay.get(name) ?? new Set();
      this.#underWay.set(name, others);
      for (const other of others) trial.isAlone = other.isAlone = false;
      others.add(trial);
    }
    return trial;
  }

  topic(topic: TopicDefinition, by: string): void {
    const { name, logEpoch: incarnation, partitions, revision } = topic;
    const settings = settingsOf(topic);
    this.#changes.set(name, {
      ...{ incarnation, partitions, settings, revision, by },
      topic: undefined,
      lost: false,
    });
  }

  subscription(subscription: SubscriptionDefinition, by: string): void {
    const { name, incarnation, topic, topicEpoch, revision } = subscription;
    const settings = settingsOf(subscription);
    this.#changes.set(name, {
      ...{ incarnation, partitions: 0, settings, revision, by },
      topic: { name: topic, logEpoch: topicEpoch },
      lost: false,
    });
  }

  deleted(name: string, incarnation: number | undefined, by: string): void {
    const nothing = { incarnation: 0, partitions: 0, settings: '', revision: 0 };
    const change = { ...nothing, topic: undefined, by, lost: false };
    this.#changes.set(name, change);
    if (incarnation !== undefined) this.#deletions.set(incarnation, change);
  }

  /**
   * Somebody's change has come to the store; whether it was asked for by an operator who hears of it or not.
   */
  written(definition: TopicDefinition | SubscriptionDefinition): void {
    const incarnation = incarnationOf(definition);
    const written = this.#written.get(incarnation) ?? [];
    this.#written.set(incarnation, written);
    written.push({ revision: definition.revision, settings: settingsOf(definition) });
  }

  /** At any time, of a broker. */
  checkNothingCameBack(known: Definitions, memberId: string): void {
    if (this.#deletions.size === 0) return;
    const isItsOwn = ({ by }: Change): boolean => by === memberId;
    for (const { name, logEpoch } of known.topics()) this.#checkDeleted(name, logEpoch, isItsOwn);
    for (const { name, incarnation } of known.subscriptions())
      this.#checkDeleted(name, incarnation, isItsOwn);
  }

  /** Returns what is to be called when the store forgets what was changed from now on. */
  checkpoint(): () => void {
    const before = new Set([...this.#changes.values(), ...this.#deletions.values()]);
    return () => {
      for (const change of [...this.#changes.values(), ...this.#deletions.values()])
        if (!before.has(change)) change.lost = true;
    };
  }

  /** Checks what a broker knows in the end. Throws a Violation. */
  check(known: Definitions, isAlive: (memberId: string) => boolean): void {
    const isOwed = ({ lost, by }: Change): boolean => !lost || isAlive(by);
    for (const [name, change] of this.#changes) {
      if (!isOwed(change)) continue;
      if (change.topic !== undefined && known.topic(change.topic.name)?.logEpoch !== change.topic.logEpoch)
        continue;
      const topic = known.topic(name);
      const definition = topic ?? known.subscription(name);
      const incarnation = definition === undefined ? 0 : incarnationOf(definition);
      if (incarnation !== change.incarnation)
        throw new Violation(
          `${name} is ${incarnation || 'not there'}; ${change.by} has said that it is ${change.incarnation || 'deleted'}`,
        );
      if (topic !== undefined && topic.partitions < change.partitions)
        throw new Violation(
          `${name} has ${topic.partitions} partitions; ${change.by} has given it ${change.partitions}`,
        );
      if (definition !== undefined) this.#checkSettings(name, change, settingsOf(definition));
    }
    for (const { name, logEpoch } of known.topics()) this.#checkDeleted(name, logEpoch, isOwed);
    for (const { name, incarnation } of known.subscriptions()) this.#checkDeleted(name, incarnation, isOwed);
  }

  #checkSettings(name: string, { incarnation, settings, revision, by }: Change, found: string): void {
    if (found === settings) return;
    const others = this.#written.get(incarnation) ?? [];
    if (others.some((other) => other.settings === found && other.revision >= revision)) return;
    throw new Violation(`${name} has ${found}; ${by} has said that it has ${settings}`);
  }

  #checkDeleted(name: string, incarnation: number, isOwed: (change: Change) => boolean): void {
    const deletion = this.#deletions.get(incarnation);
    if (deletion !== undefined && isOwed(deletion))
      throw new Violation(`${name} (${incarnation}) has come back; ${deletion.by} has deleted it`);
  }
}

function incarnationOf(definition: TopicDefinition | SubscriptionDefinition): number {
  return 'logEpoch' in definition ? definition.logEpoch : definition.incarnation;
}

/** All that an update may change, but partitions. */
function settingsOf(definition: TopicDefinition | SubscriptionDefinition): string {
  const { labels } = definition;
  if ('ackDeadlineMs' in definition)
    return JSON.stringify({ ackDeadlineMs: definition.ackDeadlineMs, labels });
  const { retentionMs, retentionBytesPerPartition } = definition;
  return JSON.stringify({ retentionMs, retentionBytesPerPartition, labels });
}
