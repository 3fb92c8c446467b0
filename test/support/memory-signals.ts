// The signals port in memory: every listener hears a signal in the turn in which the store takes it.
import type { SignalKind, Signals } from '../../services/broker/ports/signals.ts';
import type { Take } from './memory-store.ts';

export function createMemorySignals(take: Take): Signals {
  const listeners = new Set<(kind: SignalKind, detail: string) => void>();
  return {
    send(kind, detail) {
      void take(() => {
        for (const heard of listeners) heard(kind, detail);
      });
    },
    listen(heard) {
      listeners.add(heard);
      return () => listeners.delete(heard);
    },
  };
}
