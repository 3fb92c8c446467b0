// Has definitions take up what other brokers write: at once when they signal it, and at a poll in case the signal is lost.
// Started by main.ts where brokers share a store.
import { BrokerError } from '../core/errors.ts';
import type { Clock } from '../ports/clock.ts';
import type { DefinitionStore } from '../ports/definition-store.ts';
import type { Signals } from '../ports/signals.ts';
import type { EngineLogger } from './context.ts';
import type { Definitions } from './definitions.ts';

/** A change is seen everywhere within a second, also when its signal is lost and one question goes unanswered. */
const POLL_MS = 400;

export interface DefinitionWatcherOptions {
  readonly definitions: Pick<Definitions, 'refresh'>;
  readonly store: Pick<DefinitionStore, 'version'>;
  readonly signals: Signals;
  readonly clock: Clock;
  readonly logger: EngineLogger;
}

export class DefinitionWatcher {
  readonly #options: DefinitionWatcherOptions;
  /** What the store had when it was last taken up; undefined: not known. */
  #version: number | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #failing = false;
  #stopped = false;
  #cancelPoll: () => void = () => undefined;
  #unlisten: () => void = () => undefined;

  constructor(options: DefinitionWatcherOptions) {
    this.#options = options;
  }

  /** Once, after definitions.load(). */
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
    const { definitions, store, logger } = this.#options;
    try {
      // Before the list: what is written in between is looked at again rather than missed.
      const version = await store.version();
      if (version === this.#version || this.#stopped) return;
      await definitions.refresh();
      this.#version = version;
      this.#failing = false;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      this.#version = undefined;
      if (!this.#failing)
        logger.warn(
          { reason: error.message },
          'cannot see what other brokers have defined: topics and subscriptions stay as they were until the store answers',
        );
      this.#failing = true;
    }
  }
}
