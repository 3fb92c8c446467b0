// Turns valid protobuf messages into hostile ones, reproducibly: the same Random gives the same bytes.
//
// A message is taken apart without its schema into a tree of fields, one of them is changed, and the tree is
// written again with all other lengths right: so the lie sits deep inside a request that is otherwise sound,
// where a parser has stopped looking. Bytes without any structure are made too.
import type { Random } from '../../services/broker/ports/clock.ts';

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

interface Field {
  number: number;
  wireType: number;
  /** The value as written, without its length; unused if there are children. */
  value: Buffer;
  children: Field[] | undefined;
  /** Written instead of the true length. */
  statedLength?: Buffer;
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random() * from.length)]!;
}

/** A number from `least` to `most`, both included. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}

export function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 1) bytes[at] = random() * 256;
  return bytes;
}

export function varint(value: bigint | number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

/** One change to a valid message, sometimes two. */
export function mutate(message: Buffer, random: Random): Buffer {
  let bytes = mutateOnce(message, random);
  if (random() < 0.2) bytes = mutateOnce(bytes, random);
  return bytes;
}

function mutateOnce(message: Buffer, random: Random): Buffer {
  const fields = parse(message, 0);
  if (fields === undefined || fields.length === 0 || random() < 0.2) return damage(message, random);
  const siblings = pick(random, listsOf(fields));
  const at = between(random, 0, siblings.length - 1);
  pick(random, FIELD_MUTATIONS)(siblings, at, random);
  return write(fields);
}

/** Numbers that sit on the edges of types and limits. */
const VALUES: readonly bigint[] = [
  ...[0n, 1n, -1n, 127n, 128n, 3_000n, 3_001n, 1_000_000n, 1_000_001n, 2n ** 30n, 2n ** 30n + 1n],
  ...[
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 63n - 1n,
    -(2n ** 63n),
    2n ** 64n - 1n,
  ],
];
const TOO_LONG = Buffer.from([...Array<number>(10).fill(0xff), 1]);
const UNFINISHED = Buffer.from([0xff, 0xff]);
/** Invalid UTF-8: overlong, a surrogate, beyond U+10FFFF, a lone continuation, cut off. */
const NOT_UTF8 = ['c080', 'eda080', 'f4908080', '80', 'e282', 'f09f98', 'ff', 'fe80'].map((hex) =>
  Buffer.from(hex, 'hex'),
);

type FieldMutation = (siblings: Field[], at: number, random: Random) => void;

const FIELD_MUTATIONS: readonly FieldMutation[] = [
  function wrongWireType(siblings, at, random) {
    siblings[at]!.wireType = between(random, 0, 7);
  },
  function lyingLength(siblings, at, random) {
    const field = siblings[at]!;
    const length = BigInt(content(field).length);
    field.wireType = LENGTH;
    const lies = [length + 1n, length - 1n, length * 2n + 7n, 0n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, -1n];
    field.statedLength = random() < 0.1 ? pick(random, [TOO_LONG, UNFINISHED]) : varint(pick(random, lies));
  },
  function edgeValue(siblings, at, random) {
    const field = siblings[at]!;
    field.wireType = VARINT;
    field.children = undefined;
    field.value = random() < 0.1 ? pick(random, [TOO_LONG, UNFINISHED]) : varint(pick(random, VALUES));
  },
  function notUtf8(siblings, at, random) {
    const field = siblings[at]!;
    const text = content(field);
    const cut = between(random, 0, text.length);
    setBytes(field, Buffer.concat([text.subarray(0, cut), pick(random, NOT_UTF8), text.subarray(cut)]));
  },
  function repeated(siblings, at, random) {
    siblings.splice(at, 0, ...Array<Field>(between(random, 1, 120)).fill(siblings[at]!));
  },
  function missing(siblings, at) {
    siblings.splice(at, 1);
  },
  function swapped(siblings, at, random) {
    const other = between(random, 0, siblings.length - 1);
    [siblings[at], siblings[other]] = [siblings[other]!, siblings[at]!];
  },
  function otherNumber(siblings, at, random) {
    siblings[at]!.number = pick(random, [0, 1, 2, 3, 5, 7, 15, 16, 19, 20, 2 ** 29 - 1, 2 ** 29, 2 ** 40]);
  },
  function otherBytes(siblings, at, random) {
    setBytes(siblings[at]!, randomBytes(random, pick(random, [0, 1, 5, 33, 257, 1_025, 2_000])));
  },
  function unknownGroup(siblings, at, random) {
    const number = between(random, 1, 2_000);
    const group = { number, wireType: 3, value: Buffer.alloc(0), children: undefined };
    siblings.splice(at, 0, group, ...(random() < 0.5 ? [{ ...group, wireType: 4 }] : []));
  },
  function deepNesting(siblings, at, random) {
    let value = Buffer.alloc(0);
    const number = siblings[at]!.number;
    for (let depth = between(random, 10, 300); depth > 0; depth -= 1) {
      value = Buffer.concat([varint(number * 8 + LENGTH), varint(value.length), value]);
    }
    setBytes(siblings[at]!, value);
  },
];

