// The data folder of the embedded store: one process at a time, whatever became of the last one; damaged or
// foreign folders are refused with a message that says what to do, and are not changed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  access,
  chmod,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type EmbeddedStore, openEmbeddedStore } from '../../services/broker/adapters/embedded/store.ts';
import type { Chunk } from '../../services/broker/ports/log-store.ts';
import { appendTo, readAll } from '../conformance/harness.ts';
import { createFaultyDisk } from '../support/faulty-disk.ts';

const P = { logEpoch: 1, partition: 0 };
const CHILD = join(import.meta.dirname, '../support/store-open-child.ts');

let parent: string;
let dir: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'fanfare-folder-'));
  dir = join(parent, 'data');
});
afterEach(async () => {
  await Promise.all(children.splice(0).map(kill));
  await rm(parent, { recursive: true });
});

function openStore(folder = dir): Promise<EmbeddedStore> {
  return openEmbeddedStore({ dir: folder, journalBytes: 1 << 16, mergeIntervalMs: 2 ** 30 });
}

async function refusal(folder = dir): Promise<string> {
  const error = await openStore(folder).then(
    async (store) => {
      await store.close();
      return undefined;
    },
    (reason: unknown) => reason,
  );
  expect(error, 'the folder was not refused').toMatchObject({
    name: 'BrokerError',
    code: 'FAILED_PRECONDITION',
  });
  return (error as Error).message;
}

/** A folder with chunks in LMDB and, as after kill -9, more in the journal. */
async function makeCrashedFolder(): Promise<Chunk[]> {
  const disk = createFaultyDisk();
  const store = await openEmbeddedStore({ dir, disk, journalBytes: 1 << 16, mergeIntervalMs: 2 ** 30 });
  const written = await appendTo(store, P, 0, [100, 200]);
  await store.cursors.drop(1);
  for (const size of [300, 400, 500, 600]) written.push(...(await appendTo(store, P, 0, [size])));
  disk.tableWrites = 'fails';
  await store.close();
  return written;
}

/** Finds the chunk's frames in the journal. */
async function placeInJournal(chunk: Chunk): Promise<{ path: string; position: number }> {
  for (const name of ['journal-0', 'journal-1']) {
    const path = join(dir, name);
    const position = (await readFile(path)).indexOf(chunk.bytes);
    if (position >= 0) return { path, position };
  }
  return expect.fail('the chunk is not in the journal');
}

async function overwrite(path: string, position: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, position);
  await file.close();
}

