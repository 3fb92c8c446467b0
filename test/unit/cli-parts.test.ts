// Small parts of the command line: keys of records, numbers as people read them, tables, rates.
import { expect, test } from 'vitest';
import { rowsOf } from '../../services/cli/commands/top.ts';
import { keyExtractor } from '../../services/cli/ordering-key.ts';
import { formatTable } from '../../services/cli/output.ts';
import { formatCount, formatDuration, formatMessages, formatSize } from '../../services/cli/units.ts';
import type { Backlog } from '../../services/client/admin-types.ts';

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

test('durations, sizes and counts as people read them', () => {
  expect([42, 12_000, 185_000, 7_800_000, 604_800_000].map(formatDuration)).toEqual([
    '42ms',
    '12s',
    '3m 5s',
    '2h 10m',
    '7d',
  ]);
  expect([0, 512, 1536, 20 * 1024 ** 2].map(formatSize)).toEqual(['0 B', '512 B', '1.5 KiB', '20 MiB']);
  expect(formatCount(1_234_567.4)).toBe('1,234,567');
  expect([0, 1, 2].map(formatMessages)).toEqual(['0 messages', '1 message', '2 messages']);
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
