// Bugs to be planted between the parts of a cluster, to see that the simulation finds them. None of them by default; planted by
// cluster-sabotage.test.ts, asked by world.ts, members.ts and member.ts.
import type { Broker } from '../../../services/broker/engine/broker.ts';
import type { MembershipKeeper } from '../../../services/broker/engine/membership/membership-keeper.ts';
import type { Claim } from '../../../services/broker/ports/ownership-store.ts';
import type { PeerAnswer, PeerRequest } from '../../../services/broker/ports/peer.ts';
import type { ClusterStores, SharedMemory } from '../../support/memory-store.ts';

export interface Sabotage {
  /** The store itself, below the checker's eyes. */
  readonly memory?: (memory: SharedMemory) => SharedMemory;
  /** As a member sees it. */
  readonly stores?: (memberId: string, stores: ClusterStores) => ClusterStores;
  /** Before it starts. */
  readonly membership?: (keeper: MembershipKeeper) => void;
  /** Before it starts. */
  readonly broker?: (broker: Broker) => void;
  /** With which a partition is opened. */
  readonly claim?: (claim: Claim) => Claim;
  readonly handOverBegins?: (memberId: string) => void;
  readonly handOverEnds?: (memberId: string) => void;
  /** On a link; undefined: it never was. */
  readonly request?: (request: PeerRequest) => PeerRequest | undefined;
  readonly answer?: (answer: PeerAnswer) => PeerAnswer | undefined;
}

export const HONEST: Sabotage = {};
