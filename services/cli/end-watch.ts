// Notices that a subscription is at its end. With --exit-at-end that is where the end was when the
// command began, however much is published later: everything up to there is settled, printed here,
// or at other consumers, for which nobody waits. With --exit-when-empty it is where nothing is left
// at all, here or elsewhere.
//
// What is printed but not acknowledged yet, since it may lie in a pipe, is counted here: at the end nothing
// else is left. The broker's answer counts only if nothing has changed here since it was asked.
import { delay } from '../client/backoff.ts';
import type { Client } from '../client/client.ts';
import { FanfareError } from '../client/errors.ts';
import type { ReceivedMessage } from '../client/received-message.ts';
import { CliError, EXIT } from './failure.ts';

export type EndMode = 'at end' | 'when empty';

export interface EndWatchOptions {
  readonly client: Client;
  readonly subscription: string;
  readonly clientId: string;
}

/** How often the broker is asked. */
const CHECK_MS = 100;
/** The most partitions that a topic can have (admin.proto). */
const MAX_PARTITIONS = 1024;

export class EndWatch {
  readonly #options: EndWatchOptions;
  /** The end of each partition: what is published later lies behind it. Undefined: everything counts. */
  readonly #ends: readonly number[] | undefined;
  /** Messages from before the end that were received and are not printed yet. */
  readonly #unprinted = new Set<number>();
  /** Those that were printed and are not acknowledged yet. */
  readonly #printed = new Set<number>();
  /** Rises with each change of these two sets. */
  #changes = 0;

  static async begin(mode: EndMode, options: EndWatchOptions): Promise<EndWatch> {
    if (mode === 'when empty') return new EndWatch(options, undefined);
    const partitions = await options.client.admin.getPartitionBacklog(options.subscription).catch(explain);
    return new EndWatch(
      options,
      partitions.map(({ endOffset }) => endOffset),
    );
  }

  private constructor(options: EndWatchOptions, ends: readonly number[] | undefined) {
    this.#options = options;
    this.#ends = ends;
  }

  received(message: ReceivedMessage): void {
    if (this.#ends !== undefined && message.offset >= (this.#ends[message.partition] ?? 0)) return;
    this.#unprinted.add(keyOf(message));
    this.#changes += 1;
  }

  printed(messages: readonly ReceivedMessage[]): void {
    for (const key of messages.map(keyOf)) {
      if (!this.#unprinted.delete(key)) continue;
      this.#printed.add(key);
      this.#changes += 1;
    }
  }

  acknowledged(messages: readonly ReceivedMessage[]): void {
    for (const key of messages.map(keyOf)) if (this.#printed.delete(key)) this.#changes += 1;
  }

  /**
   * Resolves when the end is reached or the signal is aborted. Rejects if the broker
   * can't tell and never will.
   */
  async reached(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#unprinted.size === 0 && (await this.#isAtEnd())) return;
      await delay(CHECK_MS, signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  /** How many messages before the end others have, or are to have. Ask when all of here is acknowledged. */
  async elsewhere(): Promise<number> {
    if (this.#ends === undefined) return 0;
    try {
      return sum((await this.#ask(this.#ends)).map(({ messages }) => messages));
    } catch (error) {
      // The number is only told to people; what was to be printed is printed.
      if (error instanceof FanfareError && error.retriable) return 0;
      throw error;
    }
  }

  async #isAtEnd(): Promise<boolean> {
    const before = this.#changes;
    try {
      const left = await this.#left();
      return before === this.#changes && left <= this.#printed.size;
    } catch (error) {
      // The broker may be away for a moment.
      if (error instanceof FanfareError && error.retriable) return false;
      throw error;
    }
  }

  /** How many messages before the end are here or may still come. */
  async #left(): Promise<number> {
    if (this.#ends !== undefined) {
      const partitions = await this.#ask(this.#ends);
      return sum(partitions.map(({ messages, elsewhereMessages }) => messages - elsewhereMessages));
    }
    const { client, subscription } = this.#options;
    const [backlog] = await client.admin.getBacklog([subscription]);
    return backlog?.messages ?? 0;
  }

  /** Partitions that were added since are left out: they are behind the end. */
  async #ask(beforeOffsets: readonly number[]) {
    const { client, subscription, clientId } = this.#options;
    const partitions = await client.admin.getPartitionBacklog(subscription, { clientId, beforeOffsets });
    return partitions.slice(0, beforeOffsets.length);
  }
}

/** A number that is unique among the messages of a topic. */
function keyOf({ partition, offset }: ReceivedMessage): number {
  return offset * MAX_PARTITIONS + partition;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

function explain(error: unknown): never {
  if (!(error instanceof FanfareError) || error.code !== 'UNIMPLEMENTED') throw error;
  throw new CliError(
    'the broker is older than this command and does not tell where the end is: try --exit-when-empty',
    EXIT.failed,
    { cause: error },
  );
}
