// What a consumer has settled, on its way to the broker: what is to be told, and what was told in the last
// seconds and is told again on the next stream. All of it is about one incarnation of the subscription: what
// was settled of a deleted one is not told to the one that has its name now.
import type { Leases } from './consumer-stream.ts';
import type { MessagePlace, MessageRange } from './frames.ts';
import { RecentSettlements } from './recent-settlements.ts';
import { Settlements } from './settlements.ts';
import { ACK_RANGES, encodeAcknowledge, encodeRanges, MAX_RANGES, NACK_RANGES } from './subscribe-codec.ts';

export class OutgoingSettles {
  readonly #acks = new Settlements();
  readonly #nacks = new Settlements();
  readonly #recentAcks = new RecentSettlements();
  readonly #recentNacks = new RecentSettlements();
  /** The incarnation of the subscription that all of it is about; 0: not known. */
  #incarnation = 0;
  /** The bytes of what is acknowledged and not told. */
  ackedBytes = 0;

  get incarnation(): number {
    return this.#incarnation;
  }

  get ackedMessages(): number {
    return this.#acks.messages;
  }

  /**
   * Tells which incarnation the broker has named. True: another one than before; what was
   * settled of that is void.
   */
  belongsTo(incarnation: number): boolean {
    const isAnother = this.#incarnation !== 0 && this.#incarnation !== incarnation;
    if (isAnother) {
      this.#acks.drain();
      this.#nacks.drain();
      this.#recentAcks.clear();
      this.#recentNacks.clear();
      this.ackedBytes = 0;
    }
    this.#incarnation = incarnation;
    return isAnother;
  }

  ack(
    leases: Leases,
    logEpoch: number,
    partition: number,
    firstOffset: number,
    lastOffset: number,
    bytes: number,
  ): void {
    if (this.#isOfAnother(leases)) return;
    this.#acks.add(logEpoch, partition, firstOffset, lastOffset);
    this.ackedBytes += bytes;
  }

  nack(leases: Leases, range: MessageRange): void {
    if (this.#isOfAnother(leases)) return;
    this.#nacks.addRanges([range]);
    const { logEpoch, partition, firstOffset } = range;
    // Whatever was acknowledged at this place is not what is given back now. Only raw consumers give back
    // longer ranges, and they don't ask wasAcked().
    if (firstOffset !== range.lastOffset) return;
    this.#acks.remove(logEpoch, partition, firstOffset);
    this.#recentAcks.remove(logEpoch, partition, firstOffset);
  }

  /** Whether the message was acknowledged here in the last seconds. */
  wasAcked({ logEpoch, partition, offset }: MessagePlace): boolean {
    return this.#acks.has(logEpoch, partition, offset) || this.#recentAcks.has(logEpoch, partition, offset);
  }

  /** Requests with what is to be told. */
  take(): Buffer[] {
    this.ackedBytes = 0;
    const acks = this.#acks.isEmpty ? [] : this.#acks.drain();
    const nacks = this.#nacks.isEmpty ? [] : this.#nacks.drain();
    this.#recentAcks.add(acks);
    // A nack that names no delivery is not told again: it would concern the next delivery.
    this.#recentNacks.add(nacks.filter(({ deliveryAttempt }) => deliveryAttempt !== undefined));
    return [...this.#requests(ACK_RANGES, acks), ...this.#requests(NACK_RANGES, nacks)];
  }

  /**
   * Requests for the beginning of a stream, before the broker can deliver anything: what is to be told, and
   * once more what was told on a stream that may not have heard of it. Without the leases of the stream
   * before, there is nothing to give back.
   */
  takeAgain(keepsLeases: boolean): Buffer[] {
    this.take();
    if (!keepsLeases) this.#recentNacks.clear();
    return [
      ...this.#requests(ACK_RANGES, this.#recentAcks.ranges()),
      ...this.#requests(NACK_RANGES, this.#recentNacks.ranges()),
    ];
  }

  /** The leases are gone: there is nothing to give back. */
  dropNacks(): void {
    this.#nacks.drain();
    this.#recentNacks.clear();
  }

  /** AcknowledgeRequests with all acknowledgements that takeAgain() would tell. */
  acknowledgeRequests(subscription: string): Buffer[] {
    this.take();
    return pagesOf(this.#recentAcks.ranges()).map((ranges) =>
      encodeAcknowledge(subscription, ranges, this.#incarnation),
    );
  }

  #requests(field: number, ranges: readonly MessageRange[]): Buffer[] {
    const incarnation = this.#incarnation;
    return pagesOf(ranges).map((page) => encodeRanges(field, page, { incarnation }));
  }

  /** Whether the leases are of another incarnation. Leases name theirs once the broker has. */
  #isOfAnother({ incarnation }: Leases): boolean {
    if (incarnation === 0) return false;
    if (this.#incarnation === 0) this.#incarnation = incarnation;
    return incarnation !== this.#incarnation;
  }
}

/** Cuts ranges into as many as a request may hold. */
export function pagesOf(ranges: readonly MessageRange[]): (readonly MessageRange[])[] {
  if (ranges.length === 0) return [];
  if (ranges.length <= MAX_RANGES) return [ranges];
  const pages: MessageRange[][] = [];
  for (let from = 0; from < ranges.length; from += MAX_RANGES)
    pages.push(ranges.slice(from, from + MAX_RANGES));
  return pages;
}
