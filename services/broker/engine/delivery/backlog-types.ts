// How far behind subscriptions are, as an interface: at one broker, or in a whole cluster.

import type { BacklogReport, PartitionQuestion } from '../../core/backlog-report.ts';

export interface BacklogReporter {
  /**
   * Reports on the given subscriptions (full names), or, if none are given, on all of the project `parent`
   * ("projects/{project}"). One that doesn't exist, or no longer, is left out. With a question, each report
   * has its partitions. Rejects with UNAVAILABLE if a part is not known: it is never given out as the whole.
   */
  report(
    parent: string,
    subscriptions: readonly string[],
    question?: PartitionQuestion,
  ): Promise<BacklogReport[]>;

  /**
   * Calls the listener with a subscription's full name whenever one of its partitions had no backlog and gets
   * a message. The listener returns at once and does not throw. Returns a function that ends it.
   */
  onFirstMessage(listener: (subscription: string) => void): () => void;
}
