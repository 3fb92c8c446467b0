// core/wire.ts against protobuf-es and Node's own UTF-8 check.
import { isUtf8 as nodeIsUtf8 } from 'node:buffer';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { isUtf8, varintLength, WireReader, writeVarint } from '../../services/broker/core/wire.ts';
import { cases } from '../support/property.ts';

/** Whole numbers below 2^53, as many short ones as long ones. */
const anyUint = fc
  .tuple(fc.maxSafeNat(), fc.nat(53))
  .map(([n, bits]) => (bits === 53 ? n : Math.floor(n % 2 ** bits)));

const EDGES = [7, 14, 21, 28, 31, 32, 35, 42, 49].flatMap((bits) => [2 ** bits - 1, 2 ** bits]);

describe('varints', () => {
  const roundTrip = (value: number): void => {
    const bytes = new Uint8Array(12);
    const end = writeVarint(bytes, 1, value);
    expect(end - 1).toBe(varintLength(value));
    expect(Buffer.from(bytes.subarray(1, end))).toEqual(
      Buffer.from(new BinaryWriter().uint64(value).finish()),
    );
    const reader = new WireReader(bytes, 1, end);
    expect(reader.uint()).toBe(value);
    expect(reader.at).toBe(end);
    expect(new WireReader(bytes, 1, end).int()).toBe(value);
  };

  test('are written and read as protobuf-es does, up to 2^53 - 1', () => {
    for (const value of [0, 1, ...EDGES, Number.MAX_SAFE_INTEGER]) roundTrip(value);
    fc.assert(fc.property(anyUint, roundTrip), cases(500));
  });

  test('beyond 2^53 - 1 read as Infinity, negative ones as -Infinity where a sign is asked for', () => {
    for (const value of [2n ** 53n, 2n ** 53n + 1n, 2n ** 60n, 2n ** 63n - 1n]) {
      const bytes = new BinaryWriter().int64(value).finish();
      expect(new WireReader(bytes).uint()).toBe(Number.POSITIVE_INFINITY);
      expect(new WireReader(bytes).int()).toBe(Number.POSITIVE_INFINITY);
    }
    for (const value of [-1n, -2n, -(2n ** 31n), -(2n ** 53n), -(2n ** 63n)]) {
      const bytes = new BinaryWriter().int64(value).finish();
      expect(bytes.length).toBe(10);
      expect(new WireReader(bytes).uint()).toBe(Number.POSITIVE_INFINITY);
      expect(new WireReader(bytes).int()).toBe(Number.NEGATIVE_INFINITY);
    }
  });

  test('may be longer than needed, but not longer than 10 bytes and not cut off', () => {
    expect(new WireReader(Uint8Array.of(0x85, 0x80, 0x00)).uint()).toBe(5);
    expect(new WireReader(Uint8Array.of(...new Uint8Array(9).fill(0x80), 0)).int()).toBe(0);
    expect(() => new WireReader(new Uint8Array(11).fill(0x80)).uint()).toThrow('longer than 10 bytes');
    expect(() => new WireReader(Uint8Array.of(0x80, 0x80)).uint()).toThrow('ends early');
    expect(() => new WireReader(Uint8Array.of()).uint()).toThrow('ends early');
  });
});

