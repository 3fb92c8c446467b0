// The embedded store against every port's contract: with its defaults, with a journal that is never merged by
// itself, with everything going straight to LMDB, and with a journal so small that merges happen all the
// time.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type EmbeddedStore,
  type EmbeddedStoreOptions,
  openEmbeddedStore,
} from '../../services/broker/adapters/embedded/store.ts';
import { damageTables } from '../support/damage-tables.ts';
import { cursorStoreConformance } from './cursor-store.ts';
import { definitionStoreConformance } from './definition-store.ts';
import type { StoreHarness } from './harness.ts';
import { logStoreConformance } from './log-store.ts';
import { ownershipStoreConformance } from './ownership-store.ts';

const variants: Record<string, Partial<EmbeddedStoreOptions>> = {
  embedded: {},
  'embedded, never merging by itself': { journalBytes: 1 << 20, mergeIntervalMs: 2 ** 30 },
  'embedded, without journal': { journalBytes: 1 << 20, directBytes: 0 },
  'embedded, tiny journal': { journalBytes: 4_096, mergeIntervalMs: 1 },
};

for (const [name, options] of Object.entries(variants)) {
  const open = () => openHarness(options);
  logStoreConformance(name, open);
  cursorStoreConformance(name, open);
  definitionStoreConformance(name, open);
  ownershipStoreConformance(name, open);
}

async function openHarness(options: Partial<EmbeddedStoreOptions>): Promise<StoreHarness> {
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-conformance-'));
  let stores: EmbeddedStore = await openEmbeddedStore({ ...options, dir });
  return {
    get stores() {
      return stores;
    },
    async reopen() {
      await stores.close();
      stores = await openEmbeddedStore({ ...options, dir });
    },
    // Dropping a subscription that never was brings everything to LMDB first, and changes nothing.
    settle: () => stores.cursors.drop(2 ** 40),
    async damage(partition, offset, how) {
      await stores.close();
      await damageTables(dir, partition, offset, how);
      stores = await openEmbeddedStore({ ...options, dir });
    },
    async close() {
      await stores.close();
      await rm(dir, { recursive: true });
    },
  };
}
