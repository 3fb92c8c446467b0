// The phases of one topic's partitions on this broker.
//
//                     own                 opened                    caught up
//   (none: elsewhere) ───▶ opening ───────────────▶ catching up ──────────────▶ open
//        ▲                    │                          │ hand over             │ hand over
//        │                    │ abandon, failure         ▼                       │
//        └────────────────────┴─────────────────── handing over ◀────────────────┘
//                 the note is written, abandon, the topic has gone
//
// Invariant: a partition has one phase, and Partitions alone changes it. What has lost its phase meanwhile
// was given up: whoever prepares or hands over a partition compares the phase with the one that it began.
import type { Dispatcher } from './delivery/dispatcher.ts';
import type { PartitionOwner } from './log/partition-owner.ts';

/** The owner and its dispatchers are being prepared: nothing goes in or out yet. */
export interface Opening {
  readonly kind: 'opening';
}

/**
 * Messages go out. Earlier publishes may still be on their way to a former owner, so new ones do not come
 * straight to this one.
 */
export interface CatchingUp {
  readonly kind: 'catching up';
  readonly owner: PartitionOwner;
}

export interface Open {
  readonly kind: 'open';
  readonly owner: PartitionOwner;
}

/** Closed for publishes; the cursors and the note for the next owner are not written yet. */
export interface HandingOver {
  readonly kind: 'handing over';
  readonly owner: PartitionOwner;
  /** Those whose deliveries have ended for the note. */
  readonly dispatchers: Dispatcher[];
}

export type PartitionPhase = Opening | CatchingUp | Open | HandingOver;

export class PartitionPhases {
  readonly #phases = new Map<number, PartitionPhase>();

  of(partition: number): PartitionPhase | undefined {
    return this.#phases.get(partition);
  }

  /** The owner that delivers; undefined: it is not here, not ready yet, or on its way to another broker. */
  owner(partition: number): PartitionOwner | undefined {
    const phase = this.#phases.get(partition);
    return phase?.kind === 'open' || phase?.kind === 'catching up' ? phase.owner : undefined;
  }

  /** The owners that deliver. */
  owners(): PartitionOwner[] {
    const owners: PartitionOwner[] = [];
    for (const phase of this.#phases.values())
      if (phase.kind === 'open' || phase.kind === 'catching up') owners.push(phase.owner);
    return owners;
  }

  /** What is on its way to other brokers. */
  leaving(): HandingOver[] {
    return [...this.#phases.values()].filter((phase) => phase.kind === 'handing over');
  }

  set(partition: number, phase: PartitionPhase): void {
    this.#phases.set(partition, phase);
  }

  /** The phase is over; does nothing if the partition has another one by now. */
  end(partition: number, phase: PartitionPhase): void {
    if (this.#phases.get(partition) === phase) this.#phases.delete(partition);
  }
}
