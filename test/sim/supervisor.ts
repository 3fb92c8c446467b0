// Keeps a broker running, as a supervisor does with a process: starts one whenever there is none, stops or
// kills it when told to. There is never more than one.
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { Stores } from '../support/memory-store.ts';
import { Life } from './life.ts';
import type { World } from './world.ts';

export class Supervisor {
  /** Undefined while there is none. */
  life: Life | undefined;
  /** How many lives there were so far. */
  lives = 0;
  readonly #world: World;
  readonly #stores: Stores;
  readonly #onReady: (life: Life) => void;
  #lastLife: Life | undefined;

  /** `stores` are the stores as the engine sees them. */
  constructor(world: World, stores: Stores, onReady: (life: Life) => void) {
    this.#world = world;
    this.#stores = stores;
    this.#onReady = onReady;
  }

  start(): void {
    this.#world.spawn(this.#keepAlive());
  }

  crash(): void {
    if (this.life === undefined) return;
    this.#say(`life ${this.life.number} is killed`);
    this.#bury(this.life, false);
  }

  /** Resolves when it has stopped, or was killed meanwhile. */
  async stopGracefully(): Promise<void> {
    const { life } = this;
    if (life?.ready !== true) return;
    this.#say(`life ${life.number} is asked to stop`);
    this.#world.checker.stopping();
    await this.#world
      .call(life, () => life.broker.stop())
      .catch((error: unknown) => {
        if (!(error instanceof BrokerError)) throw error;
      });
    if (!life.alive) return;
    this.#say(`life ${life.number} has stopped`);
    this.#bury(life, true);
  }

  async #keepAlive(): Promise<void> {
    const chance = this.#world.chance.fork();
    while (!this.#world.over) {
      if (this.life === undefined) await this.#live();
      await this.#world.sleep(chance.scale(1, 400));
    }
  }

  async #live(): Promise<void> {
    // A takeover that arrives late from a dead broker would depose the living one, so it is waited for.
    while ((this.#lastLife?.unfencedCalls ?? 0) > 0) await this.#world.sleep(1);
    const life = this.#make();
    this.life = life;
    this.#lastLife = life;
    this.#world.checker.lifeBegins(life.number);
    try {
      await this.#world.call(life, () => life.start());
      this.#say(`life ${life.number} is ready`);
      this.#onReady(life);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      if (!life.alive) return;
      this.#say(`life ${life.number} could not start: ${error.message}`);
      this.#bury(life, false);
    }
  }

  #make(): Life {
    const { scenario, clock, trace, checker } = this.#world;
    this.lives += 1;
    return new Life({
      number: this.lives,
      scenario,
      stores: this.#stores,
      clock,
      trace,
      onCommit: (from, commits) => {
        if (from === this.life) checker.commitBegun(commits);
        this.#say(`life ${from.number} commits ${commits.length} cursors`);
      },
      onCommitEnd: (from) => {
        if (from === this.life) checker.commitEnded();
        this.#say(`life ${from.number} has an answer to its commit`);
      },
      onBug: (error) => this.#world.fail(error),
    });
  }

  #bury(life: Life, graceful: boolean): void {
    this.#world.checker.lifeEnds(graceful, life.ready ? life.definitions.subscriptions() : []);
    this.life = undefined;
    life.kill();
  }

  #say(what: string): void {
    if (this.#world.trace.on) this.#world.say('supervisor', what);
  }
}
