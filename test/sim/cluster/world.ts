// One simulated world: a store, brokers that come and go, the network between them, everybody who talks to
// them, and the checker that watches. A broker that is alone has the store to itself. It runs in one
// thread, on virtual time, with all chance from the scenario's seed.
//
//   begin   the cluster is initialized, the scenario's definitions are put into the store, the brokers start
//   chaos   actors at work, the weather as planned
//   drain   no more faults: everybody behaves, and everything published must be settled in bounded time
//   still   the cluster has converged: nothing moves
//   quiet   a broker is restarted in order: nothing is delivered again
//   end     all stop in order, and nothing may be left pending
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { type Faults, withFaults } from '../../support/faulty-store.ts';
import { type Confirmation, confirmedLate } from '../../support/late-confirmation.ts';
import { MemoryCluster } from '../../support/memory-cluster.ts';
import { type ClusterStores, createSharedMemory, type SharedMemory } from '../../support/memory-store.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';
import { putDefinitions } from '../first-definitions.ts';
import { Chance } from '../prng.ts';
import { Trace } from '../trace.ts';
import { Violation } from '../violation.ts';
import { Calls, LONGEST_CALL_MS } from './calls.ts';
import { ClientHistories } from './client-histories.ts';
import { ClusterChecker } from './cluster-checker.ts';
import { ClusterConsumer } from './consumer.ts';
import { CLUSTER, type Member, type StoreConnection } from './member.ts';
import { Members } from './members.ts';
import { ClusterOperator } from './operator.ts';
import { ownStore } from './own-store.ts';
import { ClusterPublisher } from './publisher.ts';
import { ClusterPuller } from './puller.ts';
import { HONEST, type Sabotage } from './sabotage.ts';
import { type ClusterScenario, PROJECT, type SubscriptionPlan } from './scenario.ts';
import { ClusterWeatherman } from './weather.ts';
import { type StoreState, witnessed } from './witnessed-store.ts';

const SLICE_MS = 50;
/** The time after the last fault in which everything is settled, however often it is redelivered first. */
const DRAIN_MS = 120_000;
const STILL_MS = 1_200;
const QUIET_MS = 30_000;
/** In which all consumers have come back after a restart. */
const BACK_MS = 1_000;
const STOP_MS = 30_000;
/** Longer than any timer that anybody sets; the longest closes unused links after 30 s. */
const LAST_TIMER_MS = 40_000;
const CACHE_SLACK_BYTES = 16_000;
/** The longest time from append to delivery in calm, for consumers that are quick, whatever the others do. */
const PROMPT_MS = 2_000;

export type Phase = 'chaos' | 'drain' | 'end';

export interface ClusterWorldOptions {
  readonly traced?: boolean;
  readonly sabotage?: Sabotage;
}

const QUICK_CONFIRM_MS = 20;

/** Everything that is defined, as the member knows it. */
function knownTo({ definitions }: Member): string {
  return [...definitions.topics(), ...definitions.subscriptions()]
    .map((definition) => JSON.stringify(Object.entries(definition).sort()))
    .sort()
    .join('\n');
}

export class ClusterWorld {
  readonly scenario: ClusterScenario;
  readonly clock = new VirtualClock();
  readonly trace: Trace;
  readonly chance: Chance;
  readonly checker: ClusterChecker;
  readonly histories: ClientHistories;
  readonly sabotage: Sabotage;
  readonly state: StoreState = { full: false };
  /** Of the store in a lone broker's own process. */
  readonly storeFaults: Partial<Faults> = {};
  readonly memory: SharedMemory;
  /** Connects a new process with that id to the store; its clock runs at that rate. */
  readonly connect: (id: string, rate: number) => StoreConnection;
  readonly members: Members;
  /** The operator's view of the store, without faults. */
  readonly operatorStores: ClusterStores;
  readonly confirmation: Confirmation;
  phase: Phase = 'chaos';
  readonly #publishers: ClusterPublisher[] = [];
  readonly #consumers: (ClusterConsumer | ClusterPuller)[] = [];
  readonly #operator: ClusterOperator;
  readonly #weather: ClusterWeatherman;
  readonly calls: Calls;
  #failure: unknown;
  #running = 0;

