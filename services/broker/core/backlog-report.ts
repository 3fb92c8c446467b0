// How far behind one subscription is, in plain numbers: what the engine measures, peers exchange and adapters/grpc/admin
// answers with.

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
  /** Of the consumers. */
  readonly consumersWithoutCredit: number;
  /** Of the messages. */
  readonly blockedMessages: number;
  /** Undefined: not known, or without ordering. */
  readonly activeKeys?: number | undefined;
}
