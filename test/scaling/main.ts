// `npx node test/scaling/main.ts`: Fanfare's autoscaler against the HPA's and KEDA's over all load shapes, in
// about a minute. The defaults of operator/core/autoscale/spec.ts were chosen on TUNING_SEEDS; so are, here,
// the targets with which HPA and KEDA keep the objective best. What is printed is from other seeds.
//
//   SEEDS=n   how many instead of 6
import { type Result, shapesTable, totalsTable } from './report.ts';
import { type Contender, fanfare, hpa, keda, OBJECTIVE_SECONDS, runAll, sum } from './run.ts';

const TUNING_SEEDS = [1, 2, 3];
const TARGET_SECONDS = [2, 5, 10, 20, 30, 60];
const seeds = Array.from({ length: Number(process.env.SEEDS ?? 6) }, (_, i) => 301 + i);

const OUR_SCALE_DOWN = {
  stabilizationWindowSeconds: 180,
  policies: [{ type: 'Percent', value: 50, periodSeconds: 60 }],
  selectPolicy: 'Max',
} as const;

function run(contender: Contender, seeds: readonly number[], varied = false): Result {
  const byShape = runAll(contender, seeds, { varied });
  return { name: contender.name, byShape, total: sum(byShape.values()) };
}

function best(make: (seconds: number) => Contender): number {
  const late = (seconds: number): number => run(make(seconds), TUNING_SEEDS).total.lateSeconds;
  return TARGET_SECONDS.map((seconds) => ({ seconds, late: late(seconds) })).sort(
    (a, b) => a.late - b.late,
  )[0]!.seconds;
}

const bestHpa = best((seconds) => hpa(seconds));
const bestKeda = best((seconds) => keda(seconds));
const ours = [fanfare('Fanfare, min 1'), fanfare('Fanfare, min 0', { minReplicas: 0 })];
const tuned = [hpa(bestHpa), keda(bestKeda), ...ours].map((contender) => run(contender, seeds));
const others = [
  ...TARGET_SECONDS.map((seconds) => hpa(seconds)),
  ...TARGET_SECONDS.map((seconds) => keda(seconds)),
  ...[5, 10, 30, 45].map((seconds) =>
    hpa(seconds, { name: `HPA ${seconds} s, Fanfare's scaleDown`, scaleDown: OUR_SCALE_DOWN }),
  ),
  fanfare('Fanfare, min 1, without handshake', {}, false),
].map((contender) => run(contender, seeds));
const varied = [...TARGET_SECONDS.map((s) => hpa(s)), ...TARGET_SECONDS.map((s) => keda(s)), ...ours].map(
  (contender) => run(contender, seeds, true),
);

const columns = 'over the objective · consumer-hours · changes · redeliveries';
console.log(
  `Objective ${OBJECTIVE_SECONDS} s; seeds ${seeds.join(', ')}; figures are for one pass through all shapes.`,
);
console.log(`\nTotals\n\n${totalsTable(tuned, seeds.length)}`);
console.log(`\nOther settings\n\n${totalsTable(others, seeds.length)}`);
console.log(
  `\nThe same shapes with other numbers, for each seed its own\n\n${totalsTable(varied, seeds.length)}`,
);
console.log(`\nBy shape: ${columns}\n\n${shapesTable(tuned, seeds.length)}`);
