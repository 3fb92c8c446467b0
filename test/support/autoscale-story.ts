// Tells decide() a story second by second: what the broker says, how many replicas there are, and what came
// of it. Replicas follow the decision at once and are ready when the story says so.
import { decide } from '../../operator/core/autoscale/decide.ts';
import type { Decision } from '../../operator/core/autoscale/decision.ts';
import type { AutoscaleInputs } from '../../operator/core/autoscale/inputs.ts';
import { foldBacklog, type RateState } from '../../operator/core/autoscale/rates.ts';
import { type ScaleSettings, type ScaleSpec, scaleSpec } from '../../operator/core/autoscale/spec.ts';
import type { AutoscaleState } from '../../operator/core/autoscale/state.ts';

export interface Moment {
  /** Messages per second. */
  readonly arriving?: number;
  readonly acked?: number;
  readonly messages?: number;
  readonly outstanding?: number;
  readonly oldestAgeMs?: number;
  /** True: nothing is heard of the broker. */
  readonly silent?: boolean;
  /** Ready replicas, of those wanted; by default all. */
  readonly ready?: number;
  readonly inputs?: Partial<AutoscaleInputs>;
}

const STEP_MS = 5_000;

export class Story {
  readonly spec: ScaleSpec;
  nowMs = 1_000_000;
  replicas: number;
  state: AutoscaleState | undefined;
  last: Decision | undefined;
  /** Every change, as "at-second:from>to". */
  readonly changes: string[] = [];
  readonly #startMs = this.nowMs;
  #rates: RateState | undefined;
  #appended = 0;
  #acked = 0;

  constructor(settings: ScaleSettings, replicas = 1) {
    this.spec = scaleSpec({ maxReplicas: 20, ...settings });
    this.replicas = replicas;
  }

  /** Lets so many seconds pass in which the moment lasts, with a decision every 5 s; returns the last one. */
  during(seconds: number, moment: Moment): Decision {
    for (let passed = 0; passed < seconds * 1000; passed += STEP_MS) this.step(moment);
    return this.last!;
  }

  step(moment: Moment): Decision {
    this.nowMs += STEP_MS;
    this.#appended += ((moment.arriving ?? 0) * STEP_MS) / 1000;
    this.#acked += ((moment.acked ?? moment.arriving ?? 0) * STEP_MS) / 1000;
    if (!moment.silent) this.#hear(moment);
    this.last = decide(
      this.spec,
      this.state,
      {
        currentReplicas: this.replicas,
        readyReplicas: Math.min(moment.ready ?? this.replicas, this.replicas),
        load: this.#rates?.load,
        partitions: 4,
        ordered: false,
        ...moment.inputs,
      },
      this.nowMs,
    );
    // The state goes through JSON, as the operator keeps it.
    this.state = JSON.parse(JSON.stringify(this.last.state)) as AutoscaleState;
    if (this.last.desired !== this.replicas) {
      this.changes.push(`${(this.nowMs - this.#startMs) / 1000}:${this.replicas}>${this.last.desired}`);
    }
    this.replicas = this.last.desired;
    return this.last;
  }

  #hear({ messages = 0, outstanding = 0, oldestAgeMs, ready }: Moment): void {
    this.#rates = foldBacklog(
      this.#rates,
      {
        messages,
        outstandingMessages: outstanding,
        oldestUnackedAgeMs: oldestAgeMs,
        consumers: Math.min(ready ?? this.replicas, this.replicas),
        appendedTotal: this.#appended,
        ackedTotal: this.#acked,
        redeliveredTotal: 0,
        measureTimeMs: this.nowMs,
      },
      this.nowMs,
    );
  }
}

/** Settings whose replicas are known to do 100 messages a second each. */
export const KNOWN: ScaleSettings = {
  expectedProcessingMillis: 10,
  concurrency: 1,
  targetUtilizationPercent: 100,
};
