// Bodies of answers: the whole as text, or the frames of a watch, one a line. Both are bounded.
import { KubeError } from './errors.ts';

const NEWLINE = 0x0a;

/** The whole body. Throws KubeError BadAnswer if it is longer than maxBytes, Unreachable if it breaks off. */
export async function readText(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  what: string,
): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of whole(body, what)) {
    bytes += part.length;
    if (bytes > maxBytes) throw tooLong(what, 'answer', maxBytes);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

/**
 * Each line of a body, parsed as a frame. Lines come as soon as they are complete; an unfinished last one is
 * dropped. Throws KubeError BadAnswer for a line that is no frame or is too long, Unreachable if the body
 * breaks off.
 */
export async function* jsonLines(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  what: string,
): AsyncGenerator<unknown> {
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  for await (const part of whole(body, what)) {
    let from = 0;
    for (let end = part.indexOf(NEWLINE); end >= 0; end = part.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...rest, part.subarray(from, end)]).toString('utf8');
      rest = [];
      restBytes = 0;
      from = end + 1;
      if (line.trim() !== '') yield parseFrame(line, what);
    }
    if (from < part.length) rest.push(part.subarray(from));
    restBytes += part.length - from;
    if (restBytes > maxBytes) throw tooLong(what, 'frame', maxBytes);
  }
}

function parseFrame(line: string, what: string): unknown {
  try {
    const frame: unknown = JSON.parse(line);
    if (typeof frame === 'object' && frame !== null && 'type' in frame && 'object' in frame) return frame;
  } catch (cause) {
    throw new KubeError(0, 'BadAnswer', `${what}: a frame is no JSON`, { cause });
  }
  throw new KubeError(0, 'BadAnswer', `${what}: a frame without type and object`);
}

/** A body that breaks off is an expected error. */
async function* whole(body: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (cause) {
    if (cause instanceof KubeError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new KubeError(0, 'Unreachable', `${what}: the connection broke: ${why}`, { cause });
  }
}

function tooLong(what: string, part: string, maxBytes: number): KubeError {
  return new KubeError(
    0,
    'BadAnswer',
    `${what}: an ${part} of more than ${maxBytes} bytes; list smaller pages`,
  );
}
