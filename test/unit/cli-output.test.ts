// Standard output: what counts as printed, and that everything of the command line goes through it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Output, OutputError, streamTarget } from '../../services/cli/standard-output.ts';

const never = new AbortController().signal;

test('what is written is printed in order, and flushed() knows when', async () => {
  const stream = new PassThrough();
  const output = new Output(streamTarget(stream, true));
  const printed: string[] = [];
  output.write('a', () => printed.push('a'));
  await output.print('b');
  expect(printed).toEqual(['a']);
  await output.flushed(never);
  expect(output.isFlushed).toBe(true);
  expect(stream.read().toString()).toBe('ab');
});

test('one that is slow is full until it has taken what it was given; who is interrupted does not wait', async () => {
  const taken: (() => void)[] = [];
  const slow = new Writable({
    write(_chunk, _encoding, callback) {
      taken.push(callback);
    },
  });
  const output = new Output(streamTarget(slow, true));
  expect(output.write(Buffer.alloc(100_000))).toBe(false);
  expect(output.isFull).toBe(true);
  const interruption = new AbortController();
  const flushed = output.flushed(interruption.signal);
  interruption.abort();
  await flushed;
  expect(output.isFlushed).toBe(false);
  taken.shift()!();
  await output.room();
  expect(output.isFull).toBe(false);
});

test('the first failure is final: nothing counts as printed from then on', async () => {
  const failures = [undefined, Object.assign(new Error('write EPIPE'), { code: 'EPIPE', errno: -32 })];
  const breaking = new Writable({
    write(_chunk, _encoding, callback) {
      callback(failures.shift());
    },
  });
  const output = new Output(streamTarget(breaking, true));
  await output.print('a');
  await expect(output.print('b')).rejects.toThrow(OutputError);
  await expect(output.print('c')).rejects.toThrow(
    "the output can't be written: nobody reads it any more (EPIPE)",
  );
  expect(output.failure?.isClosed).toBe(true);
  expect(output.isFull).toBe(false);
  await output.room();
  await output.flushed(never);
});

test('a file that takes only a part of a write has failed, and what was said to be printed is in it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fanfare-output-'));
  try {
    const file = join(folder, 'out');
    const script = `
      import { Output, fileTarget } from '${new URL('../../services/cli/standard-output.ts', import.meta.url)}';
      process.on('SIGXFSZ', () => {});
      const output = new Output(fileTarget(1));
      let printed = 0;
      for (let n = 0; n < 4; n++) {
        try {
          await output.print(Buffer.alloc(3000, 'x'));
          printed += 3000;
        } catch (error) {
          console.error(printed + ' ' + error.message);
          break;
        }
      }`;
    // Files end at 8 KiB: in the middle of the third write.
    const shell = `ulimit -f 8; exec "$0" --input-type=module -e "$1" > "$2"`;
    const run = spawnSync('/bin/bash', ['-c', shell, process.execPath, script, file], { encoding: 'utf8' });
    expect(run.stderr).toBe("6000 the output can't be written: file too large (EFBIG)\n");
    expect(readFileSync(file).length).toBeGreaterThan(6_000);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('nothing of the command line writes to standard output past it', () => {
  const folder = fileURLToPath(new URL('../../services/cli/', import.meta.url));
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  );
  expect(files.length).toBeGreaterThan(30);
  const past = files.filter((file) =>
    /console\.(log|info|table|dir)|process\.stdout/.test(readFileSync(join(folder, file), 'utf8')),
  );
  expect(past).toEqual(['standard-output.ts']);
});
