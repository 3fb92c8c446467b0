// What the broker has done since it started: plain numbers, because they are counted on the hot path (a
// counter call of a metrics library costs 350 ns, this costs one).
export interface Stats {
  publishRequests: number;
  publishedMessages: number;
  publishedBytes: number;
  refusedPublishes: number;
  appends: number;
  appendedChunks: number;
  appendFailures: number;
  /** Appends whose outcome had to be found out by reading the tail. */
  unknownOutcomes: number;
  /** Partitions that were found to be another broker's by a refused write. */
  lostClaims: number;
  /** Messages appended again because the store had forgotten them. */
  restoredMessages: number;
  deliveredMessages: number;
  deliveredBytes: number;
  redeliveredMessages: number;
  /** Writes to consumers' streams. */
  deliveryWrites: number;
  ackedMessages: number;
  nackedMessages: number;
  expiredLeases: number;
  cursorCommits: number;
  cursorCommitFailures: number;
  trimmedChunks: number;
  slowConsumers: number;
  /** From here on gauges. */
  consumers: number;
  uncommittedBytes: number;
  /** Damaged places in logs that are owned here, as far as anybody has tried to read them. */
  damagedRanges: number;
}

export function createStats(): Stats {
  return {
    publishRequests: 0,
    publishedMessages: 0,
    publishedBytes: 0,
    refusedPublishes: 0,
    appends: 0,
    appendedChunks: 0,
    appendFailures: 0,
    unknownOutcomes: 0,
    lostClaims: 0,
    restoredMessages: 0,
    deliveredMessages: 0,
    deliveredBytes: 0,
    redeliveredMessages: 0,
    deliveryWrites: 0,
    ackedMessages: 0,
    nackedMessages: 0,
    expiredLeases: 0,
    cursorCommits: 0,
    cursorCommitFailures: 0,
    trimmedChunks: 0,
    slowConsumers: 0,
    consumers: 0,
    uncommittedBytes: 0,
    damagedRanges: 0,
  };
}
