// Runs one seed from beginning to end and says what became of it.
import { withRejections } from '../rejections.ts';
import { drawLoneScenario } from './lone-scenario.ts';
import { type ClusterScenario, drawClusterScenario } from './scenario.ts';
import { ClusterWorld, type ClusterWorldOptions } from './world.ts';

export interface ClusterOutcome {
  readonly seed: number;
  /** Undefined: every promise was kept. */
  readonly failure: unknown;
  readonly trace: readonly string[];
  /** The trace's hash, to compare runs. */
  readonly hash: number;
  readonly processes: number;
  readonly virtualMs: number;
  readonly counts: ClusterWorld['checker']['counts'];
  /** Moves of partitions, as assigned. */
  readonly moves: number;
}

export interface ClusterRunOptions extends ClusterWorldOptions {
  /** Whether the seed stands for a broker that is alone. */
  readonly alone?: boolean;
  /** Makes another scenario of the one that the seed stands for. */
  readonly change?: (scenario: ClusterScenario) => ClusterScenario;
}

export async function runClusterSeed(seed: number, options: ClusterRunOptions = {}): Promise<ClusterOutcome> {
  const { alone = false, change = (scenario) => scenario } = options;
  const drawn = alone ? drawLoneScenario(seed) : drawClusterScenario(seed);
  const world = new ClusterWorld(change(drawn), options);
  const failure = await withRejections(
    (error) => world.fail(error),
    () => world.run(),
  );
  if (failure !== undefined) world.fail(failure);
  const { trace, members, clock, checker } = world;
  return {
    seed,
    failure,
    trace: trace.lines,
    hash: trace.hash(),
    processes: members.all.length,
    virtualMs: clock.monotonicMs(),
    counts: checker.counts,
    moves: checker.assignments.moves,
  };
}
