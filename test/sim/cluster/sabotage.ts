// Bugs to be planted between the parts of a cluster, to see that the simulation finds them. None of them by default.
import type { MembershipKeeper } from '../../../services/broker/engine/membership-keeper.ts';
import type { Claim } from '../../../services/broker/ports/ownership-store.ts';
import type { PeerAnswer, PeerRequest } from '../../../services/broker/ports/peer.ts';
import type { SharedMemory } from '../../support/memory-store.ts';

export interface Sabotage {
  readonly memory?: (memory: SharedMemory) => SharedMemory;
  /** As the ownership keeper sees it. */
  readonly membership?: (keeper: MembershipKeeper) => MembershipKeeper;
  /** With which a partition is opened. */
  readonly claim?: (claim: Claim) => Claim;
  readonly handOverBegins?: (memberId: string) => void;
  readonly handOverEnds?: (memberId: string) => void;
  /** On a link; undefined: it never was. */
  readonly request?: (request: PeerRequest) => PeerRequest | undefined;
  readonly answer?: (answer: PeerAnswer) => PeerAnswer | undefined;
}

export const HONEST: Sabotage = {};
