// `npm run bench`: runs the cases and prints a table; with --json one JSON object per case and nothing else on stdout.
//   --case NAME     only that one (may be repeated; also `backlog` and `idle`)
//   --seconds N     measured for each case (10)
//   --profile DIR   leaves CPU profiles of the broker there (the numbers are then worth nothing)
//   --quick         each case briefly, with small backlogs: to see that it runs, not to quote
import { parseArgs } from 'node:util';
import { runBacklog } from './backlog.ts';
import { type BenchCase, CASES, runCase } from './cases.ts';
import { runIdle } from './idle.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true },
    seconds: { type: 'string' },
    profile: { type: 'string' },
  },
});
const seconds = Number(values.seconds ?? (values.quick ? 1 : 10));
const durations = { seconds, warmupSeconds: values.quick ? 1 : 3 };
const backlogs = values.quick ? [10, 20_000] : [10, 10_000_000];
const known = [...CASES.map(({ name }) => name), 'backlog', 'idle'];
const wanted = values.case ?? known;
for (const name of wanted) {
  if (known.includes(name)) continue;
  console.error(`bench: there is no case ${name}; there are ${known.join(', ')}`);
  process.exit(2);
}

for (const bench of CASES) if (wanted.includes(bench.name)) await show(bench);
if (wanted.includes('backlog')) for (const count of backlogs) print(await runBacklog(count, durations));
if (wanted.includes('idle'))
  print(await runIdle(values.quick ? 500 : 10_000, values.quick ? 5 : 100, seconds));

async function show(bench: BenchCase): Promise<void> {
  if (!values.json) console.log(`${bench.name}: ${bench.what}`);
  print(await runCase(bench, durations, values.profile));
}

function print(result: object): void {
  if (values.json) {
    console.log(JSON.stringify(result));
    return;
  }
  for (const [name, value] of Object.entries(result)) {
    if (name !== 'case') console.log(`  ${name.padEnd(26)} ${value.toLocaleString('en')}`);
  }
  console.log();
}