describe('fields', () => {
  test('of every kind are stepped over as protobuf-es does', () => {
    const field = fc.record({
      number: fc.integer({ min: 1, max: 536_870_911 }),
      kind: fc.nat(3),
      value: fc.nat(),
      size: fc.nat(200),
    });
    fc.assert(
      fc.property(fc.array(field, { maxLength: 10 }), (fields) => {
        const writer = new BinaryWriter();
        for (const { number, kind, value, size } of fields) {
          if (kind === 0) writer.tag(number, 0).int64(BigInt(value) - 1_000n);
          else if (kind === 1) writer.tag(number, 1).fixed64(value);
          else if (kind === 2) writer.tag(number, 2).bytes(new Uint8Array(size).fill(0xff));
          else writer.tag(number, 5).fixed32(value);
        }
        const bytes = writer.finish();
        const ours = new WireReader(bytes);
        const theirs = new BinaryReader(bytes);
        while (ours.tag()) {
          const [number, wireType] = theirs.tag();
          expect([ours.field, ours.wireType]).toEqual([number, wireType]);
          ours.skip();
          theirs.skip(wireType, number);
          expect(ours.at).toBe(theirs.pos);
        }
        expect(ours.at).toBe(bytes.length);
      }),
      cases(200),
    );
  });

  test.each([
    ['field 0', [0x00, 0x00], 'a field number is out of range'],
    ['a field number above 2^29 - 1', [0x80, 0x80, 0x80, 0x80, 0x10, 0x00], 'a field number is out of range'],
    ['a tag of 10 bytes', [...new Array<number>(9).fill(0xff), 0x01], 'a field number is out of range'],
    ['a group', [0x0b, 0x0c], 'wire type 3 is not in use'],
    ['the end of a group', [0x0c], 'wire type 4 is not in use'],
    ['wire type 6', [0x0e], 'wire type 6 is not in use'],
    ['wire type 7', [0x0f], 'wire type 7 is not in use'],
    ['a fixed32 cut off', [0x0d, 1, 2, 3], 'a field ends early'],
    ['a fixed64 cut off', [0x09, 1, 2, 3, 4, 5, 6, 7], 'a field ends early'],
    ['a block cut off', [0x0a, 3, 1, 2], 'a length points past the end'],
    [
      'a block of 2^53 bytes',
      [0x0a, ...new Array<number>(7).fill(0xff), 0x1f],
      'a length points past the end',
    ],
    ['a block of -1 bytes', [0x0a, ...new Array<number>(9).fill(0xff), 0x01], 'a length points past the end'],
  ])('%s is refused', (_, bytes, message) => {
    const walk = (): void => {
      const reader = new WireReader(Uint8Array.from(bytes));
      while (reader.tag()) reader.skip();
    };
    expect(walk).toThrow(message);
    expect(walk).toThrow(BrokerError);
  });

  test('a reader of a part never looks behind it', () => {
    const bytes = Uint8Array.of(0x0a, 2, 1, 2, 3, 4);
    const reader = new WireReader(bytes, 0, 3);
    reader.tag();
    expect(() => reader.skip()).toThrow('past the end');
  });

  test('a string is what was written, a byte order mark included', () => {
    for (const text of ['', 'orders', 'Grüße 🎉', '\uFEFForders']) {
      const bytes = new BinaryWriter().string(text).finish();
      expect(new WireReader(bytes).string('topic')).toBe(text);
    }
    expect(() => new WireReader(Uint8Array.of(1, 0xff)).string('topic')).toThrow('topic is not UTF-8');
  });
});

describe('isUtf8', () => {
  const same = (bytes: Uint8Array): void => {
    const around = Uint8Array.of(0x80, ...bytes, 0x80);
    expect(isUtf8(around, 1, 1 + bytes.length), Buffer.from(bytes).toString('hex')).toBe(nodeIsUtf8(bytes));
  };

  test('agrees with Node on every sequence of two bytes', () => {
    const wrong: string[] = [];
    for (let pair = 0; pair < 0x1_0000; pair += 1) {
      const bytes = Uint8Array.of(pair >>> 8, pair & 0xff);
      if (isUtf8(bytes, 0, 2) !== nodeIsUtf8(bytes)) wrong.push(Buffer.from(bytes).toString('hex'));
    }
    expect(wrong).toEqual([]);
  });

  test('agrees with Node at the edges of table 3-7', () => {
    const edges = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xff];
    const leads = [0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8];
    const wrong: string[] = [];
    for (const lead of leads)
      for (const second of edges)
        for (const third of edges)
          for (const rest of [[], [0x41], ...edges.map((byte) => [byte])]) {
            const bytes = Uint8Array.of(lead, second, third, ...rest);
            if (isUtf8(bytes, 0, bytes.length) !== nodeIsUtf8(bytes))
              wrong.push(Buffer.from(bytes).toString('hex'));
          }
    expect(wrong).toEqual([]);
  });

  test.each([
    ['overlong /', 'c0af'],
    ['overlong NUL in three bytes', 'e08080'],
    ['overlong in four bytes', 'f08f bfbf'.replace(' ', '')],
    ['the first surrogate', 'eda080'],
    ['the last surrogate', 'edbfbf'],
    ['below the surrogates', 'ed9fbf'],
    ['above the surrogates', 'ee8080'],
    ['U+10FFFF', 'f48fbfbf'],
    ['U+110000', 'f4908080'],
    ['a lonely continuation', '80'],
    ['cut after the lead', 'e2'],
    ['cut in the middle', 'f09f8e'],
  ])('agrees with Node on %s', (_, hex) => {
    same(Buffer.from(hex, 'hex'));
    same(Buffer.from(`41${hex}41`, 'hex'));
  });

  test('agrees with Node on random text and on text with one byte changed', () => {
    const text = fc.string({ unit: 'binary', maxLength: 20 }).map((t) => Buffer.from(t, 'utf8'));
    fc.assert(
      fc.property(text, fc.uint8Array({ maxLength: 8 }), fc.nat(), fc.nat(255), (good, random, at, byte) => {
        same(good);
        same(random);
        if (good.length === 0) return;
        const changed = Uint8Array.from(good);
        changed[at % changed.length] = byte;
        same(changed);
        same(good.subarray(0, at % good.length));
      }),
      cases(500),
    );
  });
});