  constructor(scenario: ClusterScenario, { traced = false, sabotage = HONEST }: ClusterWorldOptions) {
    this.scenario = scenario;
    this.sabotage = sabotage;
    this.trace = new Trace(traced, this.clock);
    this.chance = new Chance(scenario.seed ^ 0x5eed);
    const { pauses, wallJumps } = scenario.weather;
    this.checker = new ClusterChecker({
      clock: this.clock,
      clocksStep: pauses > 0 || wallJumps > 0,
      alone: scenario.alone,
      limits: scenario.limits,
    });
    this.histories = new ClientHistories(scenario);
    this.calls = new Calls(this.clock);
    const memory = this.#makeStore();
    const confirmChance = new Chance(scenario.seed ^ 0xc0f1);
    const { confirmMs, failConfirms } = scenario.weather;
    this.confirmation = {
      // Slow confirmations are bad weather: after the chaos they are quick.
      delayMs: () => {
        const mostMs = this.phase === 'chaos' ? confirmMs : Math.min(confirmMs, QUICK_CONFIRM_MS);
        return mostMs === 0 ? 0 : confirmChance.int(1, mostMs);
      },
      fails: failConfirms,
    };
    const { open, ...rest } = sabotage.memory?.(memory) ?? memory;
    this.memory = {
      ...rest,
      open: (id) => {
        const stores = witnessed(open(id), this.checker.witness(id), this.state, (error) => this.fail(error));
        return {
          ...stores,
          log: confirmedLate(stores.log, this.clock, confirmChance.random, this.confirmation),
        };
      },
    };
    this.operatorStores = witnessed(
      memory.open('operator'),
      this.checker.witness('operator'),
      this.state,
      (error) => this.fail(error),
    );
    this.connect = this.#connector(this.chance.fork());
    this.members = new Members(this);
    this.#operator = new ClusterOperator(this);
    this.#weather = new ClusterWeatherman(this);
  }

  async run(): Promise<void> {
    await this.#begin();
    for (let ms = 0; ms < this.scenario.chaosMs; ms += SLICE_MS) await this.#slice();
    await this.#drain();
    await this.#stillAndQuiet();
    await this.#end();
  }

  get over(): boolean {
    return this.phase === 'end' || this.#failure !== undefined;
  }

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

  /** Starts consumers for a subscription; they come back whatever happens, until the world is over. */
  populate(subscription: SubscriptionPlan): void {
    for (const plan of subscription.consumers)
      this.#consumers.push(new ClusterConsumer(this, subscription, plan));
    for (let nth = 0; nth < subscription.pullers; nth += 1)
      this.#consumers.push(new ClusterPuller(this, subscription, nth));
  }

