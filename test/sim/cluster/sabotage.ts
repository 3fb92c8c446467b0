// Bugs that can be planted between the parts of a cluster, to see that the simulation finds them. By default
// there are none.
import type { Broker } from '../../../services/broker/engine/broker.ts';
import type { MembershipKeeper } from '../../../services/broker/engine/membership/membership-keeper.ts';
import type { Claim } from '../../../services/broker/ports/ownership-store.ts';
import type { PeerAnswer, PeerRequest } from '../../../services/broker/ports/peer.ts';
import type { ClusterStores, SharedMemory } from '../../support/memory-store.ts';

export interface Sabotage {
  /** Changes the store itself, below the checker's eyes. */
  readonly memory?: (memory: SharedMemory) => SharedMemory;
  /** Changes the store as a member sees it. */
  readonly stores?: (memberId: string, stores: ClusterStores) => ClusterStores;
  /** Changes a member's keeper before it starts. */
  readonly membership?: (keeper: MembershipKeeper) => void;
  /** Changes a member's broker before it starts. */
  readonly broker?: (broker: Broker) => void;
  /** Changes the claim with which a partition is opened. */
  readonly claim?: (claim: Claim) => Claim;
  readonly handOverBegins?: (memberId: string) => void;
  readonly handOverEnds?: (memberId: string) => void;
  /** Changes a request on a link, and below an answer; undefined: it is lost. */
  readonly request?: (request: PeerRequest) => PeerRequest | undefined;
  readonly answer?: (answer: PeerAnswer) => PeerAnswer | undefined;
}

export const HONEST: Sabotage = {};
