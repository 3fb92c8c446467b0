// Consumers that get no new work because they will be stopped: who is meant, and what they still hold, as
// plain data.

/** What a consumer can be named by. */
export interface ConsumerOrigin {
  /** Empty: the consumer gave none, or it pulls. */
  readonly clientId: string;
  /** The IP address that the consumer connects from, in canonical form. Empty: not known. */
  readonly peerAddress: string;
}

export const UNKNOWN_ORIGIN: ConsumerOrigin = { clientId: '', peerAddress: '' };

/** What is known of a consumer whose stream ends here, when it opens. */
export interface OpeningConsumer {
  readonly origin: ConsumerOrigin;
  /** The consumer drains from the beginning. */
  readonly draining: boolean;
  /** Its client has nothing of what it was given before; see DeliveryEvent. */
  readonly fresh: boolean;
}

export interface DrainRequest {
  /** The full name. */
  readonly subscription: string;
  readonly clientIds: readonly string[];
  /** IP addresses in canonical form. */
  readonly peerAddresses: readonly string[];
  /** How long it holds, unless it is repeated; 0: it ends at once. */
  readonly ttlMs: number;
}

export interface DrainingConsumer extends ConsumerOrigin {
  readonly streams: number;
  readonly outstandingMessages: number;
}

export interface DrainReport {
  /** Those with most outstanding messages first; at most MAX_LISTED. */
  readonly consumers: readonly DrainingConsumer[];
  /** The sums are over all draining consumers, listed or not. */
  readonly streams: number;
  readonly outstandingMessages: number;
}

/** Consumers in a report, at most. */
export const MAX_LISTED = 1_000;

export const NOTHING_DRAINS: DrainReport = { consumers: [], streams: 0, outstandingMessages: 0 };

/** One report made of those of several brokers or streams: the same consumer is listed once. */
export function mergeDrainReports(reports: readonly DrainReport[]): DrainReport {
  const merged = new Map<string, DrainingConsumer>();
  let streams = 0;
  let outstandingMessages = 0;
  for (const report of reports) {
    streams += report.streams;
    outstandingMessages += report.outstandingMessages;
    for (const consumer of report.consumers) {
      const key = JSON.stringify([consumer.clientId, consumer.peerAddress]);
      const other = merged.get(key);
      merged.set(key, other === undefined ? consumer : sum(other, consumer));
    }
  }
  const consumers = [...merged.values()].sort((a, b) => b.outstandingMessages - a.outstandingMessages);
  return { consumers: consumers.slice(0, MAX_LISTED), streams, outstandingMessages };
}

function sum(a: DrainingConsumer, b: DrainingConsumer): DrainingConsumer {
  return {
    ...a,
    streams: a.streams + b.streams,
    outstandingMessages: a.outstandingMessages + b.outstandingMessages,
  };
}
