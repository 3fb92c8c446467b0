// A member's view of the store, on which every call is counted and every answer looked at.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { type Carry, through } from '../../support/carried-store.ts';
import type { ClusterStores } from '../../support/memory-store.ts';

/** `called` runs before every call; `onBug` gets what a store may never answer with. */
export function guardedStores(
  stores: ClusterStores,
  called: () => void,
  onBug: (error: unknown) => void,
): ClusterStores {
  const look: Carry = (call) => {
    called();
    const result = call();
    result.catch((error: unknown) => {
      if (!(error instanceof BrokerError)) onBug(error);
    });
    return result;
  };
  const { log, cursors, definitions, ownership, membership, signals } = stores;
  return {
    signals,
    log: through(log, look),
    cursors: through(cursors, look),
    definitions: through(definitions, look),
    ownership: through(ownership, look),
    membership: through(membership, look),
  };
}
