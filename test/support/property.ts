// How many cases a property test tries, and how one is replayed.
//
//   FAST_CHECK_RUNS   per cent of the usual number of cases; 100 is usual, a nightly run takes more
//   FAST_CHECK_SEED, FAST_CHECK_PATH   as fast-check printed them with a counterexample
//
// Lists are as long as their maxLength says: fast-check by itself makes none of more than ten elements, and
// to a state machine hardly anything happens in so few steps.
import fc from 'fast-check';

fc.configureGlobal({ ...fc.readConfigureGlobal(), defaultSizeToMaxWhenMaxSpecified: true });

const PERCENT = Number(process.env.FAST_CHECK_RUNS ?? 100);

/** The timeout of a test whose cases take seconds in all. */
export const TIMEOUT_MS = 300 * Math.max(100, PERCENT);

export interface PropertyRuns {
  readonly numRuns: number;
  readonly seed?: number;
  readonly path?: string;
}

/** Parameters for fc.assert: `usual` cases, or as the environment says. */
export function cases(usual: number): PropertyRuns {
  const seed = process.env.FAST_CHECK_SEED;
  const path = process.env.FAST_CHECK_PATH;
  return {
    numRuns: Math.max(1, Math.round((usual * PERCENT) / 100)),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  };
}
