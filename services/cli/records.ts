// Cuts a stream of bytes into records that end with a given byte. Called by commands/pub.ts. Bytes are bytes: nothing is
// decoded, and a last record without its end counts.

/** Records longer than this can't be messages: they are cut off there instead of filling the memory. */
export const MAX_RECORD_BYTES = 4 * 1024 * 1024;

/** Yields each record without the byte that ends it. Views of the chunks where possible: use them before the next turn. */
export async function* splitRecords(
  chunks: AsyncIterable<Buffer | string>,
  end: number,
): AsyncGenerator<Buffer, void, undefined> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const part of chunks) {
    const chunk = Buffer.isBuffer(part) ? part : Buffer.from(part);
    let from = 0;
    for (let at = chunk.indexOf(end); at !== -1; at = chunk.indexOf(end, from)) {
      const tail = chunk.subarray(from, at);
      yield restBytes === 0 ? tail : Buffer.concat([...rest, tail]);
      rest = [];
      restBytes = 0;
      from = at + 1;
    }
    if (from < chunk.length) {
      const tail = chunk.subarray(from);
      // What is beyond the limit is dropped; the record is refused for its size either way.
      if (restBytes <= MAX_RECORD_BYTES) rest.push(tail);
      restBytes += tail.length;
    }
  }
  if (restBytes > 0) yield Buffer.concat(rest);
}
