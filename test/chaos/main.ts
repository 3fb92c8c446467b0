// `npm run chaos`: real brokers, a real Redis, plain clients in Go, and one fault after the other, for half
// an hour. Ends with a verdict (judge.ts), and with code 1 if it is bad; then the journal and all logs stay
// in a folder, whose name it prints.
//   --minutes N       no new fault after that (30); each kind comes once at least
//   --seed N          seed of the choices made here; what the machine makes of them differs from run to run
//   --only KINDS      only these faults, by commas: kill, stop, suspend, lost-tail, lost-definitions,
//                     full-disk; or planted-loss, which loses messages as services/CLUSTER.md says they
//                     are lost: the verdict must be bad
//   --keep            keeps the folder in any case
//   --judge JOURNAL   runs nothing, and judges a journal.jsonl again
import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { seededRandom } from '../support/random.ts';
import type { JournalEvent } from './events.ts';
import { Judge } from './judge.ts';
import { KINDS, type Kind, PLANTED, runChaos } from './run.ts';
import { describe, reasonsOf } from './verdict.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    only: { type: 'string', default: KINDS.join(',') },
    keep: { type: 'boolean', default: false },
    judge: { type: 'string' },
  },
});
const kinds = values.only.split(',') as Kind[];
const unknown = kinds.filter((kind) => ![...KINDS, PLANTED].includes(kind));
const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
if (unknown.length > 0) refuse(`there is no fault ${unknown.join(', ')}; there are ${KINDS.join(', ')}`);
if (!(minutes >= 0)) refuse('--minutes takes a number of minutes, such as 30');
if (!Number.isInteger(seed)) refuse('--seed takes a whole number');

const judge = new Judge();
if (values.judge !== undefined) {
  for await (const line of createInterface({ input: createReadStream(values.judge) }))
    judge.hear(JSON.parse(line) as JournalEvent);
  finish(judge);
} else {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-chaos-'));
  console.log(`seed ${seed}, ${minutes} minutes of ${kinds.join(', ')}; journal and logs in ${folder}`);
  const random = seededRandom(seed);
  await runChaos({ judge, folder, random, kinds, minutes });
  const isGood = finish(judge);
  if (isGood && !values.keep) await rm(folder, { recursive: true });
  else console.log(`journal.jsonl and the brokers' logs are in ${folder}`);
}

function finish(judge: Judge): boolean {
  const verdict = judge.verdict();
  console.log(describe(verdict));
  const reasons = reasonsOf(verdict);
  if (reasons.length === 0) console.log('good: nothing lost, nothing out of order');
  else console.log(`BAD\n${reasons.join('\n')}`);
  process.exitCode = reasons.length === 0 ? 0 : 1;
  return reasons.length === 0;
}

function refuse(why: string): never {
  console.error(`chaos: ${why}`);
  process.exit(2);
}
