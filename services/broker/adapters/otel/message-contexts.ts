// Finds the trace contexts that publishers put into messages' attributes, on wire bytes: in a publish request
// before it is cut, and in frames.
//
// All bytes here were checked when they were published; what does not look like a context is passed over.
import { isSpanContextValid, type SpanContext } from '@opentelemetry/api';
import type { PublishBatch } from '../../core/publish-batch.ts';
import { LENGTH, WireReader } from '../../core/wire.ts';

/** W3C's name, and the one that Google's clients use for the same text. */
const KEYS = ['traceparent', 'googclient_traceparent'].map((key) => Buffer.from(key));
/** version-trace id-span id-flags: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;
const TRACEPARENT_LENGTH = 55;
const MAX_TRACEPARENT_LENGTH = 256;

const FRAME_MESSAGE_FIELD = 2;
const ATTRIBUTES_FIELD = 2;
const KEY_FIELD = 1;

/**
 * The contexts of sampled spans in the order of the messages, each once. Messages are looked at until there
 * are `limit`.
 */
export function contextsOfBatch({ bytes, starts, ends, count }: PublishBatch, limit: number): SpanContext[] {
  const found = new Map<string, SpanContext>();
  const reader = new WireReader(bytes);
  for (let i = 0; i < count && found.size < limit; i += 1) {
    reader.reset(bytes, starts[i]!, ends[i]!);
    collect(reader, found);
  }
  return [...found.values()];
}

/** As contextsOfBatch, for a chunk or any other run of frames. */
export function contextsOfFrames(frames: Uint8Array, limit: number): SpanContext[] {
  const found = new Map<string, SpanContext>();
  const outer = new WireReader(frames);
  const frame = new WireReader(frames);
  const message = new WireReader(frames);
  while (found.size < limit && outer.tag()) {
    const frameEnd = outer.block();
    frame.reset(frames, outer.at, frameEnd);
    outer.at = frameEnd;
    while (frame.tag()) {
      if (frame.field !== FRAME_MESSAGE_FIELD) {
        frame.skip();
        continue;
      }
      const messageEnd = frame.block();
      message.reset(frames, frame.at, messageEnd);
      frame.at = messageEnd;
      collect(message, found);
    }
  }
  return [...found.values()];
}

/** Adds the contexts of the Message that the reader stands before, by their text. */
function collect(message: WireReader, found: Map<string, SpanContext>): void {
  while (message.tag()) {
    if (message.field !== ATTRIBUTES_FIELD || message.wireType !== LENGTH) {
      message.skip();
      continue;
    }
    const end = message.block();
    const text = traceparentOf(message.bytes, message.at, end);
    message.at = end;
    if (text === undefined || found.has(text)) continue;
    const context = parse(text);
    if (context !== undefined) found.set(text, context);
  }
}

/** The value of a map entry whose key is one of KEYS, if its sampled flag is set. */
function traceparentOf(bytes: Uint8Array, from: number, end: number): string | undefined {
  // The entry is shorter than the shortest key and the text: most attributes end here.
  if (end - from < TRACEPARENT_LENGTH + 11) return undefined;
  const entry = new WireReader(bytes, from, end);
  let isContext = false;
  let text: string | undefined;
  while (entry.tag()) {
    const valueEnd = entry.block();
    if (entry.field === KEY_FIELD) isContext = KEYS.some((key) => equals(bytes, entry.at, valueEnd, key));
    else if (saysSampled(bytes, entry.at, valueEnd)) text = latin1(bytes, entry.at, valueEnd);
    entry.at = valueEnd;
  }
  return isContext ? text : undefined;
}

/** Looks at one byte before anything is made of the text: most publishers sample little. */
function saysSampled(bytes: Uint8Array, from: number, end: number): boolean {
  if (end - from < TRACEPARENT_LENGTH || end - from > MAX_TRACEPARENT_LENGTH) return false;
  const digit = bytes[from + TRACEPARENT_LENGTH - 1]!;
  // The sampled flag is set in odd hexadecimal digits: 1, 3, 5, 7, 9 have odd codes, b, d, f even ones.
  return digit < 0x61 ? (digit & 1) === 1 : (digit & 1) === 0;
}

function parse(text: string): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(text) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  const traceFlags = Number.parseInt(flags, 16);
  const context = { traceId, spanId, traceFlags, isRemote: true };
  return (traceFlags & 1) === 1 && isSpanContextValid(context) ? context : undefined;
}

function equals(bytes: Uint8Array, from: number, end: number, expected: Uint8Array): boolean {
  return end - from === expected.length && expected.every((byte, i) => bytes[from + i] === byte);
}

function latin1(bytes: Uint8Array, from: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, end - from).toString('latin1');
}
