// Waits for what happens soon, with patience for a busy machine: what never happens fails all the same.
import { vi } from 'vitest';

const PATIENCE = { timeout: 20_000, interval: 5 };

/** Resolves once it resolves to true, or to something. */
export function until(look: () => unknown): Promise<unknown> {
  return vi.waitUntil(look, PATIENCE);
}

/** Resolves to its result once it does not throw. */
export function untilPasses<T>(look: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(look, PATIENCE);
}
