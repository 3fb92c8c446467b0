// Writes chunks to a consumer's stream without copying them.
//
// grpc-js copies each message behind its 5-byte header, for each stream again, and hands the next one to
// HTTP/2 only when the former has been flushed. With eight subscriptions these copies were most of the
// broker's garbage (decision 0002). So messages go to the HTTP/2 stream behind the call directly: the header,
// then the chunk's own memory. Everything else of the call (headers, status, cancellation) stays grpc-js',
// which we pin; where the stream can't be found, or is not what it was, messages are written through grpc-js
// as ever.
import type { ServerHttp2Stream } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import type { RawBidiStream } from './rpc.ts';

export type BidiCall = Parameters<RawBidiStream>[0];

/** Calls `taken` once the transport has taken the message; never if the stream ends before. */
export type WriteFrames = (frames: Buffer, taken: () => void) => void;

/** Up to this size one small copy is cheaper than two writes. */
const COPY_BYTES = 4096;
const HEADER_BYTES = 5;

export function frameWriter(call: BidiCall): WriteFrames {
  const stream = http2StreamOf(call);
  if (stream === undefined) return (frames, taken) => void call.write(frames, taken);
  call.sendMetadata(new Metadata());
  return (frames, taken) => {
    if (stream.destroyed || stream.closed || stream.writableEnded) return;
    const onTaken = (error?: Error | null): void => {
      if (!error) taken();
    };
    if (frames.length <= COPY_BYTES) {
      const message = Buffer.allocUnsafe(HEADER_BYTES + frames.length);
      writeHeader(message, frames.length);
      frames.copy(message, HEADER_BYTES);
      stream.write(message, onTaken);
      return;
    }
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    writeHeader(header, frames.length);
    stream.cork();
    stream.write(header);
    stream.write(frames, onTaken);
    stream.uncork();
  };
}

/** The stream of the innermost call; undefined if grpc-js is built differently from what we know. */
export function http2StreamOf(call: unknown): ServerHttp2Stream | undefined {
  const { call: inner } = call as { call?: { stream?: Partial<ServerHttp2Stream> } };
  const stream = inner?.stream;
  const known = typeof stream?.write === 'function' && typeof stream.respond === 'function';
  return known ? (stream as ServerHttp2Stream) : undefined;
}

/**
 * Writes "not compressed" and the length: Length-Prefixed-Message in
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
 */
function writeHeader(target: Buffer, length: number): void {
  target[0] = 0;
  target.writeUInt32BE(length, 1);
}
