// Who answers how far behind subscriptions are. The engine's reporter implements it, adapters/grpc/admin.ts asks it.

import type { BacklogReport, PartitionQuestion } from '../../core/backlog-report.ts';

export interface BacklogReporter {
  /**
   * Of the given subscriptions (full names), or of all of the project `parent` ("projects/{project}") if there are none
   * given. One that doesn't exist, or no longer, is left out. With a question, each report has its partitions.
   */
  report(
    parent: string,
    subscriptions: readonly string[],
    question?: PartitionQuestion,
  ): Promise<BacklogReport[]>;

  /**
   * Calls the listener with a subscription's full name whenever it had no backlog and gets its first message. The
   * listener returns at once and does not throw. Returns a function that ends it.
   */
  onFirstMessage(listener: (subscription: string) => void): () => void;
}
