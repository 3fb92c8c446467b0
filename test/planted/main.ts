// Plants each bug of the table in a copy of the tree and expects that its check notices it; then the table of
// what has noticed what, and after how long.
//
//   npm run planted                        all of them
//   npm run planted -- redis "lease"       those whose name, file or check has one of these words
//   npm run planted -- --document          writes README.md instead
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Check, PlantedBug } from './bug.ts';
import { fileOf, nameOf, runChecks, type Verdict } from './check.ts';
import { BUGS, DOCUMENT, documentText, roomOf } from './table.ts';
import { Tree, unplantable } from './tree.ts';

/** How many checks run at the same time. */
const LANES = 2;

interface Job {
  /** Undefined: the checks without any bug, which have to pass. */
  readonly bug: PlantedBug | undefined;
  /** Of one file. */
  readonly checks: readonly Check[];
}

interface Done extends Job {
  readonly verdict: Verdict;
}

const words = process.argv.slice(2);
if (words.includes('--document')) writeFileSync(DOCUMENT, documentText());
else process.exitCode = await plantAll(words);

async function plantAll(chosen: readonly string[]): Promise<number> {
  const bugs = BUGS.filter(
    (bug) =>
      chosen.length === 0 ||
      chosen.some((word) => `${bug.name} ${bug.file} ${nameOf(bug.noticed)}`.includes(word)),
  );
  const gone = unplantable(bugs);
  const plantable = bugs.filter((bug) => unplantable([bug]).length === 0);
  const byFile = Map.groupBy(
    plantable.map(({ noticed }) => noticed),
    fileOf,
  );
  const jobs: Job[] = [
    ...[...byFile.values()].map((checks) => ({ bug: undefined, checks })),
    ...plantable.map((bug) => ({ bug, checks: [bug.noticed] })),
  ];
  console.log('| bug | room | noticed by | after s | what was said |\n| --- | --- | --- | --- | --- |');
  const done = await runAll(jobs);
  for (const each of gone) console.log(`FAILED the text is not there exactly once: ${each}`);
  const failed = done.filter((each) => !isAsExpected(each));
  for (const each of failed) console.log(`FAILED ${complaint(each)}`);
  const failures = failed.length + gone.length;
  console.log(`${done.length - failed.length} passed, ${failures} failed`);
  return failures === 0 ? 0 : 1;
}

async function runAll(jobs: readonly Job[]): Promise<Done[]> {
  const folder = mkdtempSync(join(tmpdir(), 'fanfare-planted-'));
  const waiting = [...jobs];
  const done: Done[] = [];
  const lane = async (number: number): Promise<void> => {
    const tree = new Tree(join(folder, String(number)));
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      const verdict = await tree.with(job.bug, () => runChecks(tree.root, job.checks));
      const result = { ...job, verdict };
      done.push(result);
      printRow(result);
    }
  };
  try {
    await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return done;
}

function isAsExpected({ bug, verdict }: Done): boolean {
  return verdict.kind === (bug === undefined ? 'passed' : 'noticed');
}

function complaint({ bug, checks, verdict }: Done): string {
  const [check] = checks as [Check];
  if (bug === undefined) return `without a bug: ${fileOf(check)}\n  | ${verdict.said}`;
  const what = verdict.kind === 'passed' ? 'notices nothing' : 'gives no verdict';
  return `${bug.name} (${bug.file}): ${nameOf(check)} ${what}\n  | ${verdict.said}`;
}

function printRow({ bug, verdict }: Done): void {
  if (bug === undefined) return;
  const by = verdict.kind === 'noticed' ? nameOf(bug.noticed) : 'NOTHING';
  const said = verdict.said.slice(0, 100).replaceAll('|', '/');
  console.log(`| ${bug.name} | ${roomOf(bug)} | ${by} | ${verdict.seconds.toFixed(1)} | ${said} |`);
}
