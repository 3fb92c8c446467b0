// Messages of the durability `memory` that an owner has answered, and can't store any more because its
// partition has gone: brought to the next owners, again and again, until one has taken them over. So only the
// end of a process loses them.
//
// Bounded in bytes by what may be published and not stored in the whole broker, of which they are part, and
// in time.
import { type Slice, sliceBytes, sliceLength } from '../../core/chunk.ts';
import type { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import { hold } from '../admission.ts';
import type { EngineContext } from '../context.ts';

export interface PassedOnMessages {
  /** Where they were answered. */
  readonly partition: PartitionId;
  readonly slice: Slice;
  /** Whether their topic is still there. */
  isWanted(): boolean;
  /**
   * Brings them to the present owners. One of the two is called, once; after `failed` they may have been
   * stored all the same.
   */
  bring(done: () => void, failed: (error: BrokerError) => void): void;
}

interface Held extends PassedOnMessages {
  /** Ends their counting. */
  readonly release: () => void;
}

/** Between two tries. */
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2_000;
const GIVE_UP_MS = 300_000;

export class PassedOn {
  readonly #context: EngineContext;
  #left = 0;
  #stopped = false;
  /** Of those that wait for the next try. */
  readonly #waiting = new Set<() => void>();
  #ended: (() => void)[] = [];

  constructor(context: EngineContext) {
    this.#context = context;
  }

  take(messages: PassedOnMessages): void {
    this.#left += 1;
    const release = hold(this.#context.stats, sliceBytes(messages.slice));
    this.#bring({ ...messages, release }, FIRST_RETRY_MS, this.#context.clock.monotonicMs() + GIVE_UP_MS);
  }

  /** Resolves when nothing is left. */
  async ended(): Promise<void> {
    while (this.#left > 0) await new Promise<void>((resolve) => this.#ended.push(resolve));
  }

  /** From now on nothing is tried again. */
  stop(): void {
    this.#stopped = true;
    for (const tryNow of [...this.#waiting]) tryNow();
  }

  #bring(messages: Held, delayMs: number, untilMs: number): void {
    if (!messages.isWanted()) {
      this.#over(messages);
      return;
    }
    messages.bring(
      () => this.#over(messages),
      (error) => {
        const { clock, logger } = this.#context;
        if (error.retriable && !this.#stopped && clock.monotonicMs() < untilMs) {
          this.#later(delayMs, () => this.#bring(messages, Math.min(delayMs * 2, MAX_RETRY_MS), untilMs));
          return;
        }
        const { partition, slice } = messages;
        if (messages.isWanted())
          logger.error(
            {
              partition: formatPartitionId(partition),
              messages: sliceLength(slice),
              reason: error.message,
            },
            'messages of the durability memory are lost with their owner',
          );
        this.#over(messages);
      },
    );
  }

  #later(delayMs: number, then: () => void): void {
    const tryNow = (): void => {
      cancel();
      this.#waiting.delete(tryNow);
      then();
    };
    const cancel = this.#context.clock.setTimer(delayMs, tryNow);
    this.#waiting.add(tryNow);
  }

  #over({ release }: Held): void {
    this.#left -= 1;
    release();
    if (this.#left === 0) for (const resolve of this.#ended.splice(0)) resolve();
  }
}
