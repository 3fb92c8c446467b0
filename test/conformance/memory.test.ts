// The memory store of the simulations against every port's contract: what they test the engine with must be true to it.
import { createMemoryStore } from '../support/memory-store.ts';
import { cursorStoreConformance } from './cursor-store.ts';
import { definitionStoreConformance } from './definition-store.ts';
import type { StoreHarness } from './harness.ts';
import { logStoreConformance } from './log-store.ts';
import { ownershipStoreConformance } from './ownership-store.ts';

logStoreConformance('memory', openHarness);
cursorStoreConformance('memory', openHarness);
definitionStoreConformance('memory', openHarness);
ownershipStoreConformance('memory', openHarness);

/** Reopening is dropping the broker and keeping the object. */
async function openHarness(): Promise<StoreHarness> {
  return { stores: createMemoryStore(), reopen: async () => {}, close: async () => {} };
}
