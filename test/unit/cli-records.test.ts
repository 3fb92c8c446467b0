// Lines and NUL-separated records of any input, however it is cut; and how lines that were not published are
// named.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineFailures } from '../../services/cli/line-failures.ts';
import { isTooLong, type RecordOptions, splitRecords } from '../../services/cli/records.ts';
import { cases } from '../support/property.ts';

const LF = 0x0a;
const RAW = { end: LF, isText: false };
const TEXT = { end: LF, isText: true };
const MIB = 1024 * 1024;

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Buffer> {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let n = 1; n < at.length; n++) yield Buffer.from(bytes.subarray(at[n - 1]!, at[n]!));
}

/** The records as latin1 texts; a number is the length of one that is too long. */
async function recordsOf(
  input: AsyncIterable<Buffer> | string,
  options: RecordOptions,
): Promise<(string | number)[]> {
  const chunks = typeof input === 'string' ? chunksOf(Buffer.from(input, 'latin1'), []) : input;
  const records: (string | number)[] = [];
  for await (const record of splitRecords(chunks, options))
    records.push(isTooLong(record) ? record.bytes : record.toString('latin1'));
  return records;
}

const anyText = fc
  .uint8Array({ maxLength: 100 })
  .map((all) => all.map((byte) => (byte < 50 ? LF : byte < 90 ? 0x0d : byte)));
const anyCuts = fc.array(fc.nat(100), { maxLength: 10 });

test('records are the same however the input is cut', async () => {
  await fc.assert(
    fc.asyncProperty(anyText, anyCuts, async (input, cuts) => {
      const expected = Buffer.from(input).toString('latin1').split('\n');
      if (expected.at(-1) === '') expected.pop();
      expect(await recordsOf(chunksOf(input, cuts), RAW)).toEqual(expected);
    }),
    cases(500),
  );
});

test('as text, one carriage return before a newline is part of it, however the input is cut', async () => {
  await fc.assert(
    fc.asyncProperty(anyText, anyCuts, async (input, cuts) => {
      const expected = Buffer.from(input).toString('latin1').split(/\r?\n/);
      if (expected.at(-1) === '') expected.pop();
      expect(await recordsOf(chunksOf(input, cuts), TEXT)).toEqual(expected);
    }),
    cases(500),
  );
});

test.each<[what: string, input: string, options: RecordOptions, records: string[]]>([
  ['nothing', '', TEXT, []],
  ['one line without its newline', 'a', TEXT, ['a']],
  ['an empty line', '\n', TEXT, ['']],
  ['empty lines between', 'a\n\nb\n', TEXT, ['a', '', 'b']],
  ['a file of Windows', 'a\r\n\r\nb\r\n', TEXT, ['a', '', 'b']],
  ['the same, byte for byte', 'a\r\nb\r\n', RAW, ['a\r', 'b\r']],
  ['two carriage returns, and one within', 'a\r\r\nb\rc\n', TEXT, ['a\r', 'b\rc']],
  ['a carriage return at the very end', 'a\nb\r', TEXT, ['a', 'b\r']],
  [
    'a byte order mark, at the beginning only',
    '\xef\xbb\xbfa\n\xef\xbb\xbfb\n',
    TEXT,
    ['a', '\xef\xbb\xbfb'],
  ],
  ['the same, byte for byte', '\xef\xbb\xbfa\n', RAW, ['\xef\xbb\xbfa']],
  ['nothing but a byte order mark', '\xef\xbb\xbf', TEXT, []],
  ['NUL bytes', 'a\nb\0\0c', { end: 0, isText: false }, ['a\nb', '', 'c']],
])('%s', async (_what, input, options, records) => {
  expect(await recordsOf(input, options)).toEqual(records);
});

test('of a line that is too long its length is known, and those around it come', async () => {
  async function* chunks(): AsyncGenerator<Buffer> {
    yield Buffer.from('before\nx');
    // Nothing of these chunks is kept: they are all the same memory, and come to more than there may be.
    const mebibyte = Buffer.alloc(MIB, 'x');
    for (let n = 0; n < 4_096; n++) yield mebibyte;
    yield Buffer.from('\nafter\n');
    yield mebibyte;
    yield mebibyte;
    yield Buffer.from('xxxxx');
  }
  expect(await recordsOf(chunks(), TEXT)).toEqual(['before', 4_096 * MIB + 1, 'after', 2 * MIB + 5]);
});

test('the longest message fits, with its carriage return', async () => {
  const longest = 'x'.repeat(2 * MIB);
  expect((await recordsOf(`${longest}\r\n`, TEXT)).map((record) => (record as string).length)).toEqual([
    2 * MIB,
  ]);
});

test('lines that failed for one reason are named together, in whatever order they came', () => {
  const told: string[] = [];
  const failures = new LineFailures((text) => told.push(text));
  for (const line of [7, 2, 3, 9, 4]) failures.add(line, 'no field');
  failures.add(5, 'too long');
  failures.flush();
  failures.flush();
  expect(told).toEqual(['lines 2 to 4, 7 and 9: no field', 'line 5: too long']);
  expect(failures.count).toBe(6);
  for (let line = 100; line < 200; line += 2) failures.add(line, 'odd');
  failures.flush();
  expect(told.slice(2).map((text) => text.split(/,| and /).length)).toEqual([20, 20, 10]);
  failures.add(1201, 'late');
  failures.add(1202, 'late');
  failures.flush();
  expect(told.at(-1)).toBe('lines 1201 to 1202: late');
});
