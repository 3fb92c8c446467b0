// The CRC-32 of concatenated bytes, from the CRC-32s of the parts: the bytes are not read again. Pure.
//
// A CRC is a remainder modulo a polynomial over bits, so appending n bits multiplies the first part's CRC by
// x^n. Bits are reflected, as in node:zlib's crc32: the highest bit stands for x^0. After zlib's
// crc32_combine (Mark Adler).

const POLYNOMIAL = 0xedb88320;
const ONE = 0x8000_0000;

/** x^(2^n), for n from 0 on. A length in bytes has at most 53 binary digits, and in bits three more. */
const POWERS: readonly number[] = powers(57);

/**
 * The CRC of a's bytes with b's behind them; `bytes` is the length of b's. The sum a may have begun with any
 * seed, b with none.
 */
export function combineCrc32(a: number, b: number, bytes: number): number {
  let factor = ONE;
  // The length in bits has the digits of `bytes` three places higher.
  for (let rest = bytes, place = 3; rest > 0; rest = Math.floor(rest / 2), place += 1)
    if (rest % 2 === 1) factor = multiply(POWERS[place]!, factor);
  return (multiply(factor, a) ^ b) >>> 0;
}

function powers(count: number): number[] {
  const found = [ONE >>> 1];
  while (found.length < count) found.push(multiply(found.at(-1)!, found.at(-1)!));
  return found;
}

function multiply(a: number, b: number): number {
  let product = 0;
  let power = b;
  for (let rest = a; rest !== 0; rest <<= 1) {
    if ((rest & ONE) !== 0) product ^= power;
    power = (power & 1) === 1 ? (power >>> 1) ^ POLYNOMIAL : power >>> 1;
  }
  return product >>> 0;
}
