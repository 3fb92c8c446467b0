// How far behind subscriptions are, in plain numbers. The engine's reporter implements it, adapters/grpc/admin.ts asks it.

/** See admin.proto's Backlog; counters begin at 0 when the broker takes over a partition. */
export interface BacklogReport {
  readonly subscription: string;
  readonly topic: string;
  readonly messages: number;
  readonly bytes: number;
  readonly outstandingMessages: number;
  /** Undefined without backlog. */
  readonly oldestUnackedAgeMs?: number | undefined;
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly deliveredTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  readonly expiredByRetentionTotal: number;
  readonly measureTimeMs: number;
}

export interface BacklogReporter {
  /**
   * Of the given subscriptions (full names), or of all of the project `parent` ("projects/{project}") if there are none
   * given. One that doesn't exist, or no longer, is left out.
   */
  report(parent: string, subscriptions: readonly string[]): Promise<BacklogReport[]>;

  /**
   * Calls the listener with a subscription's full name whenever it had no backlog and gets its first message. The
   * listener returns at once and does not throw. Returns a function that ends it.
   */
  onFirstMessage(listener: (subscription: string) => void): () => void;
}
