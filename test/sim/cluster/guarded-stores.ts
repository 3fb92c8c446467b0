// A member's view of the store, on which every call is counted and every answer looked at.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { ClusterStores } from '../../support/memory-store.ts';

/** `called` runs before every call; `onBug` gets what a store may never answer with. */
export function guardedStores(
  stores: ClusterStores,
  called: () => void,
  onBug: (error: unknown) => void,
): ClusterStores {
  const guard = <S extends object>(store: S): S =>
    new Proxy(store, {
      get: (target, key) => {
        const member: unknown = Reflect.get(target, key);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => {
          called();
          const result: unknown = member.apply(target, args);
          if (result instanceof Promise)
            result.catch((error: unknown) => {
              if (!(error instanceof BrokerError)) onBug(error);
            });
          return result;
        };
      },
    });
  const { log, cursors, definitions, ownership, membership, signals } = stores;
  return {
    signals,
    log: guard(log),
    cursors: guard(cursors),
    definitions: guard(definitions),
    ownership: guard(ownership),
    membership: guard(membership),
  };
}
