// One life of the broker: the real engine between its start and its crash. Many lives follow each other on
// the same stores.
//
// A crash is `kill()`: from that moment no timer fires, no deferred call runs and no store answers, so
// nothing of this life happens any more. What it had asked of the stores may still reach them, as a request
// on a network may; the ownerEpoch has to fence that off.
import { BrokerError } from '../../services/broker/core/errors.ts';
import { Broker } from '../../services/broker/engine/broker.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { CursorCommit } from '../../services/broker/ports/cursor-store.ts';
import type { Stores } from '../support/memory-store.ts';
import { seededRandom } from '../support/random.ts';
import type { Scenario } from './scenario.ts';
import type { Trace } from './trace.ts';

export interface LifeOptions {
  readonly number: number;
  readonly scenario: Scenario;
  readonly stores: Stores;
  readonly clock: Clock;
  readonly trace: Trace;
  readonly onCommit: (life: Life, commits: readonly CursorCommit[]) => void;
  readonly onCommitEnd: (life: Life) => void;
  /** An error that no store and no caller may ever see. */
  readonly onBug: (error: unknown) => void;
}

/** More calls to the stores and deferred calls than this in one instant can only be a circle. */
const MAX_CALLS_AT_ONCE = 5_000;

export class Life {
  readonly number: number;
  readonly definitions: Definitions;
  readonly broker: Broker;
  /** Whether clients can reach it. */
  ready = false;
  alive = true;
  /**
   * Writes under way, even after its end, that no ownerEpoch fences off: takeovers and definitions. No other
   * life may begin before they have arrived.
   */
  unfencedCalls = 0;
  readonly #options: LifeOptions;
  readonly #deathListeners = new Set<() => void>();
  #timers = 0;
  #calls = 0;
  #instantMs = 0;
  #callsInInstant = 0;

  constructor(options: LifeOptions) {
    this.#options = options;
    this.number = options.number;
    const { scenario, trace } = options;
    const clock = this.#mortalClock();
    const stores = this.#mortalStores();
    const say = (fields: object, message: string): void => {
      if (trace.on) trace.say(`broker ${this.number}`, `${message} ${JSON.stringify(fields)}`);
    };
    this.definitions = new Definitions({
      store: stores.definitions,
      clock,
      durability: { supported: ['fsync', 'memory'], default: 'fsync' },
      currentEnds: (topic) => this.broker.currentEnds(topic),
      audit: ({ verb, resource, result }) => say({ verb, resource, result }, 'audit'),
      onWarning: (message, fields) => say(fields, message),
    });
    this.broker = new Broker({
      ...stores,
      definitions: this.definitions,
      clock,
      random: seededRandom(scenario.seed + this.number),
      limits: scenario.limits,
      logger: { info: say, warn: say, error: say },
      maxPullBytes: scenario.maxPullBytes,
      maxConsumersPerSubscription: 100,
    });
  }

  /**
   * Starts as main.ts does. Rejects with a BrokerError if the stores don't let it; stays pending if it is
   * killed meanwhile.
   */
  async start(): Promise<void> {
    await this.definitions.load();
    await this.broker.start();
    this.ready = true;
  }

  kill(): void {
    if (!this.alive) return;
    this.alive = false;
    this.ready = false;
    for (const listener of [...this.#deathListeners]) listener();
    this.#deathListeners.clear();
  }

  /** Timers and calls to the stores that have not come to an end: none after a graceful stop. */
  get pending(): number {
    return this.#timers + this.#calls;
  }

  /** Calls the listener at the end of this life. Returns a function that removes it. */
  onDeath(listener: () => void): () => void {
    this.#deathListeners.add(listener);
    return () => this.#deathListeners.delete(listener);
  }

  #mortalClock(): Clock {
    const { clock } = this.#options;
    const mortal = (fn: () => void) => (): void => {
      if (this.alive) fn();
    };
    return {
      nowMs: () => clock.nowMs(),
      monotonicMs: () => clock.monotonicMs(),
      defer: (fn) => {
        this.#meter();
        clock.defer(mortal(fn));
      },
      setTimer: (delayMs, fn) => {
        let set = true;
        const ended = (): void => {
          if (set) this.#timers -= 1;
          set = false;
          forget();
        };
        this.#timers += 1;
        const cancel = clock.setTimer(delayMs, () => {
          ended();
          mortal(fn)();
        });
        const forget = this.onDeath(cancel);
        return () => {
          ended();
          cancel();
        };
      },
    };
  }

  #mortalStores(): Stores {
    const { log, cursors, definitions, ownership } = this.#options.stores;
    return {
      log: {
        bounds: this.#mortal(log.bounds),
        append: this.#mortal(log.append),
        confirm: this.#mortal(log.confirm),
        read: this.#mortal(log.read),
        describe: this.#mortal(log.describe),
        trim: this.#mortal(log.trim),
        skip: this.#mortal(log.skip),
        skipped: this.#mortal(log.skipped),
        drop: this.#mortal(log.drop),
      },
      cursors: {
        load: this.#mortal(cursors.load),
        drop: this.#mortal(cursors.drop),
        commit: this.#mortal(async (commits) => {
          this.#options.onCommit(this, commits);
          try {
            return await cursors.commit(commits);
          } finally {
            this.#options.onCommitEnd(this);
          }
        }),
      },
      definitions: {
        list: this.#mortal(() => definitions.list()),
        version: this.#mortal(() => definitions.version()),
        get: this.#mortal((kind, name) => definitions.get(kind, name)),
        put: this.#mortal(this.#unfenced((...args) => definitions.put(...args))),
        remove: this.#mortal(
          this.#unfenced((kind, name, revision) => definitions.remove(kind, name, revision)),
        ),
        removals: this.#mortal(() => definitions.removals()),
        nextIncarnation: this.#mortal((above) => definitions.nextIncarnation(above)),
      },
      ownership: {
        acquire: this.#mortal(this.#unfenced(ownership.acquire)),
        describe: this.#mortal(ownership.describe),
        release: this.#mortal(ownership.release),
      },
    };
  }

  #unfenced<A extends unknown[], T>(call: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
    return async (...args) => {
      this.unfencedCalls += 1;
      try {
        return await call(...args);
      } finally {
        this.unfencedCalls -= 1;
      }
    };
  }

  /** The call as the living see it: it is answered only while this life lasts. */
  #mortal<A extends unknown[], T>(call: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
    return (...args) =>
      new Promise((resolve, reject) => {
        if (!this.alive) return;
        this.#meter();
        this.#calls += 1;
        call(...args).then(
          (value) => {
            this.#calls -= 1;
            if (this.alive) resolve(value);
          },
          (error: unknown) => {
            this.#calls -= 1;
            if (!(error instanceof BrokerError)) this.#options.onBug(error);
            if (this.alive) reject(error);
          },
        );
      });
  }

  #meter(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs !== this.#instantMs) {
      this.#instantMs = nowMs;
      this.#callsInInstant = 0;
    }
    this.#callsInInstant += 1;
    if (this.#callsInInstant <= MAX_CALLS_AT_ONCE) return;
    this.#options.onBug(new Error(`${MAX_CALLS_AT_ONCE} calls in one instant: the engine runs in a circle`));
    this.kill();
  }
}
