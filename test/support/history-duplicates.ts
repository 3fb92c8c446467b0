// Whether a message of one subscription was rightly handed out once more.
//
// It was if an earlier delivery's lease had ended without an acknowledgement: with its stream (the process or
// the broker was killed), by its deadline, or because its consumer was frozen. It was, too, if there was an
// acknowledgement, but so shortly before a kill that it can't have been recorded: cursors are committed every
// 50 ms, and it must get there first.
import type { Faults, HandedEvent, SubscriberEvent, SubscriptionHistory } from './history-checker.ts';

export type DuplicateReason =
  | 'lease ended with its stream'
  | 'lease expired'
  | 'consumer was frozen'
  | 'ack lost in a kill';

export type DuplicateVerdict = { readonly reason: DuplicateReason } | { readonly problem: string };

/** An acknowledgement older than this at a kill must have been recorded. */
const ACK_RECORDED_MS = 1_000;
/**
 * The share of the ack deadline after which a lease may have expired: it begins when the broker sends, and
 * the message may have been on its way for a while.
 */
const EXPIRED_AFTER = 0.5;

interface Past {
  readonly handed: HandedEvent[];
  readonly acked: { readonly atMs: number; readonly stream: number; readonly consumer: string }[];
}

export class DuplicateJudge {
  readonly #ackDeadlineMs: number;
  readonly #faults: Faults;
  /**
   * When each stream ended: by the kill of its process or of the broker, or otherwise when its process
   * noticed.
   */
  readonly #streamEnds: ReadonlyMap<string, number>;
  readonly #past = new Map<string, Past>();

  constructor({ ackDeadlineMs, events }: SubscriptionHistory, faults: Faults) {
    this.#ackDeadlineMs = ackDeadlineMs;
    this.#faults = faults;
    this.#streamEnds = streamEnds(events, faults);
  }

  acked({ messageId, consumer, atMs }: SubscriberEvent & { readonly kind: 'acked' }): void {
    const past = this.#past.get(messageId);
    const handed = past?.handed.findLast((event) => event.consumer === consumer);
    if (handed !== undefined) past!.acked.push({ atMs, stream: handed.stream, consumer });
  }

  /** Undefined if it is the first time. */
  handed(event: HandedEvent): DuplicateVerdict | undefined {
    const past = this.#past.get(event.messageId);
    if (past === undefined) {
      this.#past.set(event.messageId, { handed: [event], acked: [] });
      return undefined;
    }
    const verdict = this.#judge(event, past);
    past.handed.push(event);
    return verdict;
  }

  #judge(event: HandedEvent, { handed, acked }: Past): DuplicateVerdict {
    const previous = handed.at(-1)!;
    if (this.#concernsFrozen(event, handed)) return { reason: 'consumer was frozen' };
    const recorded = acked.find(({ atMs, consumer, stream }) => {
      const end = this.#endOf(consumer, stream);
      return atMs < end - ACK_RECORDED_MS || event.atMs < end;
    });
    if (recorded !== undefined) {
      return {
        problem: `${event.messageId} was handed to ${nameOf(event)} ${ago(event.atMs, recorded.atMs)} after ${nameOf(recorded)} had acknowledged it, with no kill that could have lost that`,
      };
    }
    if (acked.length > 0) return { reason: 'ack lost in a kill' };
    if (this.#endOf(previous.consumer, previous.stream) <= event.atMs) {
      return { reason: 'lease ended with its stream' };
    }
    if (event.atMs - previous.atMs >= this.#ackDeadlineMs * EXPIRED_AFTER) return { reason: 'lease expired' };
    return {
      problem: `${event.messageId} was handed to ${nameOf(event)} ${ago(event.atMs, previous.atMs)} after it had been handed to ${nameOf(previous)}, whose lease was still open`,
    };
  }

  /**
   * Whether the delivery is due to a freeze. A process that was frozen goes on with what lies in its buffers:
   * deliveries whose leases have expired. Others have had the messages meanwhile, or are about to, with the
   * next attempt.
   */
  #concernsFrozen(event: HandedEvent, handed: readonly HandedEvent[]): boolean {
    const newest = Math.max(...handed.map(({ attempt }) => attempt));
    return this.#faults.freezes.some((freeze) => {
      const wasFrozen = ({ consumer, stream, atMs }: HandedEvent, sinceMs: number): boolean =>
        consumer === freeze.consumer && atMs >= sinceMs && this.#endOf(consumer, stream) >= freeze.toMs;
      if (event.attempt < newest) return wasFrozen(event, freeze.fromMs);
      // What it acknowledged just before counts as well, if that did not get out any more.
      const expiredMs = freeze.fromMs + this.#ackDeadlineMs * EXPIRED_AFTER;
      return (
        event.atMs >= expiredMs &&
        handed.some(
          (past) => past.attempt === event.attempt - 1 && wasFrozen(past, freeze.fromMs - ACK_RECORDED_MS),
        )
      );
    });
  }

  #endOf(consumer: string, stream: number): number {
    return this.#streamEnds.get(nameOf({ consumer, stream })) ?? Number.POSITIVE_INFINITY;
  }
}

function streamEnds(events: readonly SubscriberEvent[], faults: Faults): Map<string, number> {
  const noticed = new Map<string, number>();
  const streams = new Map<string, { readonly consumer: string; readonly stream: number }>();
  for (const event of events) {
    if (event.kind === 'acked') continue;
    streams.set(nameOf(event), event);
    if (event.kind === 'broken') noticed.set(nameOf(event), event.atMs);
  }
  const ends = new Map<string, number>();
  for (const [name, { consumer, stream }] of streams) {
    const killedMs = faults.consumerKills.find((kill) => kill.consumer === consumer)?.atMs;
    const lastMs = noticed.get(name) ?? killedMs ?? Number.POSITIVE_INFINITY;
    const firstMs = noticed.get(nameOf({ consumer, stream: stream - 1 })) ?? Number.NEGATIVE_INFINITY;
    // The broker's end is noticed a little later.
    ends.set(name, faults.brokerKillsMs.find((atMs) => atMs >= firstMs && atMs <= lastMs) ?? lastMs);
  }
  return ends;
}

function nameOf({ consumer, stream }: { readonly consumer: string; readonly stream: number }): string {
  return `${consumer} #${stream}`;
}

function ago(laterMs: number, earlierMs: number): string {
  return `${(laterMs - earlierMs).toFixed(1)} ms`;
}
