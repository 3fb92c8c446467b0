// Notices that a subscription is at its end. The end is where it was when the command began, however much is published later
// (--exit-at-end): everything up to there is settled, printed here, or at other consumers, for whom nobody waits. Or it is where
// nothing is left at all, there or elsewhere (--exit-when-empty).
//
// What is printed but not acknowledged yet, as it may lie in a pipe, is counted here: at the end nothing else is left. The broker's
// answer counts only if nothing has changed here since it was asked.
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
/** A topic has at most this many (admin.proto). */
const MAX_PARTITIONS = 1024;

export class EndWatch {
  readonly #options: EndWatchOptions;
  /** By partition: what is published later lies behind them. Undefined: everything counts, whenever it was published. */
  readonly #ends: readonly number[] | undefined;
  /** Received before the end, and not printed yet. */
  readonly #unprinted = new Set<number>();
  /** Printed, and not acknowledged yet. */
  readonly #printed = new Set<number>();
  /** Rises with each change of them. */
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

  /** Resolves when the end is reached, or the signal is aborted. Rejects if the broker can't tell, for a reason that stays. */
  async reached(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#unprinted.size === 0 && (await this.#isAtEnd())) return;
      await delay(CHECK_MS, signal).catch((error) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  /** When everything here is acknowledged: how many messages before the end others have, or are to have. */
  async elsewhere(): Promise<number> {
    if (this.#ends === undefined) return 0;
    try {
      return sum((await this.#ask(this.#ends)).map(({ messages }) => messages));
    } catch (error) {
      // Only to be told; what was to be printed is printed.
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

  /** Messages before the end that are here or may still come. */
  async #left(): Promise<number> {
    if (this.#ends !== undefined) {
      const partitions = await this.#ask(this.#ends);
      return sum(partitions.map(({ messages, elsewhereMessages }) => messages - elsewhereMessages));
    }
    const { client, subscription } = this.#options;
    const [backlog] = await client.admin.getBacklog([subscription]);
    return backlog?.messages ?? 0;
  }

  /** Partitions that have come since are behind the end. */
  async #ask(beforeOffsets: readonly number[]) {
    const { client, subscription, clientId } = this.#options;
    const partitions = await client.admin.getPartitionBacklog(subscription, { clientId, beforeOffsets });
    return partitions.slice(0, beforeOffsets.length);
  }
}

/** A number for each message of a topic. */
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
