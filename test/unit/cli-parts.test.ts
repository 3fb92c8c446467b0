import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rowsOf } from '../../services/cli/commands/top.ts';
import { keyExtractor } from '../../services/cli/ordering-key.ts';
import { formatTable } from '../../services/cli/output.ts';
import { splitRecords } from '../../services/cli/records.ts';
import {
  formatCount,
  formatDuration,
  formatSize,
  parseCount,
  parseDuration,
  parsePair,
  parseSize,
} from '../../services/cli/units.ts';
import type { Backlog } from '../../services/client/admin-types.ts';

async function* chunksOf(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Buffer> {
  const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let n = 1; n < at.length; n++) yield Buffer.from(bytes.subarray(at[n - 1]!, at[n]!));
}

test('records are the same however the input is cut', async () => {
  const bytes = fc.uint8Array({ maxLength: 100 }).map((all) => all.map((byte) => (byte < 60 ? 0x0a : byte)));
  await fc.assert(
    fc.asyncProperty(bytes, fc.array(fc.nat(100), { maxLength: 10 }), async (input, cuts) => {
      const records: string[] = [];
      for await (const record of splitRecords(chunksOf(input, cuts), 0x0a))
        records.push(record.toString('latin1'));
      const expected = Buffer.from(input).toString('latin1').split('\n');
      if (expected.at(-1) === '') expected.pop();
      expect(records).toEqual(expected);
    }),
  );
});

test.each([
  [{}, 'a b', {}],
  [{ key: 'k' }, 'a b', { value: 'k' }],
  [{ keyField: 1 }, '  a b', { value: 'a' }],
  [{ keyField: 2 }, 'a\t b c', { value: 'b' }],
  [{ keyField: 2, delimiter: ',' }, 'a,b c,d', { value: 'b c' }],
  [{ keyField: 3, delimiter: '/[,;]/' }, 'a,b;c', { value: 'c' }],
  [{ keyField: 2, delimiter: '\\t' }, 'a b\tc', { value: 'c' }],
  [{ keyMatch: '^S: (.*)$' }, 'P: 1\nS: libs\n', { value: 'libs' }],
  [{ keyMatch: '[0-9]+' }, 'order 12 of 3', { value: '12' }],
])('ordering key by %j of "%s"', (flags, record, expected) => {
  expect(keyExtractor(flags)(Buffer.from(record))).toEqual(expected);
});

test('a record without its key says so; ways to a key exclude each other', () => {
  expect(keyExtractor({ keyField: 3 })(Buffer.from('a b')).error).toMatch(/no field 3/);
  expect(keyExtractor({ keyMatch: 'x(y)' })(Buffer.from('a b')).error).toMatch(/x\(y\)/);
  expect(() => keyExtractor({ key: 'a', keyField: 1 })).toThrow(/only one/);
  expect(() => keyExtractor({ keyMatch: '(' })).toThrow(/--key-match/);
});

test('units as people write them', () => {
  expect([parseDuration('1500ms'), parseDuration('1.5h'), parseDuration('7d')]).toEqual([
    1_500, 5_400_000, 604_800_000,
  ]);
  expect([parseSize('10'), parseSize('64KiB'), parseSize('1.5GB')]).toEqual([10, 65_536, 1_500_000_000]);
  expect(parsePair('a=b=c', { x: 'y' })).toEqual({ x: 'y', a: 'b=c' });
  for (const wrong of ['', '5', '-1s', '1 s', '1w']) expect(() => parseDuration(wrong)).toThrow(/30s/);
  for (const wrong of ['', 'x', '1KB/s', '-1']) expect(() => parseSize(wrong)).toThrow(/KiB/);
  for (const wrong of ['0', '1.5', '-1', 'x', '']) expect(() => parseCount(1)(wrong)).toThrow(/at least 1/);
  expect([42, 12_000, 185_000, 7_800_000, 604_800_000].map(formatDuration)).toEqual([
    '42ms',
    '12s',
    '3m 5s',
    '2h 10m',
    '7d',
  ]);
  expect([0, 512, 1536, 20 * 1024 ** 2].map(formatSize)).toEqual(['0 B', '512 B', '1.5 KiB', '20 MiB']);
  expect(formatCount(1_234_567.4)).toBe('1,234,567');
});

test('tables align numbers to the right', () => {
  const rows = [
    { name: 'a', count: 5 },
    { name: 'long name', count: 1_234 },
  ];
  expect(formatTable(rows, { name: (row) => row.name, count: (row) => row.count })).toBe(
    'NAME       COUNT\na              5\nlong name   1234',
  );
});

test('rates come from two answers; a counter that fell began anew', () => {
  const at = (seconds: number, totals: Partial<Backlog>): Backlog => ({
    subscription: 's',
    topic: 't',
    messages: 0,
    bytes: 0,
    outstandingMessages: 0,
    oldestUnackedAgeMs: undefined,
    consumers: 0,
    appendedTotal: 0,
    deliveredTotal: 0,
    ackedTotal: 0,
    redeliveredTotal: 0,
    expiredByRetentionTotal: 0,
    measureTime: new Date(seconds * 1_000),
    consumersWithoutCredit: 0,
    blockedMessages: 0,
    activeKeys: undefined,
    ...totals,
  });
  const before = at(10, { appendedTotal: 100, deliveredTotal: 1_000 });
  const [row] = rowsOf([at(12, { appendedTotal: 300, deliveredTotal: 50 })], [before]);
  expect(row).toMatchObject({ appendedPerS: 100, deliveredPerS: 25, ackedPerS: 0 });
  expect(rowsOf([before], [])[0]).toMatchObject({ appendedPerS: 0 });
});
