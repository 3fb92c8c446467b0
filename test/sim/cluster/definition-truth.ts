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
  readonly by: string;
  /** A subscription's topic: the subscription goes with it. */
  readonly topic: { readonly name: string; readonly logEpoch: number } | undefined;
  /** A failover may have lost the change, so that perhaps only its broker knows it. */
  lost: boolean;
}

export class DefinitionTruth {
  /** The last known change of each name. */
  readonly #changes = new Map<string, Change>();
  /** Deletions by the incarnation that they deleted. */
  readonly #deletions = new Map<number, Change>();

  /** Somebody tries to change the name: nothing is known of it until the outcome is. */
  trying(name: string): void {
    this.#changes.delete(name);
  }

  topic({ name, logEpoch: incarnation, partitions }: TopicDefinition, by: string): void {
    this.#changes.set(name, { incarnation, partitions, topic: undefined, by, lost: false });
  }

  subscription({ name, incarnation, topic, topicEpoch }: SubscriptionDefinition, by: string): void {
    const of = { name: topic, logEpoch: topicEpoch };
    this.#changes.set(name, { incarnation, partitions: 0, topic: of, by, lost: false });
  }

  deleted(name: string, incarnation: number | undefined, by: string): void {
    const change = { incarnation: 0, partitions: 0, topic: undefined, by, lost: false };
    this.#changes.set(name, change);
    if (incarnation !== undefined) this.#deletions.set(incarnation, change);
  }

  /** Returns a function to call when the store forgets the changes made from now on. */
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
      const incarnation = topic?.logEpoch ?? known.subscription(name)?.incarnation ?? 0;
      if (incarnation !== change.incarnation)
        throw new Violation(
          `${name} is ${incarnation || 'not there'}; ${change.by} has said that it is ${change.incarnation || 'deleted'}`,
        );
      if (topic !== undefined && topic.partitions < change.partitions)
        throw new Violation(
          `${name} has ${topic.partitions} partitions; ${change.by} has given it ${change.partitions}`,
        );
    }
    for (const { name, logEpoch } of known.topics()) this.#checkDeleted(name, logEpoch, isOwed);
    for (const { name, incarnation } of known.subscriptions()) this.#checkDeleted(name, incarnation, isOwed);
  }

  #checkDeleted(name: string, incarnation: number, isOwed: (change: Change) => boolean): void {
    const deletion = this.#deletions.get(incarnation);
    if (deletion !== undefined && isOwed(deletion))
      throw new Violation(`${name} (${incarnation}) has come back; ${deletion.by} has deleted it`);
  }
}
