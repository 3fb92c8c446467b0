// Guarantee: what the embedded store acknowledged survives kill -9. A child process writes and says what was
// acknowledged, is killed after a random number of lines, and what it said is then looked for, byte by byte.
// The same folder goes on through all rounds. SEED= replays the numbers (though not the scheduling).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { type EmbeddedStore, openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import { readAll } from '../conformance/harness.ts';
import { seededRandom } from '../support/random.ts';
import { CRASH_PARTITIONS, crashFrames } from '../support/store-crash-child.ts';

const ROUNDS = 20;
const CHILD = join(import.meta.dirname, '../support/store-crash-child.ts');

/** The newest that was acknowledged, by partition. */
interface Acknowledged {
  readonly end: number[];
  readonly cursor: number[];
  readonly head: number[];
}

test('nothing acknowledged is lost by kill -9, in 20 rounds', { timeout: 120_000 }, async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  console.log(`SEED=${seed}`);
  const random = seededRandom(seed);
  const dir = await mkdtemp(join(tmpdir(), 'fanfare-crash-'));
  const acknowledged: Acknowledged = { end: zeros(), cursor: zeros(-1), head: zeros() };
  for (let round = 0; round < ROUNDS; round++) {
    await runAndKill(dir, 1 + Math.floor(random() ** 2 * 1_000), acknowledged);
    const store = await openEmbeddedStore({ dir });
    for (let partition = 0; partition < CRASH_PARTITIONS; partition++) {
      await check(store, partition, acknowledged);
    }
    await store.close();
  }
  await rm(dir, { recursive: true });
});

/** Resolves when the child is dead and all that it said is counted. */
async function runAndKill(dir: string, lines: number, acknowledged: Acknowledged): Promise<void> {
  const child = spawn(process.execPath, [CHILD, dir], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  let heard = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    heard++;
    note(line, acknowledged);
    if (heard === lines) child.kill('SIGKILL');
  }
  expect((await exited)[1], 'the child died by itself').toBe('SIGKILL');
}

function note(line: string, { end, cursor, head }: Acknowledged): void {
  const [what, ...numbers] = line.split(' ');
  const [partition = 0, at = 0, count = 0] = numbers.map(Number);
  if (what === 'append') end[partition] = at + count;
  if (what === 'cursor') cursor[partition] = at;
  if (what === 'trim') head[partition] = at;
}

async function check(store: EmbeddedStore, partition: number, acknowledged: Acknowledged): Promise<void> {
  const id = { logEpoch: 1, partition };
  const bounds = await store.log.bounds(id);
  // At most one append of each partition was under way; it may be there, too.
  expect(bounds.endOffset - acknowledged.end[partition]!).toBeOneOf([0, 1]);
  expect(bounds.headOffset).toBeGreaterThanOrEqual(acknowledged.head[partition]!);

  let { headOffset: next, headByte: nextByte } = bounds;
  for (const chunk of await readAll(store, id)) {
    expect([chunk.firstOffset, chunk.startByte]).toEqual([next, nextByte]);
    expect(chunk.bytes.equals(crashFrames(partition, next)), `bytes of ${partition}:${next}`).toBe(true);
    next += chunk.count;
    nextByte += chunk.bytes.length;
  }
  expect([next, nextByte]).toEqual([bounds.endOffset, bounds.endByte]);

  const record = await store.cursors.load(9, id);
  const cursor = record ? Buffer.from(record).readDoubleBE() : -1;
  expect(cursor).toBeGreaterThanOrEqual(acknowledged.cursor[partition]!);
  acknowledged.end[partition] = bounds.endOffset;
  acknowledged.cursor[partition] = cursor;
}

function zeros(value = 0): number[] {
  return Array.from({ length: CRASH_PARTITIONS }, () => value);
}
