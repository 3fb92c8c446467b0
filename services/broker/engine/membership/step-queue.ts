// Runs the steps of partitions for ownership-keeper: so many at a time, one for a partition, and after a failure not before its
// time. Which step is next is the keeper's to say, each time a partition is ready again.
import type { Clock } from '../../ports/clock.ts';
import type { Tended } from './ownership-state.ts';

/** Steps under way at the same time: a broker that starts must not flood the store. */
const MAX_STEPS = 32;
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1_000;

interface Step {
  readonly tended: Tended;
  readonly life: number;
  readonly run: () => Promise<void>;
}

export class StepQueue {
  readonly #clock: Clock;
  readonly #ready: (tended: Tended) => void;
  readonly #waiting: Step[] = [];
  readonly #underWay = new Set<Promise<void>>();
  #stopped = false;

  /** `ready`: the partition is not busy any more. */
  constructor(clock: Clock, ready: (tended: Tended) => void) {
    this.#clock = clock;
    this.#ready = ready;
  }

  /** The partition is busy from now on. A step that fails raises its failures; one whose life has passed is not run. */
  enqueue(tended: Tended, run: () => Promise<void>): void {
    tended.busy = true;
    this.#waiting.push({ tended, life: tended.life, run });
    this.#pump();
  }

  /** Runs no more, and resolves when none is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting.length = 0;
    await Promise.all(this.#underWay);
  }

  #pump(): void {
    while (this.#underWay.size < MAX_STEPS) {
      const step = this.#waiting.shift();
      if (step === undefined) return;
      const done = this.#run(step).finally(() => {
        this.#underWay.delete(done);
        this.#pump();
      });
      this.#underWay.add(done);
    }
  }

  async #run({ tended, life, run }: Step): Promise<void> {
    const failuresBefore = tended.failures;
    if (tended.life === life) await run();
    const ready = (): void => {
      tended.busy = false;
      this.#ready(tended);
    };
    if (tended.failures <= failuresBefore || this.#stopped) ready();
    else {
      const delayMs = Math.min(FIRST_RETRY_MS * 2 ** (tended.failures - 1), MAX_RETRY_MS);
      tended.cancelRetry = this.#clock.setTimer(delayMs, ready);
    }
  }
}
