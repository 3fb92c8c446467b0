// A partition that this broker owns, seeks or lets go, as ownership-keeper tends it. Written by the keeper and its steps only.
//
//            assigned here            nobody alive holds it        store.acquire       host.own
//   (none) ───────────────▶ seeking ───────────────────────▶ free ──────────▶ claimed ──────────▶ owned
//                           ▲    │ not assigned here                             │ no longer ours   │ assigned to another,
//                           │    ▼ any more                                      ▼                  ▼ or stopping
//                           │  (none) ◀─ seeking ◀──────── store.release ───── letGo ◀──── host.handOver
//                           └── every state: lease lost, claim stale (life + 1)
//
// A partition has one step under way at most. What happens to it meanwhile (lease lost, claim stale) raises its `life`: the step
// finds that out when it goes on, and what it had is void.
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { Claim } from '../../ports/ownership-store.ts';

export type TendedState =
  /** Assigned here; someone may hold it. */
  | { readonly kind: 'seeking'; readonly sinceMs: number }
  /** Nobody is in the way (any more), as of that claim. `forced`: a living member has not handed it over in time. */
  | Free
  | { readonly kind: 'claimed'; readonly claim: Claim }
  | { readonly kind: 'owned' }
  | LetGo;

export interface Free {
  readonly kind: 'free';
  readonly forced: boolean;
  readonly ownerEpoch: number;
}

/** The host writes nothing any more; the store has not been told yet. */
export interface LetGo {
  readonly kind: 'letGo';
  readonly ownerEpoch: number;
  readonly note: Uint8Array;
  /** See HandedOver. */
  readonly confirm: (() => Promise<number>) | undefined;
  readonly sinceMs: number;
}

export interface Tended {
  readonly id: PartitionId;
  readonly name: string;
  state: TendedState;
  /** Raised when everything it was becomes void. */
  life: number;
  /** A step is queued, under way, or waits to be tried again. */
  busy: boolean;
  /** In a row. */
  failures: number;
  cancelRetry: () => void;
}

/** What the keeper has done since it started. */
export interface OwnershipCounts {
  acquisitions: number;
  /** Of these: from a member that is alive and did not hand over in time. */
  forcedAcquisitions: number;
  handOvers: number;
  /** Owned partitions that were dropped at once: lease lost, or not handed over in order. */
  abandons: number;
  /** Writes refused because someone else had taken the partition. */
  staleClaims: number;
}

export function newTended(id: PartitionId, nowMs: number): Tended {
  return {
    id,
    name: formatPartitionId(id),
    state: { kind: 'seeking', sinceMs: nowMs },
    life: 0,
    busy: false,
    failures: 0,
    cancelRetry: () => {},
  };
}
