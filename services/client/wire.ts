// The protobuf wire format by hand, for streams where every message counts. Numbers are JavaScript numbers:
// everything Fanfare counts stays below 2^53.
import { FanfareError } from './errors.ts';

export const VARINT = 0;
export const BYTES = 2;

/** How many bytes a varint takes. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

/** Writes a varint and returns the place after it. */
export function writeVarint(buffer: Buffer, at: number, value: number): number {
  let rest = value;
  let position = at;
  // Shifts are exact only below 2^31.
  while (rest > 0x7fff_ffff) {
    buffer[position++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest >= 0x80) {
    buffer[position++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[position++] = rest;
  return position;
}

/** Walks the fields of one protobuf message in a buffer. Reading past the end is a FanfareError INTERNAL. */
export class WireReader {
  buffer: Uint8Array;
  /** Exclusive. */
  end: number;
  position: number;
  /** The field that next() found, and its wire type. */
  field = 0;
  wireType = 0;

  constructor(buffer: Uint8Array, start = 0, end = buffer.length) {
    this.buffer = buffer;
    this.position = start;
    this.end = end;
  }

  /** Walks other bytes from now on: one reader can serve a loop. */
  reset(buffer: Uint8Array, start: number, end: number): void {
    this.buffer = buffer;
    this.position = start;
    this.end = end;
  }

  /** Reads the next tag; false at the end. */
  next(): boolean {
    if (this.position >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    return true;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (let length = 0; length < 10; length++) {
      if (this.position >= this.end) throw malformed();
      const byte = this.buffer[this.position++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
    throw malformed();
  }

  /** Reads a length. The bytes begin at `position` then and end at the place returned. */
  lengthDelimitedEnd(): number {
    const length = this.varint();
    const end = this.position + length;
    if (end > this.end) throw malformed();
    return end;
  }

  skip(): void {
    if (this.wireType === VARINT) this.varint();
    else if (this.wireType === BYTES) this.position = this.lengthDelimitedEnd();
    else if (this.wireType === 1) this.position += 8;
    else if (this.wireType === 5) this.position += 4;
    else throw malformed();
    if (this.position > this.end) throw malformed();
  }
}

function malformed(): FanfareError {
  return new FanfareError('INTERNAL', 'the broker sent bytes that are not a Fanfare message');
}
