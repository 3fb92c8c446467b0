// One simulated world: the stores, the broker's lives on them, everybody who talks to it, and the checker
// that watches. It runs in one thread, on virtual time, with all chance from the scenario's seed.
//
//   begin   the scenario's definitions are put into the stores
//   chaos   actors at work, the weather as planned
//   drain   no more faults: everybody becomes well-behaved, and everything published must be settled in
//           bounded time
//   end     a graceful stop, another life that must have nothing to deliver, and nothing may be left pending
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { type FaultyStores, withFaults } from '../support/faulty-store.ts';
import { createSharedMemory, type SharedMemory, type Stores } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { Checker } from './checker.ts';
import { SimConsumer } from './consumer.ts';
import { putDefinitions } from './first-definitions.ts';
import type { Life } from './life.ts';
import { observed, type StoreObserver } from './observed-store.ts';
import { Operator } from './operator.ts';
import { Chance } from './prng.ts';
import { SimPublisher } from './publisher.ts';
import { SimPuller } from './puller.ts';
import { DAY_MS, type Scenario, type SubscriptionPlan } from './scenario.ts';
import { Supervisor } from './supervisor.ts';
import { Trace } from './trace.ts';
import { Violation } from './violation.ts';
import { Weatherman } from './weatherman.ts';

const SLICE_MS = 50;
/** The time after the last fault in which everything is settled, however often it is redelivered first. */
const DRAIN_MS = 300_000;
/** The longest time from append to delivery, for consumers that are quick, whatever the others do. */
const PROMPT_MS = 2_000;
const STOP_MS = 60_000;
/** Longer than any timer that the broker or an actor sets. */
const LAST_TIMER_MS = 40_000;
/** By how much the cache may exceed its bound: one chunk, with its overhead. */
const CACHE_SLACK_BYTES = 16_000;

export type Phase = 'chaos' | 'drain' | 'end';

export interface WorldOptions {
  readonly traced?: boolean;
  /** Puts a lie between the engine and its stores, to see that the checker notices. */
  readonly sabotage?: (stores: Stores) => Stores;
}

export class World {
  readonly scenario: Scenario;
  readonly clock = new VirtualClock();
  readonly trace: Trace;
  readonly checker: Checker;
  readonly chance: Chance;
  phase: Phase = 'chaos';
  readonly supervisor: Supervisor;
  readonly stores: FaultyStores;
  readonly publishers: SimPublisher[] = [];
  readonly memory: SharedMemory;
  /** The stores without faults, under the checker's eyes. */
  readonly plain: Stores;
  readonly #consumers: (SimConsumer | SimPuller)[] = [];
  readonly #operator: Operator;
  #failure: unknown;
  /** Activities of actors that have not come to an end. */
  #running = 0;

  constructor(scenario: Scenario, { traced = false, sabotage = (stores) => stores }: WorldOptions) {
    this.scenario = scenario;
    this.trace = new Trace(traced, this.clock);
    this.chance = new Chance(scenario.seed ^ 0x5eed);
    this.checker = new Checker({ clock: this.clock, ...scenario.limits });
    const storeChance = this.chance.fork();
    const [minMs, maxMs] = scenario.storeLatencyMs;
    this.memory = createSharedMemory({
      clock: this.clock,
      latencyMs: () => storeChance.int(minMs, maxMs),
      capacityBytes: scenario.storeCapacityBytes,
    });
    this.plain = observed(this.memory.open('this-broker'), this.#observer());
    this.stores = withFaults(this.plain, storeChance.random, this.clock);
    this.#operator = new Operator(this);
    this.supervisor = new Supervisor(this, sabotage(this.stores), (life) =>
      this.#operator.checkDefinitions(life),
    );
  }

  async run(): Promise<void> {
    await this.#begin();
    for (let ms = 0; ms < this.scenario.chaosMs; ms += SLICE_MS) await this.#slice();
    await this.#drain();
    await this.#end();
  }

  get over(): boolean {
    return this.phase === 'end' || this.#failure !== undefined;
  }

  /** Sleeps for whole milliseconds, like timers of the real clock. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.setTimer(Math.ceil(ms), resolve));
  }

  say(who: string, what: string): void {
    if (this.#failure === undefined) this.trace.say(who, what);
  }

  /** The first failure counts; the run ends with it. */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.say('FAILURE', error instanceof Error ? error.message : String(error));
    this.#failure = error ?? new Error('failed');
  }

