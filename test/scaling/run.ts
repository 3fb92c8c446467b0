// Runs one shape with one autoscaler and one seed, and adds runs up.
import type { ScaleRules, ScaleSettings } from '../../operator/core/autoscale/spec.ts';
import { Chance } from '../sim/prng.ts';
import { Fanfare } from './fanfare.ts';
import { Hpa } from './hpa.ts';
import { Keda } from './keda.ts';
import type { Scaler } from './scaler.ts';
import { loadShapes, type Shape, variedShapes } from './shapes.ts';
import { type Totals, World } from './world.ts';

/** The latency objective: nothing that could be served waits longer. */
export const OBJECTIVE_SECONDS = 60;

export interface Contender {
  readonly name: string;
  readonly make: (shape: Shape) => Scaler;
}

/** `seconds` is the target per pod: what a pod does nominally in that many seconds. */
export function hpa(seconds: number, more: { name?: string; scaleDown?: ScaleRules } = {}): Contender {
  return {
    name: more.name ?? `HPA ${seconds} s`,
    make: ({ maxReplicas, ...shape }) =>
      new Hpa({
        targetPerPod: target(shape, seconds),
        minReplicas: 1,
        maxReplicas,
        scaleDown: more.scaleDown,
      }),
  };
}

export function keda(seconds: number): Contender {
  return {
    name: `KEDA ${seconds} s`,
    make: (shape) => new Keda({ targetPerPod: target(shape, seconds), maxReplicas: shape.maxReplicas }),
  };
}

export function fanfare(name: string, settings: ScaleSettings = {}, handshake = true): Contender {
  return {
    name,
    make: (shape) =>
      new Fanfare({ maxReplicas: shape.maxReplicas, ...settings }, { ordered: shape.ordered, handshake }),
  };
}

function target(shape: Pick<Shape, 'podRate'>, seconds: number): number {
  return Math.max(1, shape.podRate(0) * seconds);
}

export type Watcher = (second: number, world: World, scaler: Scaler) => void;

export function runOne(shape: Shape, contender: Contender, seed: number, watch?: Watcher): Totals {
  const scaler = contender.make(shape);
  const world = new World(shape, new Chance(seed), {
    handshake: scaler.handshake,
    objectiveSeconds: OBJECTIVE_SECONDS,
    replicas: 2,
  });
  for (let second = 0; second < shape.seconds; second += 1) {
    world.step();
    const { replicas, ready } = world;
    const metric = () => (shape.metricsDown(second) ? undefined : world.backlog());
    world.scaleTo(scaler.decide({ second, replicas, ready, metric }));
    watch?.(second, world, scaler);
  }
  return world.totals;
}

/** Totals over the seeds, by shape name. `varied`: the shapes have other numbers for each seed. */
export function runAll(
  contender: Contender,
  seeds: readonly number[],
  { varied = false }: { varied?: boolean } = {},
): Map<string, Totals> {
  const result = new Map<string, Totals>();
  for (const seed of seeds) {
    const shapes = varied ? variedShapes(new Chance(seed)) : loadShapes();
    for (const shape of shapes) {
      const totals = runOne(shape, contender, seed);
      const before = result.get(shape.name);
      result.set(shape.name, before === undefined ? totals : sum([before, totals]));
    }
  }
  return result;
}

export function sum(all: Iterable<Totals>): Totals {
  const result = {
    lateSeconds: 0,
    consumerSeconds: 0,
    changes: 0,
    redeliveries: 0,
    arrived: 0,
  };
  for (const each of all) {
    for (const key of Object.keys(result) as (keyof Totals)[]) result[key] += each[key];
  }
  return result;
}
