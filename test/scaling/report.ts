// The results of runs as Markdown tables. operator/AUTOSCALER.md quotes them.
import type { Totals } from './world.ts';

export interface Result {
  readonly name: string;
  readonly byShape: ReadonlyMap<string, Totals>;
  readonly total: Totals;
}

/** A line for each autoscaler, with the figures of one pass through all shapes. */
export function totalsTable(results: readonly Result[], runs: number): string {
  return [
    '| autoscaler | over the objective | consumer-hours | changes | redeliveries |',
    '|---|---:|---:|---:|---:|',
    ...results.map(({ name, total }) => `| ${name} | ${cells(total, runs).join(' | ')} |`),
  ].join('\n');
}

/** A line for each shape; each cell has the figures that totalsTable has in columns. */
export function shapesTable(results: readonly Result[], runs: number): string {
  const shapes = [...results[0]!.byShape.keys()];
  return [
    `| shape | ${results.map(({ name }) => name).join(' | ')} |`,
    `|---|${results.map(() => '---:').join('|')}|`,
    ...shapes.map((shape) => {
      const each = results.map(({ byShape }) => cells(byShape.get(shape)!, runs).join(' · '));
      return `| ${shape} | ${each.join(' | ')} |`;
    }),
  ].join('\n');
}

function cells({ lateSeconds, consumerSeconds, changes, redeliveries }: Totals, runs: number): string[] {
  return [
    `${Math.round(lateSeconds / runs)} s`,
    `${(consumerSeconds / 3600 / runs).toFixed(1)} h`,
    `${Math.round(changes / runs)}`,
    `${Math.round(redeliveries / runs)}`,
  ];
}