  /** Runs something beside everything else that ends when the world is over. */
  spawn(activity: Promise<void>): void {
    this.#running += 1;
    activity.then(
      () => {
        this.#running -= 1;
      },
      (error: unknown) => this.fail(error),
    );
  }

  /** Calls the broker; rejects with UNAVAILABLE when its life ends first. */
  call<T>(life: Life, call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const forget = life.onDeath(() => reject(new BrokerError('UNAVAILABLE', 'the connection is lost')));
      call().then(resolve, reject).finally(forget);
    });
  }

  /** A life that clients can reach. */
  reachable(): Life | undefined {
    const { life } = this.supervisor;
    return life?.ready === true ? life : undefined;
  }

  /** Starts consumers for a subscription; they come back whatever happens, until the world is over. */
  populate(plan: SubscriptionPlan): void {
    for (const consumer of plan.consumers) this.#consumers.push(new SimConsumer(this, plan, consumer));
    for (let nth = 0; nth < plan.pullers; nth += 1) this.#consumers.push(new SimPuller(this, plan, nth));
  }

  #observer(): StoreObserver {
    const { checker, trace } = this;
    return {
      appended: (id, chunks) => checker.appended(id, chunks),
      dropped: (logEpoch) => checker.dropped(logEpoch),
      committed: (commits, stale) => checker.committed(commits, stale),
      trimmed: (id, bounds) => {
        if (trace.on) this.say('store', `${id.logEpoch}.${id.partition} begins at ${bounds.headOffset}`);
        this.#checkAge(id);
        checker.trimmed(id, bounds);
      },
    };
  }

  /** With a retention of a day nothing may be trimmed, whatever the clock was set to. */
  #checkAge({ logEpoch, partition }: PartitionId): void {
    const topics = [...(this.supervisor.life?.definitions.topics() ?? [])];
    const topic = topics.find((each) => each.logEpoch === logEpoch);
    if (topic?.retentionMs === DAY_MS && topic.retentionBytesPerPartition === 0)
      this.fail(new Violation(`${topic.name}: retention deletes from partition ${partition} what is young`));
  }

  async #begin(): Promise<void> {
    let ready = false;
    this.spawn(
      putDefinitions(this.plain.definitions, this.scenario.topics).then(() => {
        ready = true;
      }),
    );
    await this.clock.runUntil(() => ready);
    this.supervisor.start();
    for (const topic of this.scenario.topics) {
      for (const subscription of topic.subscriptions) this.populate(subscription);
      for (const plan of topic.publishers) this.publishers.push(new SimPublisher(this, topic.name, plan));
    }
    new Weatherman(this).start();
    this.#operator.start();
  }

  async #slice(): Promise<void> {
    await this.clock.advance(SLICE_MS);
    if (this.#failure !== undefined) throw this.#failure;
    const life = this.reachable();
    if (life === undefined) return;
    this.#checkBounds(life);
    this.checker.checkCommitsArePrompt(life.definitions.subscriptions());
    if (!this.scenario.calm) return;
    for (const { subscriptions } of this.scenario.topics) {
      for (const { prompt, name } of subscriptions) {
        const definition = life.definitions.subscription(name);
        if (prompt && definition !== undefined) this.checker.checkNotDelayed(definition, PROMPT_MS);
      }
    }
  }

  #checkBounds({ broker }: Life): void {
    const { maxUncommittedBytes, cacheBytes } = this.scenario.limits;
    const { uncommittedBytes } = broker.stats;
    if (uncommittedBytes < 0 || uncommittedBytes > maxUncommittedBytes)
      throw new Violation(
        `${uncommittedBytes} bytes are not stored yet; the bound is ${maxUncommittedBytes}`,
      );
    if (broker.cachedBytes < 0 || broker.cachedBytes > cacheBytes + CACHE_SLACK_BYTES)
      throw new Violation(`${broker.cachedBytes} bytes are cached; the bound is ${cacheBytes}`);
  }

  async #drain(): Promise<void> {
    this.say('world', 'drain');
    this.phase = 'drain';
    Object.assign(this.stores.faults, { down: false, full: false, slow: 0, failBefore: 0, timeoutAfter: 0 });
    for (const consumer of this.#consumers) consumer.behave();
    for (let ms = 0; ; ms += SLICE_MS) {
      await this.#slice();
      const unfinished = await this.#unfinished();
      if (unfinished === undefined) return;
      if (ms > DRAIN_MS) throw new Violation(`${DRAIN_MS} ms after the last fault: ${unfinished}`);
    }
  }

  /** What keeps the drain from being complete; undefined if nothing does. */
  async #unfinished(): Promise<string | undefined> {
    const life = this.reachable();
    if (life === undefined) return 'there is no broker';
    const { firstPromised } = this.checker.logs;
    if (firstPromised !== undefined) return `${firstPromised} is not stored`;
    if (this.#operator.busy) return 'an admin call has no answer';
    for (const publisher of this.publishers) {
      if (!publisher.finished) return `${publisher.name} has ${publisher.unanswered} unanswered batches`;
    }
    for (const definition of life.definitions.subscriptions()) {
      const unsettled = this.checker.unsettled(definition);
      if (unsettled !== undefined) return unsettled;
    }
    return (await this.#notTakenUp(life)) ?? this.#backlog(life);
  }

  /**
   * A definition that the broker has not taken up as the store has it: a put whose outcome was unknown
   * counts, too.
   */
  async #notTakenUp(life: Life): Promise<string | undefined> {
    let missing: string | undefined = 'the store has not listed its definitions';
    this.spawn(
      this.plain.definitions.list().then((stored) => {
        const unknown = stored.find(({ kind, name, revision, body }) => {
          if (JSON.parse(body).deleted === true) return false;
          const known = kind === 'topic' ? life.definitions.topic(name) : life.definitions.subscription(name);
          return known?.revision !== revision;
        });
        missing = unknown && `the broker has not taken up ${unknown.name} as the store has it`;
      }),
    );
    await this.#answered();
    return missing;
  }

  /**
   * What the engine's backlog report still has; undefined if nothing. The engine must come to the same result
   * as the checker.
   */
  async #backlog(life: Life): Promise<string | undefined> {
    let backlog: string | undefined = 'the backlog report is not there';
    this.spawn(
      life.broker.backlog.report('projects/sim', []).then((reports) => {
        const left = reports.find(({ messages, outstandingMessages }) => messages + outstandingMessages > 0);
        const { uncommittedBytes } = life.broker.stats;
        if (uncommittedBytes > 0) backlog = `${uncommittedBytes} bytes are not stored yet`;
        else
          backlog =
            left &&
            `${left.subscription} reports ${left.messages} messages, ${left.outstandingMessages} outstanding`;
      }),
    );
    await this.#answered();
    return backlog;
  }

  /** Lets enough time pass for an answer of the stores. */
  async #answered(): Promise<void> {
    await this.clock.advance(this.scenario.storeLatencyMs[1] * 10 + 1);
  }

  async #end(): Promise<void> {
    this.say('world', 'end');
    await this.#stopWithin(() => this.supervisor.stopGracefully());
    this.checker.quiet = true;
    await this.#slices(2_000);
    if (this.reachable() === undefined) throw new Violation('the broker has not come back');
    this.phase = 'end';
    const last = this.supervisor.life!;
    await this.#stopWithin((life) => life.broker.stop());
    await this.#slices(LAST_TIMER_MS);
    if (last.pending > 0)
      throw new Violation(`${last.pending} timers or calls of the broker are left after its stop`);
    if (this.#running > 0) throw new Violation(`${this.#running} activities have not come to an end`);
    if (this.clock.timerCount > 0) throw new Violation(`${this.clock.timerCount} timers are left`);
  }

  async #stopWithin(stop: (life: Life) => Promise<void>): Promise<void> {
    let stopped = false;
    this.spawn(
      stop(this.supervisor.life!).then(() => {
        stopped = true;
      }),
    );
    for (let ms = 0; !stopped; ms += SLICE_MS) {
      if (ms > STOP_MS) throw new Violation(`the broker has not stopped within ${STOP_MS} ms`);
      await this.#slices(SLICE_MS);
    }
  }

  async #slices(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += SLICE_MS) {
      await this.clock.advance(SLICE_MS);
      if (this.#failure !== undefined) throw this.#failure;
    }
  }
}
