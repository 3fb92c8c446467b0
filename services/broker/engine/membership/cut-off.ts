// Whether this broker has been without a lease for so long that others own its partitions by now, and what it
// knows of the cluster is old: then its clients are better off with another broker.
//
//   in touch ─fenced─▶ waiting ─afterMs later─▶ cut off
//       ◀───────regained───┴────────regained───────┘
import type { Clock } from '../../ports/clock.ts';
import type { MembershipListener } from './membership-keeper.ts';

export interface CutOffOptions {
  readonly membership: { listen(listener: MembershipListener): () => void };
  readonly clock: Clock;
  /**
   * How long the lease must have been lost: a failover of the store that takes no longer sends nobody away.
   */
  readonly afterMs: number;
  readonly onChange: (isCutOff: boolean) => void;
}

export class CutOffWatch {
  readonly #unlisten: () => void;
  #cancelTimer: () => void = () => undefined;
  #isCutOff = false;

  constructor({ membership, clock, afterMs, onChange }: CutOffOptions) {
    this.#unlisten = membership.listen({
      changed: () => undefined,
      fenced: () => {
        this.#cancelTimer();
        this.#cancelTimer = clock.setTimer(afterMs, () => {
          this.#isCutOff = true;
          onChange(true);
        });
      },
      regained: () => {
        this.#cancelTimer();
        if (!this.#isCutOff) return;
        this.#isCutOff = false;
        onChange(false);
      },
    });
  }

  stop(): void {
    this.#unlisten();
    this.#cancelTimer();
  }
}
