// Journal records: what is written is read back, and nothing else ever is.
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  encodeRecord,
  opBytes,
  recordBytes,
  scanRecords,
} from '../../services/broker/adapters/embedded/journal-record.ts';
import type { Op, Table } from '../../services/broker/adapters/embedded/tables.ts';
import { cases } from '../support/property.ts';

const SALT = Buffer.from('salt of this store');

const op: fc.Arbitrary<Op> = fc.record({
  table: fc.integer({ min: 0, max: 3 }) as fc.Arbitrary<Table>,
  key: fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  value: fc.option(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    { nil: undefined },
  ),
});
const opLists = fc.array(fc.array(op, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 6 });

function encode(sequence: number, ops: readonly Op[], salt = SALT): Buffer {
  const size = recordBytes(ops.reduce((sum, one) => sum + opBytes(one), 0));
  const record = encodeRecord(Buffer.alloc(size + 40, 255), salt, sequence, ops);
  expect(record.length).toBe(size);
  return Buffer.from(record);
}

function fileOf(lists: readonly (readonly Op[])[]): { file: Buffer; starts: number[] } {
  const records = lists.map((ops, index) => encode(index + 1, ops));
  const starts = records.map((_, index) => Buffer.concat(records.slice(0, index)).length);
  return { file: Buffer.concat([...records, Buffer.alloc(100)]), starts };
}

test('what was written is read back, in order', () => {
  fc.assert(
    fc.property(opLists, (lists) => {
      const found = [...scanRecords(fileOf(lists).file, SALT)];
      expect(found).toEqual(lists.map((ops, index) => ({ sequence: index + 1, ops })));
    }),
    cases(200),
  );
});

test('a record is the same whether the sums of its values were known or not', () => {
  const large = fc
    .tuple(op, fc.integer({ min: 7_000, max: 12_000 }), fc.boolean())
    .map(([one, bytes, isKnown]) => ({ ...one, value: Buffer.alloc(bytes, one.key), isKnown }));
  fc.assert(
    fc.property(fc.array(large, { minLength: 1, maxLength: 4 }), (ops) => {
      const summed = ops.map(({ isKnown, ...one }) =>
        isKnown ? { ...one, valueSum: crc32(one.value) } : one,
      );
      expect(encode(1, summed).equals(encode(1, ops))).toBe(true);
    }),
    cases(100),
  );
});

test('a changed byte costs its record and no other', () => {
  fc.assert(
    fc.property(opLists, fc.nat(), fc.integer({ min: 1, max: 255 }), (lists, place, change) => {
      const { file, starts } = fileOf(lists);
      const at = place % (file.length - 100);
      const hit = starts.findLastIndex((start) => start <= at) + 1;
      const before = [...scanRecords(Buffer.from(file), SALT)];
      file[at] = file[at]! ^ change;
      const after = [...scanRecords(file, SALT)];
      // Padding and the unused header bytes guard nothing, so there the record may still be whole.
      expect([before, before.filter(({ sequence }) => sequence !== hit)]).toContainEqual(after);
    }),
    cases(300),
  );
});

test('a record cut short is not read', () => {
  const { file } = fileOf([[{ table: 0, key: Buffer.from('k'), value: Buffer.alloc(50) }]]);
  for (let length = 0; length < 32 + 8 + 1 + 50; length++) {
    expect([...scanRecords(file.subarray(0, length), SALT)]).toEqual([]);
  }
});

test('records of another store, published here as a value, are not ours', () => {
  const foreign = encode(
    1_000,
    [{ table: 0, key: Buffer.from('k'), value: Buffer.from('v') }],
    Buffer.from('other'),
  );
  const own: Op[] = [{ table: 0, key: Buffer.alloc(8, 1), value: foreign }];
  const record = encode(1, own);
  expect([...scanRecords(record, SALT)].map(({ sequence }) => sequence)).toEqual([1]);
  record[0] = 0;
  expect([...scanRecords(record, SALT)]).toEqual([]);
});
