// `npm run bench`: runs the cases and prints a table; with --json one JSON object per result and nothing else
// on stdout.
//   --cluster       the cases with three brokers on Redis, instead of those with one embedded broker
//   --case NAME     only that one (may be repeated; also `backlog`, `idle`, and those of the cluster)
//   --seconds N     measured for each case (10; with --quick 1)
//   --profile DIR   leaves CPU profiles of the brokers there (the numbers are then worth nothing)
//   --quick         each case briefly, of both kinds unless --cluster is given, with small backlogs:
//                   to see that it runs, not to quote
import { parseArgs } from 'node:util';
import { runBacklog } from './backlog.ts';
import { type BenchCase, CASES, runCase } from './cases.ts';
import { runClusterDurability } from './cluster-durability.ts';
import { runClusterIdle } from './cluster-idle.ts';
import { runClusterLink } from './cluster-link.ts';
import { CLUSTER_CASES, type ClusterCase, runClusterCase } from './cluster-load.ts';
import { runIdle } from './idle.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    cluster: { type: 'boolean', default: false },
    case: { type: 'string', multiple: true },
    seconds: { type: 'string' },
    profile: { type: 'string' },
  },
});
const { quick, profile } = values;
const seconds = Number(values.seconds ?? (quick ? 1 : 10));
const durations = { seconds, warmupSeconds: quick ? 1 : 3 };
const backlogs = quick ? [10, 20_000] : [10, 10_000_000];
// With --quick nothing is asserted: a second of traffic is no measurement.
const linkLoads = [
  { messageBytes: 256, rate: 1_000, messages: 1_000 * seconds, sparse: true },
  { messageBytes: 1024, rate: 1_000, messages: 1_000 * seconds, sparse: true },
  { messageBytes: 256, rate: 4_000, messages: 4_000 * seconds },
  { messageBytes: 1024, rate: 2_000, messages: 2_000 * seconds },
  { messageBytes: 1024, rate: 0, messages: 10_000 * seconds },
].map((load) => ({ ...load, sparse: quick || load.sparse === true }));
const idleShape = quick
  ? { topics: 10, partitions: 10, subscriptions: 10 }
  : { topics: 100, partitions: 10, subscriptions: 10 };

const alone = [...CASES.map(({ name }) => name), 'backlog', 'idle'];
const clustered = [
  ...CLUSTER_CASES.map(({ name }) => name),
  'cluster-link',
  'cluster-durability',
  'cluster-idle',
];
const known = [...alone, ...clustered];
const wanted = values.case ?? (values.cluster ? clustered : quick ? known : alone);
for (const name of wanted) {
  if (known.includes(name)) continue;
  console.error(`bench: there is no case ${name}; there are ${known.join(', ')}`);
  process.exit(2);
}

for (const bench of CASES) {
  if (!wanted.includes(bench.name)) continue;
  announce(bench);
  print(await runCase(bench, durations, profile));
}
if (wanted.includes('backlog')) for (const count of backlogs) print(await runBacklog(count, durations));
if (wanted.includes('idle')) print(await runIdle(quick ? 500 : 10_000, quick ? 5 : 100, seconds));

for (const bench of CLUSTER_CASES) {
  if (!wanted.includes(bench.name)) continue;
  announce(bench);
  await runClusterCase(bench, durations, profile, print);
}
if (wanted.includes('cluster-link')) {
  announce({ name: 'cluster-link', what: '64 subscriptions behind one relay' });
  for (const load of linkLoads) print(await runClusterLink(load));
}
if (wanted.includes('cluster-durability')) {
  announce({ name: 'cluster-durability', what: '1,000 publishes/s by durability level, direct' });
  await runClusterDurability(durations, print);
}
if (wanted.includes('cluster-idle')) {
  announce({ name: 'cluster-idle', what: 'nothing is published' });
  await runClusterIdle(idleShape, seconds, print);
}

function announce({ name, what }: Pick<BenchCase | ClusterCase, 'name' | 'what'>): void {
  if (!values.json) console.log(`${name}: ${what}`);
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
