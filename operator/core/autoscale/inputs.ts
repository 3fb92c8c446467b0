// What a decision is made from: plain data, all of it observed.
import type { Load } from './rates.ts';

export interface AutoscaleInputs {
  /** How many the target is set to, as its /scale says. */
  readonly currentReplicas: number;
  /** How many of them are ready. */
  readonly readyReplicas: number;
  /** Undefined: nothing was ever heard. Unknown is not zero. */
  readonly load?: Load | undefined;
  /** Of the topic. Undefined: not known, which bounds nothing. */
  readonly partitions: number | undefined;
  /** Messages of one ordering key go to one consumer at a time. */
  readonly ordered: boolean;
  /** Ordering keys with work, where the broker says so. */
  readonly activeKeys?: number | undefined;
  /**
   * How many of `load.messages` no number of consumers would speed up, where the broker says so; else it is
   * inferred.
   */
  readonly blockedMessages?: number | undefined;
  /**
   * Consumers that have no credit left, where the broker says so; else it is inferred from what they hold.
   */
  readonly busyConsumers?: number | undefined;
  /**
   * The revision of the target's pod template. With another one, what consumers hold at once is learned anew.
   */
  readonly targetRevision?: string | undefined;
  /** What the namespace's budget leaves for this target. */
  readonly budgetReplicas?: number | undefined;
}
