// What operators were told of topics and subscriptions, and what has to be true in the end. One part of cluster-checker.ts.
//
//   defined      what was created is there, with as many partitions as were given it, until somebody deletes it
//   deleted      what was deleted does not come back, whatever has been created under its name since
//
// Of a change that a failover has lost only the broker that made it need know: it is owed while that one lives. Of a name that
// somebody has tried to change, and was not told what became of that, nothing is known before the next change.
import type { SubscriptionDefinition, TopicDefinition } from '../../../services/broker/core/definitions.ts';
import type { Definitions } from '../../../services/broker/engine/definitions/definitions.ts';
import { Violation } from '../violation.ts';

interface Change {
  /** 0: it was deleted. */
  readonly incarnation: number;
  readonly partitions: number;
  readonly by: string;
  /** Of a subscription: it goes with that one. */
  readonly topic: { readonly name: string; readonly logEpoch: number } | undefined;
  /** A failover has lost it, perhaps: it may be that only its broker knows. */
  lost: boolean;
}

export class DefinitionTruth {
  /** By name. */
  readonly #changes = new Map<string, Change>();
  /** Incarnations, and which broker has deleted them. */
  readonly #deletions = new Map<number, Change>();

  /** Nothing is known of the name from now on. */
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

  /** Returns what is to be called when the store forgets what was changed from now on. */
  checkpoint(): () => void {
    const before = new Set([...this.#changes.values(), ...this.#deletions.values()]);
    return () => {
      for (const change of [...this.#changes.values(), ...this.#deletions.values()])
        if (!before.has(change)) change.lost = true;
    };
  }

  /** In the end, as any broker knows it. Throws a Violation. */
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
