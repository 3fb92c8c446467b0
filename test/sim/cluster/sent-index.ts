// Everything that publishers of a cluster have sent, and what they were told of it. Filled by publisher.ts, read by the checker.
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import type { SentMessage } from '../log-history.ts';
import { Violation } from '../violation.ts';

/** Runs of a batch as its publisher was told them, with the messages of each. */
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

/** Everything that publishers have sent. */
export class SentIndex {
  readonly #messages = new Map<string, SentMessage>();
  readonly #times = new Map<SentMessage, number>();
  readonly #givenUp = new Set<SentMessage>();
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

  /** It was there before, by the partitions that the topic had then: what comes is a copy. */
  wasElsewhere(message: SentMessage, partition: string): boolean {
    for (const other of this.#partitions.get(message) ?? []) if (other !== partition) return true;
    return false;
  }

  /** What was sent of them may still arrive, after what is sent from now on. */
  givesUp(messages: readonly SentMessage[]): void {
    for (const message of messages) this.#givenUp.add(message);
  }

  isGivenUp(message: SentMessage): boolean {
    return this.#givenUp.has(message);
  }

  /** The publisher has heard that nothing of it was stored. */
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
