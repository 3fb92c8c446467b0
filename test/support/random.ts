// Seeded chance for simulations and faults: the same seed gives the same numbers everywhere.
import type { Random } from '../../services/broker/ports/clock.ts';

/** Mulberry32 (Tommy Ettinger): small, fast, good enough to choose faults by. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
