// Everything that publishers of a cluster have sent, and how often.
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import type { SentMessage } from '../log-history.ts';
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
  readonly #givenUp = new Set<SentMessage>();
  /** The partitions whose logs have had the message. */
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

  sending(messages: readonly SentMessage[]): void {
    for (const message of messages) {
      this.#messages.set(message.identity, message);
      this.#times.set(message, this.timesSent(message) + 1);
    }
  }
}
