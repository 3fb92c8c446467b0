// Cuts a stream of bytes into records that end with a given byte. Nothing is decoded, and a last
// record without its end counts.

/**
 * The 2 MiB of message.proto and the 4 bytes that may be taken off a record. A longer record can't be a
 * message: its bytes are only counted.
 */
const MAX_RECORD_BYTES = 2 * 1024 * 1024 + 4;

export interface TooLong {
  /** How long the record is. */
  readonly bytes: number;
}

/**
 * A record without the byte that ends it; where possible a view of the chunk: use it before the next turn.
 */
export type LineRecord = Buffer | TooLong;

export function isTooLong(record: LineRecord): record is TooLong {
  return !Buffer.isBuffer(record);
}

export interface RecordOptions {
  /** The byte that ends a record. */
  readonly end: number;
  /**
   * Whether records are lines of text from any system: a carriage return before the end belongs to the end,
   * and a byte order mark at the beginning of the input to no line.
   */
  readonly isText: boolean;
}

const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

export async function* splitRecords(
  chunks: AsyncIterable<Buffer | string>,
  { end, isText }: RecordOptions,
): AsyncGenerator<LineRecord, void, undefined> {
  const begun = new BegunRecord();
  let isFirst = true;
  /** Takes off what belongs to no record. `isEnded`: false for a last record without its end. */
  const finished = (record: LineRecord, isEnded: boolean): LineRecord => {
    const mark = isFirst;
    isFirst = false;
    if (!isText || isTooLong(record)) return record;
    const from = mark && record.subarray(0, 3).equals(BYTE_ORDER_MARK) ? 3 : 0;
    return record.subarray(from, record.length - (isEnded && record.at(-1) === CARRIAGE_RETURN ? 1 : 0));
  };
  for await (const part of chunks) {
    const chunk = Buffer.isBuffer(part) ? part : Buffer.from(part);
    let from = 0;
    for (let at = chunk.indexOf(end); at !== -1; at = chunk.indexOf(end, from)) {
      yield finished(begun.takeWith(chunk.subarray(from, at)), true);
      from = at + 1;
    }
    if (from < chunk.length) begun.add(chunk.subarray(from));
  }
  if (begun.bytes === 0) return;
  const last = finished(begun.takeWith(Buffer.alloc(0)), false);
  if (isTooLong(last) || last.length > 0) yield last;
}

/** What has come of a record so far. It keeps no more than a message may have. */
class BegunRecord {
  bytes = 0;
  #parts: Buffer[] = [];

  add(part: Buffer): void {
    this.bytes += part.length;
    if (this.bytes <= MAX_RECORD_BYTES) this.#parts.push(part);
    else this.#parts = [];
  }

  /** The whole record with its last part. */
  takeWith(last: Buffer): LineRecord {
    const bytes = this.bytes + last.length;
    const parts = this.#parts;
    this.bytes = 0;
    this.#parts = [];
    if (bytes > MAX_RECORD_BYTES) return { bytes };
    return parts.length === 0 ? last : Buffer.concat([...parts, last]);
  }
}