async function startChild(folder: string): Promise<string> {
  const child = spawn(process.execPath, [CHILD, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) return line;
  return expect.fail('the child said nothing');
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

describe('one process per data folder', () => {
  test('a second open is refused, naming the process', async () => {
    const store = await openStore();
    expect(await refusal()).toContain(`in use by process ${process.pid}`);
    await store.close();
    await (await openStore()).close();
  });

  test('another process is refused; after kill -9 the folder is free at once', async () => {
    expect(await startChild(dir)).toBe('open');
    expect(await refusal()).toContain(`in use by process ${children[0]!.pid}`);
    await kill(children[0]!);
    await (await openStore()).close();
  });

  test('a stopped process keeps its folder', async () => {
    await startChild(dir);
    children[0]!.kill('SIGSTOP');
    expect(await refusal()).toContain('in use by process');
  });

  test('a live process that got the id of a dead owner does not count', async () => {
    await startChild(dir);
    await kill(children[0]!);
    const claim = join(dir, 'lock/claim-1');
    const content = JSON.parse(await readFile(claim, 'utf8')) as object;
    await writeFile(claim, JSON.stringify({ ...content, pid: process.pid }));
    await (await openStore()).close();
  });

  test('of several that start at once after a crash, one gets the folder', { timeout: 30_000 }, async () => {
    for (let round = 0; round < 3; round++) {
      const said = await Promise.all(Array.from({ length: 4 }, () => startChild(dir)));
      expect(said.filter((line) => line === 'open')).toHaveLength(1);
      for (const line of said) expect(line).toMatch(/^open$|in use by process|start here at once/);
      await Promise.all(children.splice(0).map(kill));
    }
  });

  test('works where the path is longer than a Unix socket may have', async () => {
    const long = join(dir, 'x'.repeat(120));
    const store = await openStore(long);
    expect(await refusal(long)).toContain('in use by process');
    await store.close();
  });
});

describe('the data folder', () => {
  test('is private, and so are its files', async () => {
    await (await openStore()).close();
    expect((await stat(dir)).mode & 0o777).toBe(0o700);
    await chmod(join(dir, 'data.mdb'), 0o644);
    const store = await openStore();
    const files = await readdir(dir, { withFileTypes: true });
    const modes = files
      .filter((file) => file.isFile())
      .map(async ({ name }) => {
        return [name, ((await stat(join(dir, name))).mode & 0o777).toString(8)];
      });
    await store.close();
    expect(Object.fromEntries(await Promise.all(modes))).toEqual({
      format: '600',
      'data.mdb': '600',
      'data.mdb-lock': '600',
      'journal-0': '600',
      'journal-1': '600',
      reserve: '600',
      'reserve-start': '600',
    });
  });

  test('of a newer format is refused and left alone', async () => {
    await (await openStore()).close();
    const newer = JSON.stringify({ format: 2, something: 'else' });
    await writeFile(join(dir, 'format'), newer);
    expect(await refusal()).toMatch(/has format 2, .* up to 1\. Start the newer version/);
    expect(await readFile(join(dir, 'format'), 'utf8')).toBe(newer);
  });

  test.each(['', '{"format":1}', 'garbage', '{"format":1,"state":"ready","salt":"short"}'])(
    'with the format file %j is refused',
    async (content) => {
      await (await openStore()).close();
      await writeFile(join(dir, 'format'), content);
      expect(await refusal()).toMatch(
        /format file .*(damaged|can not be read).*Restore the folder from a backup/,
      );
    },
  );

  test.each(['data.mdb', 'journal-0', 'journal-1'])('without %s is refused', async (name) => {
    await (await openStore()).close();
    await rm(join(dir, name));
    expect(await refusal()).toContain(`${name} is missing`);
    await expect(access(join(dir, name))).rejects.toThrow('ENOENT');
  });

  test('without a format file but with data is refused', async () => {
    await (await openStore()).close();
    await rm(join(dir, 'format'));
    expect(await refusal()).toContain('no format file');
  });

  test('whose first start was interrupted begins again', async () => {
    await (await openStore()).close();
    const format = JSON.parse(await readFile(join(dir, 'format'), 'utf8')) as object;
    await writeFile(join(dir, 'format'), JSON.stringify({ ...format, state: 'creating' }));
    await rm(join(dir, 'data.mdb'));
    const store = await openStore();
    await appendTo(store, P, 0, [10]);
    await store.close();
  });

  test.each([0, 100, 64 << 10])('with %i bytes of something else for LMDB is refused', async (bytes) => {
    await (await openStore()).close();
    await writeFile(join(dir, 'data.mdb'), Buffer.alloc(bytes, 'not LMDB'));
    expect(await refusal()).toMatch(/is not an LMDB file.*Restore it from a backup/);
  });

  test('with an LMDB file cut short is refused', async () => {
    const store = await openStore();
    await appendTo(
      store,
      P,
      0,
      Array.from({ length: 50 }, () => 50_000),
    );
    await store.close();
    await truncate(join(dir, 'data.mdb'), (await stat(join(dir, 'data.mdb'))).size - 1_400_000);
    expect(await refusal()).toMatch(/is cut short.*Restore it from a backup/);
  });
});

describe('the journal at start', () => {
  test('is replayed', async () => {
    const written = await makeCrashedFolder();
    const store = await openStore();
    expect(await readAll(store, P)).toEqual(written);
    await store.close();
  });

  test('with a torn last record: that one was never acknowledged, the others are there', async () => {
    const written = await makeCrashedFolder();
    const last = await placeInJournal(written.at(-1)!);
    await overwrite(last.path, last.position + 100, Buffer.alloc(400));
    const store = await openStore();
    expect(await readAll(store, P)).toEqual(written.slice(0, -1));
    await store.close();
  });

  test.each([2, 3, 4])('with record %i damaged and whole ones behind it is refused', async (index) => {
    const written = await makeCrashedFolder();
    const { path, position } = await placeInJournal(written[index]!);
    await overwrite(path, position + 10, Buffer.from('damage'));
    expect(await refusal()).toMatch(/journal record \d+ is damaged or missing.*Restore it from a backup/);
  });

  test('with damage in what LMDB has already does not mind', async () => {
    const written = await makeCrashedFolder();
    const { path, position } = await placeInJournal(written[0]!);
    await overwrite(path, position + 10, Buffer.from('damage'));
    const store = await openStore();
    expect(await readAll(store, P)).toEqual(written);
    await store.close();
  });
});