/** Changes bytes wherever they are. */
function damage(message: Buffer, random: Random): Buffer {
  const bytes = Buffer.from(message);
  const at = between(random, 0, bytes.length);
  switch (between(random, 0, 4)) {
    case 0:
      return bytes.subarray(0, at);
    case 1:
      for (let flips = between(random, 1, 8); flips > 0 && bytes.length > 0; flips -= 1) {
        bytes[between(random, 0, bytes.length - 1)]! ^= 1 << between(random, 0, 7);
      }
      return bytes;
    case 2:
      return Buffer.concat([
        bytes.subarray(0, at),
        randomBytes(random, between(random, 1, 40)),
        bytes.subarray(at),
      ]);
    case 3:
      // Groups in groups: a recursive parser follows them until its stack ends.
      return Buffer.concat([bytes, Buffer.alloc(between(random, 100, 20_000), 0x0b)]);
    default:
      return randomBytes(random, between(random, 0, 200));
  }
}

function setBytes(field: Field, value: Buffer): void {
  field.wireType = LENGTH;
  field.children = undefined;
  field.value = value;
}

/** Every list of fields in the tree. */
function listsOf(fields: Field[]): Field[][] {
  return [fields, ...fields.flatMap(({ children }) => (children?.length ? listsOf(children) : []))];
}

function content({ value, children }: Field): Buffer {
  return children === undefined ? value : write(children);
}

function write(fields: readonly Field[]): Buffer {
  const parts: Buffer[] = [];
  for (const field of fields) {
    const bytes = content(field);
    parts.push(varint(BigInt(field.number) * 8n + BigInt(field.wireType)));
    if (field.wireType === LENGTH) parts.push(field.statedLength ?? varint(bytes.length));
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}

/**
 * Undefined if the bytes are no message. A string that happens to be one is taken for one, which does no
 * harm.
 */
function parse(bytes: Buffer, depth: number): Field[] | undefined {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    if (tag === undefined || tag.value < 8n || tag.value >= 2n ** 32n) return undefined;
    const number = Number(tag.value >> 3n);
    const wireType = Number(tag.value & 7n);
    let from = tag.end;
    let end = from;
    if (wireType === VARINT) end = readVarint(bytes, from)?.end ?? Number.POSITIVE_INFINITY;
    else if (wireType === FIXED64) end += 8;
    else if (wireType === FIXED32) end += 4;
    else if (wireType === LENGTH) {
      const length = readVarint(bytes, from);
      if (length === undefined) return undefined;
      from = length.end;
      end = from + Number(length.value);
    } else return undefined;
    if (end > bytes.length) return undefined;
    const value = bytes.subarray(from, end);
    const children =
      wireType === LENGTH && value.length > 1 && depth < 4 ? parse(value, depth + 1) : undefined;
    fields.push({ number, wireType, value, children });
    at = end;
  }
  return fields;
}

function readVarint(bytes: Buffer, from: number): { value: bigint; end: number } | undefined {
  let value = 0n;
  for (let at = from; at < bytes.length && at < from + 10; at += 1) {
    value |= BigInt(bytes[at]! & 0x7f) << BigInt(7 * (at - from));
    if (bytes[at]! < 0x80) return { value, end: at + 1 };
  }
  return undefined;
}

/** A message behind its gRPC header. */
export function framed(message: Uint8Array, flag = 0, statedLength = message.length): Buffer {
  const header = Buffer.alloc(5);
  header[0] = flag;
  header.writeUInt32BE(statedLength, 1);
  return Buffer.concat([header, message]);
}