  #makeStore(): SharedMemory {
    const { alone, storeLatencyMs, storeCapacityBytes } = this.scenario;
    const { clock } = this;
    if (!alone) return createSharedMemory({ clock });
    const chance = new Chance(this.scenario.seed ^ 0x1a7e);
    const [minMs, maxMs] = storeLatencyMs;
    const latencyMs = (): number => chance.int(minMs, maxMs);
    return createSharedMemory({ clock, latencyMs, capacityBytes: storeCapacityBytes });
  }

  #connector({ random }: Chance): ClusterWorld['connect'] {
    const { clock, memory, storeFaults } = this;
    if (this.scenario.alone)
      return (id) => {
        const stores = memory.open(id);
        return ownStore({ ...stores, ...withFaults(stores, random, clock, storeFaults) }, clock);
      };
    const cluster = new MemoryCluster(clock, random, memory);
    return (id, rate) => ({ ...cluster.connect(id, rate), unfencedCalls: () => 0 });
  }

  async #begin(): Promise<void> {
    let ready = false;
    const { membership, definitions } = this.operatorStores;
    this.spawn(
      membership
        .initialize(CLUSTER)
        .then(() => putDefinitions(definitions, this.scenario.topics))
        .then(() => {
          ready = true;
        }),
    );
    await this.clock.runUntil(() => ready);
    for (let nth = 1; nth <= this.scenario.brokers; nth += 1) this.members.begin(`broker-${nth}`);
    for (const topic of this.scenario.topics) {
      for (const subscription of topic.subscriptions) this.populate(subscription);
      for (const plan of topic.publishers)
        this.#publishers.push(new ClusterPublisher(this, topic.name, plan));
    }
    this.#weather.start();
    this.#operator.start();
  }

  async #slice(): Promise<void> {
    await this.clock.advance(SLICE_MS);
    if (this.#failure !== undefined) throw this.#failure;
    for (const member of this.members.alive) {
      this.#checkBounds(member);
      this.checker.definitions.checkNothingCameBack(member.definitions, member.id);
    }
    const [first] = this.members.ready;
    if (first === undefined) return;
    if (this.scenario.alone) this.checker.checkCommitsArePrompt(first.definitions.subscriptions());
    for (const { subscriptions } of this.scenario.calm ? this.scenario.topics : []) {
      for (const { prompt, name } of subscriptions) {
        const definition = first.definitions.subscription(name);
        if (prompt && definition !== undefined) this.checker.checkNotDelayed(definition, PROMPT_MS);
      }
    }
  }

  #checkBounds({ id, broker }: Member): void {
    const { maxUncommittedBytes, cacheBytes } = this.scenario.limits;
    const { uncommittedBytes } = broker.stats;
    if (uncommittedBytes < 0 || uncommittedBytes > maxUncommittedBytes)
      throw new Violation(
        `${id}: ${uncommittedBytes} bytes are not stored yet; the bound is ${maxUncommittedBytes}`,
      );
    if (broker.cachedBytes < 0 || broker.cachedBytes > cacheBytes + CACHE_SLACK_BYTES)
      throw new Violation(`${id}: ${broker.cachedBytes} bytes are cached; the bound is ${cacheBytes}`);
  }

  async #drain(): Promise<void> {
    this.say('world', 'drain');
    this.phase = 'drain';
    this.spawn(this.#weather.calm());
    for (const consumer of this.#consumers) consumer.behave();
    const drainedMs = this.clock.monotonicMs();
    for (;;) {
      await this.#slice();
      const unfinished = this.#unfinished() ?? (await this.#notTakenUp()) ?? (await this.#backlog());
      const passedMs = this.clock.monotonicMs() - drainedMs;
      const late = this.calls.unanswered(LONGEST_CALL_MS);
      if (late !== undefined && passedMs > LONGEST_CALL_MS) throw new Violation(late);
      if (unfinished === undefined) {
        const problem = this.histories.problem();
        if (problem !== undefined) throw new Violation(problem);
        break;
      }
      if (passedMs > DRAIN_MS) throw new Violation(`${DRAIN_MS} ms after the last fault: ${unfinished}`);
    }
  }

  /** What keeps the drain from being complete; undefined if nothing does. */
  #unfinished(): string | undefined {
    if (this.#operator.busy) return 'an admin call has no answer';
    const { pending } = this.#weather;
    if (pending !== undefined) return pending;
    for (const publisher of this.#publishers)
      if (!publisher.finished) return `${publisher.name} has ${publisher.unanswered} unanswered batches`;
    const unsettled = this.members.unsettled;
    if (unsettled !== undefined) return unsettled;
    const [first, ...others] = this.members.ready;
    if (first === undefined) return 'there is no broker';
    for (const other of others) {
      if (knownTo(other) !== knownTo(first)) return `${other.id} has other definitions than ${first.id}`;
      if (other.membership?.known.storedVersion !== first.membership?.known.storedVersion)
        return `${other.id} has another assignment than ${first.id}`;
    }
    for (const definition of first.definitions.subscriptions()) {
      const left = this.checker.unsettled(
        definition,
        first.definitions.topic(definition.topic)?.partitions ?? 0,
      );
      if (left !== undefined) return left;
    }
    const { missing } = this.checker;
    if (missing !== undefined)
      return `${missing} was acknowledged, is not in the store, and its owner has not brought it back`;
    for (const topic of first.definitions.topics()) {
      const overdue = this.checker.overdue(topic);
      if (overdue !== undefined) return overdue;
    }
    return undefined;
  }

  /**
   * A definition that brokers have not taken up as the store has it: a put whose outcome was unknown counts,
   * too.
   */
  async #notTakenUp(): Promise<string | undefined> {
    let missing: string | undefined = 'the store has not listed its definitions';
    const { definitions } = this.members.ready[0]!;
    this.spawn(
      this.operatorStores.definitions.list().then((stored) => {
        const unknown = stored.find(({ kind, name, revision, body }) => {
          if (JSON.parse(body).deleted === true) return false;
          const known = kind === 'topic' ? definitions.topic(name) : definitions.subscription(name);
          return known?.revision !== revision;
        });
        missing = unknown && `no broker has taken up ${unknown.name} as the store has it`;
      }),
    );
    await this.clock.advance(this.#answerMs);
    return missing;
  }

  /** In which any store call is answered when nothing is wrong. */
  get #answerMs(): number {
    return this.scenario.storeLatencyMs[1] * 10 + 1;
  }

  /**
   * What a broker's backlog report still has; undefined if nothing. Any broker must come to the same result
   * as the checker.
   */
  async #backlog(): Promise<string | undefined> {
    const member = this.members.reachable(this.chance)!;
    let backlog: string | undefined = 'the backlog report is not there';
    this.spawn(
      this.calls
        .ask(member, 'a backlog report', () => member.backlog.report(PROJECT, []))
        .then(
          (reports) => {
            const left = reports.find(
              ({ messages, outstandingMessages }) => messages + outstandingMessages > 0,
            );
            const busy = this.members.alive.find(({ broker }) => broker.stats.uncommittedBytes > 0);
            backlog = busy
              ? `${busy.id} has ${busy.broker.stats.uncommittedBytes} bytes that are not stored yet`
              : left &&
                `${left.subscription} reports ${left.messages} messages, ${left.outstandingMessages} outstanding`;
          },
          (error: unknown) => {
            if (!(error instanceof BrokerError)) throw error;
            backlog = `no backlog report: ${error.message}`;
          },
        ),
    );
    await this.clock.advance(this.scenario.alone ? this.#answerMs : 200);
    return backlog;
  }

  async #stillAndQuiet(): Promise<void> {
    const alive = new Set(this.members.ready.map(({ id }) => id));
    this.checker.definitions.check(this.members.ready[0]!.definitions, (id) => alive.has(id));
    this.say('world', 'still');
    this.checker.assignments.still = true;
    await this.#slices(STILL_MS);
    this.checker.assignments.still = false;
    this.checker.beginQuiet();
    this.say('world', 'quiet');
    await this.#within(QUIET_MS, 'the broker has not stopped', () =>
      this.members.stop(this.chance.pick(this.members.ready)),
    );
    for (let ms = 0; this.members.unsettled !== undefined; ms += SLICE_MS) {
      if (ms > QUIET_MS) throw new Violation(`${QUIET_MS} ms after a restart: ${this.members.unsettled}`);
      await this.#slices(SLICE_MS);
    }
    await this.#slices(BACK_MS);
  }

  async #end(): Promise<void> {
    this.say('world', 'end');
    this.phase = 'end';
    await this.#within(STOP_MS, 'not all brokers have stopped', async () => {
      await Promise.all(this.members.ready.map((member) => this.members.stop(member)));
    });
    await this.#slices(LAST_TIMER_MS);
    const unanswered = this.calls.unanswered(0);
    if (unanswered !== undefined) throw new Violation(`after the end: ${unanswered}`);
    if (this.#running > 0) throw new Violation(`${this.#running} activities have not come to an end`);
    if (this.clock.timerCount > 0) throw new Violation(`${this.clock.timerCount} timers are left`);
  }

  async #within(limitMs: number, otherwise: string, activity: () => Promise<void>): Promise<void> {
    let done = false;
    this.spawn(
      activity().then(() => {
        done = true;
      }),
    );
    for (let ms = 0; !done; ms += SLICE_MS) {
      if (ms > limitMs) throw new Violation(`${otherwise} within ${limitMs} ms`);
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
