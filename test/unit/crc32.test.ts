// The sum of a whole, put together from the sums of its parts.
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { combineCrc32 } from '../../services/broker/adapters/embedded/crc32.ts';
import { cases } from '../support/property.ts';

test('two parts, whatever the first one began with', () => {
  const bytes = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(bytes, bytes, fc.nat(0xffff_ffff), (a, b, seed) => {
      expect(combineCrc32(crc32(a, seed), crc32(b), b.length)).toBe(crc32(Buffer.concat([a, b]), seed));
    }),
    cases(1_000),
  );
});

test('long ones', () => {
  const a = Buffer.from('a');
  for (const length of [65_535, 262_144, 3_145_729]) {
    const b = Buffer.alloc(length, 'bytes that repeat');
    expect(combineCrc32(crc32(a), crc32(b), length)).toBe(crc32(Buffer.concat([a, b])));
  }
});
