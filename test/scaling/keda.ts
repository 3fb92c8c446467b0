// KEDA by its documentation ("Scaling Deployments", ScaledObject specification; defaults): every
// pollingInterval of 30 s it asks whether there is work; from 0 it goes to 1 when there is, to 0 when there
// has been none for the cooldownPeriod of 300 s; between 1 and the maximum an HPA works on the metric. While
// the metric fails nothing changes (no fallback is set).
import { Hpa, type HpaOptions } from './hpa.ts';
import type { Observed, Scaler } from './scaler.ts';

const POLLING_SECONDS = 30;
const COOLDOWN_SECONDS = 300;

export class Keda implements Scaler {
  readonly handshake = false;
  readonly #hpa: Hpa;
  #lastActive: number | undefined;

  constructor(options: Omit<HpaOptions, 'minReplicas'>) {
    this.#hpa = new Hpa({ ...options, minReplicas: 1 });
  }

  decide(observed: Observed): number {
    const { second, replicas, metric } = observed;
    // KEDA's poll and the HPA's are not in step.
    if (second % POLLING_SECONDS === 7) {
      const backlog = metric();
      if (backlog !== undefined) {
        const active = backlog.messages > 0;
        if (active) this.#lastActive = second;
        if (active && replicas === 0) return 1;
        const cooled = this.#lastActive === undefined || second - this.#lastActive > COOLDOWN_SECONDS;
        if (!active && replicas > 0 && cooled) return 0;
      }
    }
    return this.#hpa.decide(observed);
  }
}
