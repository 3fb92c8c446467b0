// A subscription and its pods as a fluid, second by second: messages arrive, wait in lanes, are held and
// settled by pods that take time to start and to go. The same seed gives every autoscaler the same arrivals.
//
// A lane is what must be served together: usually there is one; a poison message or a hot ordering key has
// its own, with a limit on how fast it can go whatever the number of pods.
import type { BacklogSample } from '../../operator/core/autoscale/rates.ts';
import type { Chance } from '../sim/prng.ts';
import { Lane } from './lane.ts';
import type { Shape } from './shapes.ts';

/** Kubernetes' default terminationGracePeriodSeconds. */
const GRACE_SECONDS = 30;
const DRAIN_TIMEOUT_SECONDS = 60;

interface Pod {
  readonly readyAt: number;
  /** A factor on the nominal rate. */
  readonly speed: number;
  /** What the pod still holds; it takes no new work. It goes when that is done, or at `until` (a second). */
  draining?: { held: number; until: number } | undefined;
}

export interface Totals {
  /** Seconds in which a message that could have been begun waited longer than the objective. */
  lateSeconds: number;
  consumerSeconds: number;
  changes: number;
  redeliveries: number;
  arrived: number;
}

export interface WorldOptions {
  /** Pods that will go first finish what they hold, without new work. */
  readonly handshake: boolean;
  readonly objectiveSeconds: number;
  /** Pods that are ready at the beginning. */
  readonly replicas: number;
}

export class World {
  readonly totals: Totals = { lateSeconds: 0, consumerSeconds: 0, changes: 0, redeliveries: 0, arrived: 0 };
  readonly #shape: Shape;
  /** Chance for arrivals alone, so that they don't depend on who scales. */
  readonly #arrivalChance: Chance;
  readonly #podChance: Chance;
  readonly #workChance: Chance;
  readonly #options: WorldOptions;
  #pods: Pod[] = [];
  /** For each pod that was told to stop and is still finishing: until when. */
  #leaving: number[] = [];
  readonly #lanes: Lane[];
  #second = 0;
  /** Messages begun in this second. */
  #begun = 0;
  #ackedTotal = 0;
  #redeliveredTotal = 0;

  constructor(shape: Shape, chance: Chance, options: WorldOptions) {
    this.#shape = shape;
    this.#arrivalChance = chance.fork();
    this.#podChance = chance.fork();
    this.#workChance = chance.fork();
    this.#options = options;
    this.#lanes = shape.lanes.map(() => new Lane());
    for (let i = 0; i < options.replicas; i += 1) this.#pods.push({ ...this.#newPod(), readyAt: 0 });
  }

