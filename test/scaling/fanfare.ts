// Fanfare's autoscaler in the simulation: the real decide() and rates, fed as the operator feeds them: a
// backlog pushed every second, a decision every 5 s, and at once when a message arrives for a subscription
// without replicas.
import { decide } from '../../operator/core/autoscale/decide.ts';
import type { Decision } from '../../operator/core/autoscale/decision.ts';
import { foldBacklog, type RateState } from '../../operator/core/autoscale/rates.ts';
import { type ScaleSettings, type ScaleSpec, scaleSpec } from '../../operator/core/autoscale/spec.ts';
import type { AutoscaleState } from '../../operator/core/autoscale/state.ts';
import type { Observed, Scaler } from './scaler.ts';

const DECIDE_SECONDS = 5;

export class Fanfare implements Scaler {
  readonly handshake: boolean;
  readonly #spec: ScaleSpec;
  readonly #ordered: boolean;
  #rates: RateState | undefined;
  #state: AutoscaleState | undefined;
  last: Decision | undefined;

  constructor(settings: ScaleSettings, options: { ordered: boolean; handshake?: boolean }) {
    this.#spec = scaleSpec(settings);
    this.#ordered = options.ordered;
    this.handshake = options.handshake ?? true;
  }

  decide({ second, replicas, ready, metric }: Observed): number {
    const nowMs = second * 1000;
    const sample = metric();
    if (sample !== undefined) this.#rates = foldBacklog(this.#rates, sample, nowMs);
    const wake = replicas === 0 && (sample?.messages ?? 0) > 0;
    if (second % DECIDE_SECONDS !== 0 && !wake) return replicas;
    this.last = decide(
      this.#spec,
      this.#state,
      {
        currentReplicas: replicas,
        readyReplicas: ready,
        load: this.#rates?.load,
        partitions: 4,
        ordered: this.#ordered,
      },
      nowMs,
    );
    this.#state = this.last.state;
    return this.last.desired;
  }
}
