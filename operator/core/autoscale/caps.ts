// What bounds a number of replicas, whatever the load asks for: the user's bounds, a budget, how many can be
// of use.
import type { ScaleLimit } from './decision.ts';
import type { AutoscaleInputs } from './inputs.ts';
import type { ScaleSpec } from './spec.ts';

/**
 * Keys are shared among a partition's consumers by slot: no more consumers get any. It is the broker's SLOTS
 * (services/broker/core/key-slots.ts), with which a test compares it.
 */
export const SLOTS_PER_PARTITION = 256;

export interface Capped {
  readonly replicas: number;
  /** What bound them; undefined: nothing did. */
  readonly limit?: ScaleLimit;
}

/** `asked` within everything that bounds a proposal, and which of that bound it. */
export function capped(
  spec: ScaleSpec,
  inputs: AutoscaleInputs,
  ceiling: number | undefined,
  mayBeZero: boolean,
  asked: number,
): Capped {
  const caps: readonly [ScaleLimit, number][] = [
    ['UsefulParallelism', usefulParallelism(inputs)],
    ['DownstreamSaturated', ceiling ?? Number.POSITIVE_INFINITY],
    ['Budget', inputs.budgetReplicas ?? Number.POSITIVE_INFINITY],
    ['MaxReplicas', spec.maxReplicas],
  ];
  let result: Capped = { replicas: asked };
  if (spec.alignToPartitions && inputs.partitions !== undefined) {
    result = { replicas: alignedToPartitions(asked, inputs.partitions) };
  }
  for (const [limit, most] of caps) if (result.replicas > most) result = { replicas: most, limit };
  const least = mayBeZero ? 0 : Math.max(1, spec.minReplicas);
  return result.replicas < least ? { replicas: least, limit: 'MinReplicas' } : result;
}

/** More replicas than this can't all have work. */
export function usefulParallelism(inputs: AutoscaleInputs): number {
  if (!inputs.ordered) return Number.POSITIVE_INFINITY;
  const { partitions = Number.POSITIVE_INFINITY } = inputs;
  const slots = Math.max(1, partitions) * SLOTS_PER_PARTITION;
  return Math.max(1, Math.min(slots, inputs.activeKeys ?? slots));
}

/** The next number up that shares the partitions evenly, as long as there is one. */
export function alignedToPartitions(replicas: number, partitions: number): number {
  for (let count = replicas; count <= partitions; count += 1) {
    if (count > 0 && partitions % count === 0) return count;
  }
  return replicas;
}
