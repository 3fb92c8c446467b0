// An HTTP/2 connection to the broker that sends whatever bytes it is told to as gRPC calls, many at a time, and says how
// each ended. node:http2 rather than grpc-js, which would not send most of it. Used by fuzz.test.ts.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import { status } from '@grpc/grpc-js';

/** What a client shows: paths of PEM files. */
export interface FuzzTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** How a call ended. */
export interface Outcome {
  /** A gRPC status by name; 'HTTP 415' and the like; 'RESET n'; 'DROPPED' by us, as asked; 'HUNG': nothing for deadlineMs. */
  readonly end: string;
  readonly details: string;
  /** The answers, without gRPC's headers. */
  readonly messages: readonly Buffer[];
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** Leave the request side open after the frames. */
  readonly keepOpen?: boolean;
  /** Drop the call when it has answered so often. */
  readonly dropAfter?: number;
}

const DEADLINE_MS = 20_000;
const MAX_USES = 700;

export class FuzzConnection implements AsyncDisposable {
  readonly session: ClientHttp2Session;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<unknown>;

  /** Use open. */
  constructor(session: ClientHttp2Session) {
    this.session = session;
    // What went wrong shows in the calls.
    session.on('error', () => {});
    this.closed = new Promise((resolve) => session.once('close', resolve));
  }

  static async open(address: string, tls: FuzzTls, windowBytes = 1 << 20): Promise<FuzzConnection> {
    const [ca, cert, key] = await Promise.all([readFile(tls.ca), readFile(tls.cert), readFile(tls.key)]);
    const session = connect(`https://${address}`, { ca, cert, key, settings: { initialWindowSize: windowBytes } });
    const connection = new FuzzConnection(session);
    await once(session, 'remoteSettings');
    if (windowBytes > 0) session.setLocalWindowSize(16 << 20);
    return connection;
  }

  /** A call whose request side stays open, for whoever writes to it himself. */
  start(path: string, headers: Readonly<Record<string, string>> = {}): ClientHttp2Stream {
    return this.session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
  }

  /** Sends one call's bytes and waits for its end. */
  call(path: string, frames: Buffer, options: CallOptions = {}): Promise<Outcome> {
    const stream = this.start(path, options.headers);
    if (options.keepOpen) stream.write(frames);
    else stream.end(frames);
    return outcomeOf(stream, options.dropAfter);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.session.destroy();
    await this.closed;
  }
}

/** Reads a call to its end. */
export function outcomeOf(stream: ClientHttp2Stream, dropAfter = Number.POSITIVE_INFINITY): Promise<Outcome> {
  return new Promise((resolve) => {
    let end = '';
    let details = '';
    let rest: Buffer = Buffer.alloc(0);
    const messages: Buffer[] = [];
    const drop = (why: string): void => {
      end ||= why;
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const timer = setTimeout(() => drop('HUNG'), DEADLINE_MS);
    const onHeaders = (headers: NodeJS.Dict<string | string[]>): void => {
      const code = headers['grpc-status'];
      if (code !== undefined) {
        end ||= status[Number(code)] ?? `status ${code}`;
        details = decodeURI(String(headers['grpc-message'] ?? ''));
      } else if (headers[':status'] !== undefined && Number(headers[':status']) !== 200) {
        end ||= `HTTP ${headers[':status']}`;
      }
    };
    stream.on('response', onHeaders);
    stream.on('trailers', onHeaders);
    stream.on('data', (chunk: Buffer) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
        messages.push(rest.subarray(5, 5 + rest.readUInt32BE(1)));
        rest = rest.subarray(5 + rest.readUInt32BE(1));
      }
      if (messages.length >= dropAfter) drop('DROPPED');
    });
    // Our side may still be open when the broker has said all.
    stream.on('end', () => {
      if (!stream.writableEnded) stream.end();
    });
    stream.on('error', () => {});
    stream.on('close', () => {
      clearTimeout(timer);
      resolve({ end: end || `RESET ${stream.rstCode}`, details, messages });
    });
  });
}

/**
 * Connections that are used in turn and replaced early: after a thousand dropped calls HTTP/2 (in Node and elsewhere, since
 * "rapid reset") takes a connection for an attack and closes it, which fuzz-raw.ts sees to.
 */
export class FuzzPool implements AsyncDisposable {
  readonly #open: () => Promise<FuzzConnection>;
  readonly #slots: { connection: Promise<FuzzConnection>; uses: number }[] = [];
  readonly #retired: Promise<unknown>[] = [];
  #next = 0;

  constructor(address: string, tls: FuzzTls, width = 4) {
    this.#open = () => FuzzConnection.open(address, tls);
    for (let slot = 0; slot < width; slot += 1) this.#slots.push({ connection: this.#open(), uses: 0 });
  }

  async connection(): Promise<FuzzConnection> {
    const slot = this.#slots[this.#next % this.#slots.length]!;
    this.#next += 1;
    slot.uses += 1;
    if (slot.uses > MAX_USES) {
      // Ends when its calls have.
      const retired = slot.connection.then((connection) => connection.session.close());
      this.#retired.push(retired);
      slot.connection = this.#open();
      slot.uses = 1;
    }
    return slot.connection;
  }

  async call(path: string, frames: Buffer, options?: CallOptions): Promise<Outcome> {
    return (await this.connection()).call(path, frames, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#retired);
    for (const { connection } of this.#slots) await (await connection)[Symbol.asyncDispose]();
  }
}

/** Runs tasks 0..count-1, so many at a time. */
export async function inFlight(count: number, width: number, task: (at: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(width, count) }, async () => {
      while (next < count) {
        const at = next;
        next += 1;
        await task(at);
      }
    }),
  );
}
