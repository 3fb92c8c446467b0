// CRC-32 of bytes that lie behind each other, from the sums of the parts: those that were summed up once are not read again. Pure.
//
// A sum is a remainder modulo a polynomial over bits, so what lies behind the first part multiplies its sum by x to the number of
// its bits. Bits are reflected, as in node:zlib's crc32: the highest stands for x^0. After zlib's crc32_combine (Mark Adler).

const POLYNOMIAL = 0xedb88320;
const ONE = 0x8000_0000;

/** x^(2^n), for n from 0 on. A number of bytes has less than 53 bits, and eight bits each. */
const POWERS: readonly number[] = powers(57);

/** crc32 of a and b together; `bytes`: the length of b. The sum of a may have begun with any seed, that of b with none. */
export function combineCrc32(a: number, b: number, bytes: number): number {
  let factor = ONE;
  // In bits: three places higher.
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
