// Everything that publishers of a cluster have sent, and how often.
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import type { SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';

/** The runs of a batch as its publisher was told them, with the messages of each. */
export function* byRun(
  messages: readonly SentMessage[],
  runs: readonly PublishedRun[],
): Iterable<{ partition: number; firstOffset: number; messages: readonly SentMessage[] }> {
  let from = 0;
  for (const { partition, firstOffset, count } of runs) {
    yield { partition, firstOffset, messages: messages.slice(from, from + count) };
    from += count;
  }
  if (from !== messages.length)
    throw new Violation(`a publisher was told of ${from} messages instead of ${messages.length}`);
}

export class SentIndex {
  readonly #messages = new Map<string, SentMessage>();
  readonly #times = new Map<SentMessage, number>();
  readonly #firstMs = new Map<SentMessage, number>();
  readonly #givenUp = new Set<SentMessage>();
  /**
   * Of topics with the durability `memory`: members that have had the message, from a publisher or a relay.
   */
  readonly #had = new Map<SentMessage, Set<string>>();
  /** Members that have lost a partition and bring what they had for it to the next owner. */
  readonly #bringers = new Set<string>();
  /** In the logs of which partitions they have come to be. */
  readonly #partitions = new Map<SentMessage, Set<string>>();

  get(identity: string): SentMessage | undefined {
    return this.#messages.get(identity);
  }

  timesSent(message: SentMessage): number {
    return this.#times.get(message) ?? 0;
  }

  appended(message: SentMessage, partition: string): void {
    const partitions = this.#partitions.get(message) ?? new Set();
    this.#partitions.set(message, partitions.add(partition));
  }

  /**
   * Whether the message is already in another partition, by the number of partitions that the topic had then:
   * what comes is a copy.
   */
  wasElsewhere(message: SentMessage, partition: string): boolean {
    for (const other of this.#partitions.get(message) ?? []) if (other !== partition) return true;
    return false;
  }

  /** The publisher gives up: what it has sent of these may still arrive, after what it sends from now on. */
  givesUp(messages: readonly SentMessage[]): void {
    for (const message of messages) this.#givenUp.add(message);
  }

  isGivenUp(message: SentMessage): boolean {
    return this.#givenUp.has(message);
  }

  /** The publisher has heard that nothing of these was stored. */
  refused(messages: readonly SentMessage[]): void {
    for (const message of messages) this.#times.set(message, this.timesSent(message) - 1);
  }

  /** The member has it, and may answer before it is stored. */
  had(memberId: string, message: SentMessage): void {
    const members = this.#had.get(message) ?? new Set();
    this.#had.set(message, members.add(memberId));
  }

  passesOn(memberId: string): void {
    this.#bringers.add(memberId);
  }

  /** A member may bring it late, and again and again without knowing whether it is stored already. */
  isPassedOn(message: SentMessage): boolean {
    if (this.#bringers.size === 0) return false;
    for (const member of this.#had.get(message) ?? []) if (this.#bringers.has(member)) return true;
    return false;
  }

  wasStored(message: SentMessage): boolean {
    return this.#partitions.has(message);
  }

  firstSentMs(message: SentMessage): number {
    return this.#firstMs.get(message) ?? 0;
  }

  sending(messages: readonly SentMessage[], nowMs: number): void {
    for (const message of messages) {
      if (!this.#firstMs.has(message)) this.#firstMs.set(message, nowMs);
      this.#messages.set(message.identity, message);
      this.#times.set(message, this.timesSent(message) + 1);
    }
  }
}
