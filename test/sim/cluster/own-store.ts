// The store in a lone broker's own process: nothing is between the two but the process itself. What a process
// has asked for may still be written when it is dead, and is answered to nobody.
import { type Carry, through } from '../../support/carried-store.ts';
import { MemberClock } from '../../support/memory-cluster.ts';
import type { ClusterStores } from '../../support/memory-store.ts';
import type { VirtualClock } from '../../support/virtual-clock.ts';
import type { StoreConnection } from './member.ts';

/** Writes that no ownerEpoch fences off: a new process must not begin before they have arrived. */
const UNFENCED: ReadonlySet<PropertyKey> = new Set(['acquire', 'put', 'remove']);

export function ownStore(stores: ClusterStores, base: VirtualClock): StoreConnection {
  const clock = new MemberClock(base);
  let unfenced = 0;
  const mortal: Carry = (call, name) =>
    new Promise((resolve, reject) => {
      if (!clock.running) return;
      const isUnfenced = UNFENCED.has(name);
      if (isUnfenced) unfenced += 1;
      const ended = (answer: () => void): void => {
        if (isUnfenced) unfenced -= 1;
        if (clock.running) answer();
        else clock.defer(answer);
      };
      call().then(
        (value) => ended(() => resolve(value)),
        (error: unknown) => ended(() => reject(error)),
      );
    });
  const { log, cursors, definitions, ownership } = stores;
  return {
    clock,
    faults: undefined,
    stores: {
      ...stores,
      log: through(log, mortal),
      cursors: through(cursors, mortal),
      definitions: through(definitions, mortal),
      ownership: through(ownership, mortal),
    },
    unfencedCalls: () => unfenced,
  };
}
