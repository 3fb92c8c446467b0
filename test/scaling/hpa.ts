// The HorizontalPodAutoscaler for one external metric of type AverageValue, by the Kubernetes documentation
// ("Horizontal Pod Autoscaling": algorithm details, stabilization window, scaling policies, default
// behavior): every 15 s ceil(metric / target), no change within 10 % of the target, up at once by at most 100
// % or 4 pods in 15 s, down to the highest recommendation of 300 s. A missing metric changes nothing. It does
// nothing at 0 replicas.

import {
  type Change,
  scaleDownLimit,
  scaleUpLimit,
  withChange,
} from '../../operator/core/autoscale/behavior.ts';
import type { ScaleRules } from '../../operator/core/autoscale/spec.ts';
import type { Observed, Scaler } from './scaler.ts';

const SYNC_SECONDS = 15;
const TOLERANCE = 0.1;

export interface HpaOptions {
  readonly targetPerPod: number;
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Replaces the default behavior.scaleDown. */
  readonly scaleDown?: ScaleRules | undefined;
}

const UP: ScaleRules = {
  stabilizationWindowSeconds: 0,
  policies: [
    { type: 'Percent', value: 100, periodSeconds: 15 },
    { type: 'Pods', value: 4, periodSeconds: 15 },
  ],
  selectPolicy: 'Max',
};
const DOWN: ScaleRules = {
  stabilizationWindowSeconds: 300,
  policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }],
  selectPolicy: 'Max',
};

export class Hpa implements Scaler {
  readonly handshake = false;
  readonly #options: HpaOptions;
  readonly #down: ScaleRules;
  #recommendations: { atMs: number; replicas: number }[] = [];
  #changes: readonly Change[] = [];

  constructor(options: HpaOptions) {
    this.#options = options;
    this.#down = options.scaleDown ?? DOWN;
  }

  decide({ second, replicas, metric }: Observed): number {
    if (second % SYNC_SECONDS !== 0 || replicas === 0) return replicas;
    const nowMs = second * 1000;
    const { minReplicas, maxReplicas } = this.#options;
    if (replicas > maxReplicas) return maxReplicas;
    if (replicas < minReplicas) return minReplicas;
    const backlog = metric();
    if (backlog === undefined) return replicas;
    const bounded = Math.max(minReplicas, Math.min(maxReplicas, this.#wanted(backlog.messages, replicas)));
    const stable = this.#stabilize(bounded, replicas, nowMs);
    const result =
      stable > replicas
        ? Math.min(stable, Math.max(scaleUpLimit(replicas, UP, this.#changes, nowMs), minReplicas))
        : Math.max(stable, scaleDownLimit(replicas, this.#down, this.#changes, nowMs));
    if (result !== replicas)
      this.#changes = withChange(this.#changes, { atMs: nowMs, delta: result - replicas });
    return result;
  }

  #wanted(metric: number, replicas: number): number {
    const ratio = metric / (this.#options.targetPerPod * replicas);
    return Math.abs(1 - ratio) <= TOLERANCE ? replicas : Math.ceil(metric / this.#options.targetPerPod);
  }

  #stabilize(wanted: number, replicas: number, nowMs: number): number {
    this.#recommendations = this.#recommendations.filter(
      ({ atMs }) => atMs > nowMs - this.#down.stabilizationWindowSeconds * 1000,
    );
    const highest = Math.max(wanted, ...this.#recommendations.map((each) => each.replicas));
    this.#recommendations.push({ atMs: nowMs, replicas: wanted });
    return Math.max(wanted, Math.min(replicas, highest));
  }
}
