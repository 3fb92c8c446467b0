// The store in a lone broker's own process: nothing is between the two but the process itself. What a process
// has asked for may still be written when it is dead, and is answered to nobody.
import { MemberClock } from '../../support/memory-cluster.ts';
import type { ClusterStores } from '../../support/memory-store.ts';
import type { VirtualClock } from '../../support/virtual-clock.ts';
import type { StoreConnection } from './member.ts';

/** Writes that no ownerEpoch fences off: a new process must not begin before they have arrived. */
const UNFENCED: ReadonlySet<PropertyKey> = new Set(['acquire', 'put', 'remove']);

export function ownStore(stores: ClusterStores, base: VirtualClock): StoreConnection {
  const clock = new MemberClock(base);
  let unfenced = 0;
  const mortal = <S extends object>(store: S): S =>
    new Proxy(store, {
      get(target, key) {
        const member: unknown = Reflect.get(target, key);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) =>
          new Promise((resolve, reject) => {
            if (!clock.running) return;
            const isUnfenced = UNFENCED.has(key);
            if (isUnfenced) unfenced += 1;
            const ended = (answer: () => void): void => {
              if (isUnfenced) unfenced -= 1;
              if (clock.running) answer();
              else clock.defer(answer);
            };
            (member.apply(target, args) as Promise<unknown>).then(
              (value) => ended(() => resolve(value)),
              (error: unknown) => ended(() => reject(error)),
            );
          });
      },
    });
  const { log, cursors, definitions, ownership } = stores;
  return {
    clock,
    faults: undefined,
    stores: {
      ...stores,
      log: mortal(log),
      cursors: mortal(cursors),
      definitions: mortal(definitions),
      ownership: mortal(ownership),
    },
    unfencedCalls: () => unfenced,
  };
}
