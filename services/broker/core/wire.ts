// Reading and writing protobuf's wire format by hand, for the few messages of the hot path: a request is
// walked over where it lies, not decoded into objects.
//
// Source: https://protobuf.dev/programming-guides/encoding/. Groups (wire types 3 and 4) are refused.
import { BrokerError } from './errors.ts';

export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH = 2;
export const FIXED32 = 5;

/** A position in bytes that come from outside: nothing in them is believed, and every read checks the end. */
export class WireReader {
  bytes: Uint8Array;
  at: number;
  end: number;
  /** Set by tag(). */
  field = 0;
  wireType = 0;

  constructor(bytes: Uint8Array, from = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = from;
    this.end = end;
  }

  /** Makes this reader read other bytes, so that one object serves a loop. */
  reset(bytes: Uint8Array, from: number, end: number): void {
    this.bytes = bytes;
    this.at = from;
    this.end = end;
  }

  /** Reads the next tag into field and wireType; false at the end. */
  tag(): boolean {
    if (this.at >= this.end) return false;
    const tag = this.uint();
    this.wireType = tag & 7;
    this.field = Math.floor(tag / 8);
    if (tag > 0xffff_ffff || this.field === 0) throw malformed('a field number is out of range');
    return true;
  }

  /**
   * Reads a varint as a number. One that does not fit into 53 bits (negative numbers among them) reads as
   * Infinity, which no limit accepts.
   */
  uint(): number {
    const first = this.at < this.end ? this.bytes[this.at]! : 0x80;
    if (first < 0x80) {
      this.at += 1;
      return first;
    }
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i += 1) {
      if (this.at >= this.end) throw malformed('a varint ends early');
      const byte = this.bytes[this.at]!;
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : value;
      scale *= 0x80;
    }
    throw malformed('a varint is longer than 10 bytes');
  }

  /** Reads a varint as a signed 64-bit number: −Infinity if negative, Infinity if it is beyond 53 bits. */
  int(): number {
    const start = this.at;
    const value = this.uint();
    if (value !== Number.POSITIVE_INFINITY) return value;
    // Ten bytes: bit 63 is set, so the number is negative.
    return this.at - start === 10 ? Number.NEGATIVE_INFINITY : value;
  }

  /** Reads a length and returns where that many bytes end; `at` is then their beginning. */
  block(): number {
    const length = this.uint();
    const blockEnd = this.at + length;
    if (blockEnd > this.end) throw malformed('a length points past the end');
    return blockEnd;
  }

  /** Reads a string and checks its UTF-8. */
  string(what: string): string {
    const blockEnd = this.block();
    if (!isUtf8(this.bytes, this.at, blockEnd)) throw malformed(`${what} is not UTF-8`);
    const text = asString(this.bytes, this.at, blockEnd);
    this.at = blockEnd;
    return text;
  }

  /** Steps over the value of the field just read. */
  skip(): void {
    switch (this.wireType) {
      case VARINT:
        this.uint();
        break;
      case FIXED64:
        this.at += 8;
        break;
      case LENGTH:
        this.at = this.block();
        break;
      case FIXED32:
        this.at += 4;
        break;
      default:
        throw malformed(`wire type ${this.wireType} is not in use`);
    }
    if (this.at > this.end) throw malformed('a field ends early');
  }

  expect(wireType: number, what: string): void {
    if (this.wireType !== wireType)
      throw malformed(`${what} has wire type ${this.wireType}, not ${wireType}`);
  }
}

export function malformed(why: string): BrokerError {
  return new BrokerError('INVALID_ARGUMENT', `the request is not valid protobuf: ${why}`);
}

/** Keeps a byte order mark: dropping it would make two spellings one name. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function asString(bytes: Uint8Array, from: number, end: number): string {
  return decoder.decode(bytes.subarray(from, end));
}

/**
 * Whether bytes[from..end) is well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates, at
 * most U+10FFFF).
 */
export function isUtf8(bytes: Uint8Array, from: number, end: number): boolean {
  let at = from;
  while (at < end) {
    const byte = bytes[at]!;
    if (byte < 0x80) {
      at += 1;
      continue;
    }
    let more: number;
    let low = 0x80;
    let high = 0xbf;
    if (byte >= 0xc2 && byte <= 0xdf) more = 1;
    else if (byte >= 0xe0 && byte <= 0xef) {
      more = 2;
      if (byte === 0xe0) low = 0xa0;
      if (byte === 0xed) high = 0x9f;
    } else if (byte >= 0xf0 && byte <= 0xf4) {
      more = 3;
      if (byte === 0xf0) low = 0x90;
      if (byte === 0xf4) high = 0x8f;
    } else return false;
    if (at + more >= end) return false;
    const second = bytes[at + 1]!;
    if (second < low || second > high) return false;
    for (let i = 2; i <= more; i += 1) if ((bytes[at + i]! & 0xc0) !== 0x80) return false;
    at += more + 1;
  }
  return true;
}

/** How many bytes a varint takes; value is a whole number, 0 or more. */
export function varintLength(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  if (value < 0x1000_0000) return 4;
  let length = 5;
  for (let rest = Math.floor(value / 0x8_0000_0000); rest > 0; rest = Math.floor(rest / 0x80)) length += 1;
  return length;
}

/** Writes a varint at `at` and returns the position behind it. */
export function writeVarint(target: Uint8Array, at: number, value: number): number {
  let rest = value;
  let to = at;
  while (rest >= 0x80) {
    target[to] = (rest & 0x7f) | 0x80;
    to += 1;
    rest = rest > 0x7fff_ffff ? Math.floor(rest / 0x80) : rest >>> 7;
  }
  target[to] = rest;
  return to + 1;
}
