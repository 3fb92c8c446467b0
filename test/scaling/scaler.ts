// What the simulated autoscalers have in common: they see what is observed and say how many replicas there
// should be.
import type { BacklogSample } from '../../operator/core/autoscale/rates.ts';

export interface Observed {
  readonly second: number;
  /** The replicas wanted at present. */
  readonly replicas: number;
  readonly ready: number;
  /** The backlog now; undefined while the source fails. */
  readonly metric: () => BacklogSample | undefined;
}

export interface Scaler {
  /** Whether pods that will go first finish what they hold, without new work. */
  readonly handshake: boolean;
  /** Called every second. Returns the replicas wanted; the present ones: no change. */
  decide(observed: Observed): number;
}
