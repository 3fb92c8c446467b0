// Makes definitions take up what other brokers write, and put right what the store has forgotten: at once on
// a signal, and on a poll in case the signal is lost.
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Signals } from '../../ports/signals.ts';
import type { EngineLogger } from '../context.ts';
import type { Definitions } from './definitions.ts';

/**
 * A change is seen everywhere within a second, also when its signal is lost and one question goes unanswered.
 */
const POLL_MS = 400;

export interface DefinitionWatcherOptions {
  readonly definitions: Pick<Definitions, 'refresh'>;
  readonly signals: Signals;
  readonly clock: Clock;
  readonly logger: EngineLogger;
}

export class DefinitionWatcher {
  readonly #options: DefinitionWatcherOptions;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #failing = false;
  #stopped = false;
  #cancelPoll: () => void = () => undefined;
  #unlisten: () => void = () => undefined;

  constructor(options: DefinitionWatcherOptions) {
    this.#options = options;
  }

  /** To be called once, after definitions.load(). */
  start(): void {
    const look = (): void => this.look();
    this.#unlisten = this.#options.signals.listen((kind) => kind === 'definitions' && look(), look);
    this.#poll();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelPoll();
    this.#unlisten();
    await this.#looking;
  }

  /** Looks now. Any number of calls at a time cost one or two questions. */
  look(): void {
    if (this.#stopped) return;
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined;
      if (!this.#lookAgain) return;
      this.#lookAgain = false;
      this.look();
    });
  }

  #poll(): void {
    this.look();
    this.#cancelPoll = this.#options.clock.setTimer(POLL_MS, () => this.#poll());
  }

  async #look(): Promise<void> {
    const { definitions, logger } = this.#options;
    try {
      await definitions.refresh();
      this.#failing = false;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      // The next poll tries again.
      if (!this.#failing)
        logger.warn(
          { reason: error.message },
          'cannot see what other brokers have defined: topics and subscriptions stay as they were until the store answers',
        );
      this.#failing = true;
    }
  }
}
