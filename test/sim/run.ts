// Runs one seed from beginning to end and says what became of it.
import { withRejections } from './rejections.ts';
import { drawScenario, type Scenario } from './scenario.ts';
import { World, type WorldOptions } from './world.ts';

export interface Outcome {
  readonly seed: number;
  /** Undefined: every promise was kept. */
  readonly failure: unknown;
  readonly trace: readonly string[];
  /** The trace's hash, to compare runs. */
  readonly hash: number;
  readonly lives: number;
  readonly virtualMs: number;
}

export interface RunOptions extends WorldOptions {
  /** Makes another scenario of the one that the seed stands for. */
  readonly change?: (scenario: Scenario) => Scenario;
}

export async function runSeed(seed: number, options: RunOptions = {}): Promise<Outcome> {
  const { change = (scenario) => scenario } = options;
  const world = new World(change(drawScenario(seed)), options);
  const failure = await withRejections(
    (error) => world.fail(error),
    () => world.run(),
  );
  if (failure !== undefined) world.fail(failure);
  const { trace, supervisor, clock } = world;
  return {
    seed,
    failure,
    trace: trace.lines,
    hash: trace.hash(),
    lives: supervisor.lives,
    virtualMs: clock.monotonicMs(),
  };
}
