// The memory store of the simulations against every port's contract: the simulations prove nothing about the
// engine if their store does not keep it.
import { createSharedMemory } from '../support/memory-store.ts';
import { cursorStoreConformance } from './cursor-store.ts';
import { definitionStoreConformance, sharedDefinitionConformance } from './definition-store.ts';
import type { SharedHarness, StoreHarness } from './harness.ts';
import { logStoreConformance } from './log-store.ts';
import { membershipStoreConformance } from './membership-store.ts';
import { ownershipStoreConformance, sharedOwnershipConformance } from './ownership-store.ts';
import { signalsConformance } from './signals.ts';

logStoreConformance('memory', openHarness);
cursorStoreConformance('memory', openHarness);
definitionStoreConformance('memory', openHarness);
sharedDefinitionConformance('memory', openShared);
ownershipStoreConformance('memory', openHarness);
sharedOwnershipConformance('memory', openShared);
membershipStoreConformance('memory', openShared);
signalsConformance('memory', openShared);

/** Reopening does nothing: the memory outlives a broker. */
async function openHarness(): Promise<StoreHarness> {
  const memory = createSharedMemory();
  return {
    stores: memory.open('this-broker'),
    reopen: async () => {},
    damage: async (...args) => memory.damage(...args),
    close: async () => {},
  };
}

async function openShared(): Promise<SharedHarness> {
  const memory = createSharedMemory();
  return { member: async (id) => memory.open(id), close: async () => {} };
}