  /** One second passes. */
  step(): void {
    const at = this.#second;
    this.#arrive(at);
    this.#serve(at);
    this.#leave(at);
    this.totals.consumerSeconds += this.#pods.length + this.#leaving.length;
    if (this.#servableAge(at) > this.#options.objectiveSeconds) this.totals.lateSeconds += 1;
    this.#second += 1;
  }

  get replicas(): number {
    return this.#pods.filter(({ draining }) => draining === undefined).length;
  }

  get ready(): number {
    return this.#serving().length;
  }

  /** The backlog as the broker's admin API tells it. */
  backlog(): BacklogSample {
    const messages = Math.round(this.#sum(({ waiting, processing }) => waiting + processing));
    const oldest = Math.min(...this.#lanes.map((lane) => lane.oldest() ?? this.#second));
    return {
      messages,
      outstandingMessages: Math.min(messages, Math.round(this.#outstanding())),
      oldestUnackedAgeMs: messages > 0 ? (this.#second - oldest) * 1000 : undefined,
      consumers: this.#pods.filter(({ readyAt }) => readyAt <= this.#second).length,
      appendedTotal: Math.round(this.totals.arrived),
      ackedTotal: Math.round(this.#ackedTotal),
      redeliveredTotal: Math.round(this.#redeliveredTotal),
      measureTimeMs: this.#second * 1000,
    };
  }

  /** Does what an autoscaler's write to /scale does. */
  scaleTo(replicas: number): void {
    const current = this.replicas;
    if (replicas === current) return;
    this.totals.changes += 1;
    if (replicas > current) this.#add(replicas - current);
    else this.#remove(current - replicas);
  }

  #newPod(): Pod {
    const startup = this.#shape.startupSeconds * (0.8 + 0.6 * this.#podChance.random());
    return { readyAt: this.#second + startup, speed: 0.85 + 0.3 * this.#podChance.random() };
  }

  #add(count: number): void {
    let missing = count;
    for (const pod of this.#pods) {
      if (missing > 0 && pod.draining !== undefined) {
        pod.draining = undefined;
        missing -= 1;
      }
    }
    for (; missing > 0; missing -= 1) this.#pods.push(this.#newPod());
  }

  /** Removes pods as a ReplicaSet does: those that are not ready first, then the newest. */
  #remove(count: number): void {
    const isReady = ({ readyAt }: Pod): number => Number(readyAt <= this.#second);
    const candidates = this.#pods
      .filter(({ draining }) => draining === undefined)
      .sort((a, b) => isReady(a) - isReady(b) || b.readyAt - a.readyAt);
    const held = this.ready === 0 ? 0 : this.#outstanding() / this.ready;
    for (const pod of candidates.slice(0, count)) {
      const holds = held * isReady(pod);
      if (this.#options.handshake && holds > 0) {
        pod.draining = { held: holds, until: this.#second + DRAIN_TIMEOUT_SECONDS };
      } else {
        this.#pods = this.#pods.filter((each) => each !== pod);
        this.#terminate(holds);
      }
    }
  }

  /**
   * What SIGTERM does to a pod: it finishes what it is processing if there is time, and gives the rest back.
   */
  #terminate(holds: number): void {
    const seconds = this.#serviceSeconds();
    const processing = Math.min(holds, this.#shape.concurrency);
    const inTime = Math.min(1, GRACE_SECONDS / seconds);
    const again = holds - processing * inTime;
    this.totals.redeliveries += again;
    this.#redeliveredTotal += again;
    if (seconds > 1) this.#lanes[0]!.giveBack(processing * (1 - inTime));
    if (processing > 0) this.#leaving.push(this.#second + Math.min(GRACE_SECONDS, seconds / 2));
  }

  #arrive(at: number): void {
    const mean = this.#shape.rate(at, this.#arrivalChance);
    const count = mean < 30 ? poisson(mean, this.#arrivalChance) : nearlyPoisson(mean, this.#arrivalChance);
    this.totals.arrived += count;
    this.#shape.lanes.forEach(({ share }, i) => {
      this.#lanes[i]!.arrive(at, count * share);
    });
  }

  #serve(at: number): void {
    const seconds = this.#serviceSeconds();
    for (const lane of this.#lanes) this.#ackedTotal += lane.settle(at);
    let capacity = Math.min(this.#capacity(at, seconds), this.#shape.downstreamRate(at));
    this.#begun = 0;
    // Lanes with a limit come first: they get all that they may have.
    const order = this.#lanes.map((_, i) => i).sort((a, b) => this.#limit(a, at) - this.#limit(b, at));
    for (const i of order) {
      const doneAt = seconds > 1 ? at + seconds * (0.85 + 0.3 * this.#workChance.random()) : undefined;
      const begun = this.#lanes[i]!.begin(Math.min(capacity, this.#limit(i, at)), doneAt);
      capacity -= begun;
      this.#begun += begun;
      if (this.#limit(i, at) === 0) this.#lanes[i]!.releasedAt = at;
    }
    if (seconds <= 1) this.#ackedTotal += this.#begun;
  }

  /** Messages that can be begun in this second. */
  #capacity(at: number, seconds: number): number {
    const rate = this.#shape.podRate(at);
    let capacity = 0;
    for (const pod of this.#pods) {
      if (pod.readyAt > at) continue;
      const able = rate * pod.speed * (0.95 + 0.1 * this.#workChance.random());
      const done = pod.draining === undefined ? able : Math.min(able, pod.draining.held);
      if (pod.draining !== undefined) pod.draining.held -= done;
      capacity += done;
    }
    // A pod that works on a message for longer than a second begins the next when one is done.
    const free = this.#shape.concurrency * this.ready - this.#sum(({ processing }) => processing);
    return seconds > 1 ? Math.max(0, free) : capacity;
  }

  #leave(at: number): void {
    this.#leaving = this.#leaving.filter((until) => until > at);
    for (const pod of this.#pods.filter(({ draining }) => draining !== undefined)) {
      const { held, until } = pod.draining!;
      if (held > 1e-6 && at < until) continue;
      this.#pods = this.#pods.filter((each) => each !== pod);
      if (held > 1e-6) this.#terminate(held);
    }
  }

  #serving(): Pod[] {
    return this.#pods.filter(({ readyAt, draining }) => readyAt <= this.#second && draining === undefined);
  }

  #serviceSeconds(): number {
    return this.#shape.concurrency / this.#shape.podRate(this.#second);
  }

  #limit(lane: number, at: number): number {
    return this.#shape.lanes[lane]!.maxRate(at);
  }

  /**
   * What is being processed (by Little's law if that takes less than a second), and what pods hold besides
   * while messages wait.
   */
  #outstanding(): number {
    const pods = this.ready;
    if (pods === 0) return 0;
    const { concurrency, prefetch, lanes } = this.#shape;
    const seconds = this.#serviceSeconds();
    const processing = seconds > 1 ? this.#sum((lane) => lane.processing) : this.#begun * seconds;
    const working = Math.min(processing, pods * concurrency);
    let free = 0;
    lanes.forEach((_, i) => {
      if (!Number.isFinite(this.#limit(i, this.#second))) free += this.#lanes[i]!.waiting;
    });
    return Math.min(pods * concurrency * prefetch, seconds > 1 ? working + free : Math.max(working, free));
  }

  /** How long the oldest message has waited that consumers could begin. */
  #servableAge(at: number): number {
    let age = 0;
    this.#lanes.forEach((lane, i) => {
      const oldest = lane.oldestWaiting();
      if (oldest === undefined || Number.isFinite(this.#limit(i, at))) return;
      age = Math.max(age, at - Math.max(oldest, lane.releasedAt));
    });
    return age;
  }

  #sum(of: (lane: Lane) => number): number {
    let sum = 0;
    for (const lane of this.#lanes) sum += of(lane);
    return sum;
  }
}

function nearlyPoisson(mean: number, chance: Chance): number {
  const normal = Math.sqrt(-2 * Math.log(1 - chance.random())) * Math.cos(2 * Math.PI * chance.random());
  return Math.max(0, mean + Math.sqrt(mean) * normal);
}

function poisson(mean: number, chance: Chance): number {
  const limit = Math.exp(-mean);
  let count = 0;
  for (let product = chance.random(); product > limit; product *= chance.random()) count += 1;
  return count;
}
