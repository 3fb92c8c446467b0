// Settles of messages in the many forms that clients may use: ids one by one in any order, runs, runs in
// pieces.
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import type { Chance } from './prng.ts';

export interface Place {
  readonly logEpoch: number;
  readonly partition: number;
  readonly offset: number;
}

export function operationsFor(
  chance: Chance,
  kind: SettleOperation['kind'],
  places: readonly Place[],
  seconds = 0,
): SettleOperation[] {
  if (chance.bool(0.3)) {
    return chance.shuffled(places).map(({ logEpoch, partition, offset }) => ({
      kind,
      logEpoch,
      partition,
      first: offset,
      last: offset,
      seconds,
    }));
  }
  const sorted = [...places].sort(
    (a, b) => a.logEpoch - b.logEpoch || a.partition - b.partition || a.offset - b.offset,
  );
  const runs: SettleOperation[] = [];
  for (const { logEpoch, partition, offset } of sorted) {
    const previous = runs.at(-1);
    const continues =
      previous?.logEpoch === logEpoch && previous.partition === partition && previous.last + 1 === offset;
    if (continues && !chance.bool(0.1)) runs[runs.length - 1] = { ...previous, last: offset };
    else runs.push({ kind, logEpoch, partition, first: offset, last: offset, seconds });
  }
  return chance.bool(0.5) ? runs : chance.shuffled(runs);
}

export function describe(operations: readonly SettleOperation[]): string {
  return operations
    .map(({ kind, logEpoch, partition, first, last }) => `${kind} ${logEpoch}.${partition}-${first}..${last}`)
    .join(', ');
}
