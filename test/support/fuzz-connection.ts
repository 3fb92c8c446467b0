// An HTTP/2 connection to the broker that sends whatever bytes it is told to as gRPC calls, many at a time,
// and says how each ended. It is made of node:http2 rather than grpc-js, which would not send most of it.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { status } from '@grpc/grpc-js';

/** The client's certificate and its CA: paths of PEM files. */
export interface FuzzTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** How a call ended. */
export interface Outcome {
  /**
   * A gRPC status by name; 'HTTP 415' and the like; 'RESET n'; 'DROPPED' by us, as asked; 'HUNG': nothing
   * heard for 20 s.
   */
  readonly end: string;
  readonly details: string;
  /** The answers, without gRPC's headers. */
  readonly messages: readonly Buffer[];
}

export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** Drop the call when it has answered so often. */
  readonly dropAfter?: number;
  /** Told of every answer. */
  readonly onMessage?: (message: Buffer) => void;
}

const DEADLINE_MS = 20_000;
const MAX_USES = 700;

export class FuzzConnection implements AsyncDisposable {
  readonly session: ClientHttp2Session;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<unknown>;
  #currentPing: Promise<void> = Promise.resolve();
  #nextPing: Promise<void> | undefined;

  /** Call FuzzConnection.open instead. */
  constructor(session: ClientHttp2Session) {
    this.session = session;
    // What went wrong shows in the calls.
    session.on('error', () => {});
    this.closed = new Promise((resolve) => session.once('close', resolve));
  }

  static async open(address: string, tls: FuzzTls, windowBytes = 1 << 20): Promise<FuzzConnection> {
    const [ca, cert, key] = await Promise.all([readFile(tls.ca), readFile(tls.cert), readFile(tls.key)]);
    const session = connect(`https://${address}`, {
      ca,
      cert,
      key,
      settings: { initialWindowSize: windowBytes },
      // Beyond Node's default of 10 MB the client would reset its own calls.
      maxSessionMemory: 1_000,
    });
    const connection = new FuzzConnection(session);
    await once(session, 'remoteSettings');
    if (windowBytes > 0) session.setLocalWindowSize(16 << 20);
    return connection;
  }

  /** A call whose request side stays open, for a caller that writes to it. */
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
    stream.end(frames);
    return outcomeOf(stream, options);
  }

  /** Resolves when the broker has answered: it has then read what was sent before. */
  ping(): Promise<void> {
    // Few pings may be under way at once, so whoever asks meanwhile shares the next.
    this.#nextPing ??= this.#currentPing.then(() => {
      this.#nextPing = undefined;
      this.#currentPing = new Promise((resolve) => {
        // A session that is gone answers nothing more.
        if (this.session.destroyed || !this.session.ping(() => resolve())) resolve();
      });
      return this.#currentPing;
    });
    return this.#nextPing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.session.destroy();
    await this.closed;
  }
}

/** Reads a call to its end. With onMessage, answers are not kept. */
export function outcomeOf(
  stream: ClientHttp2Stream,
  { dropAfter, onMessage }: Pick<CallOptions, 'dropAfter' | 'onMessage'> = {},
): Promise<Outcome> {
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
      timer.refresh();
      timer.refresh();
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
        const end = 5 + rest.readUInt32BE(1);
        const message = rest.subarray(5, end);
        rest = rest.subarray(end);
        if (onMessage === undefined) messages.push(message);
        else onMessage(message);
      }
      if (dropAfter !== undefined && messages.length >= dropAfter) drop('DROPPED');
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

interface Slot {
  readonly connection: Promise<FuzzConnection>;
  uses: number;
  calls: number;
}

/**
 * Connections that are used in turn and replaced early: after a thousand calls dropped quickly, HTTP/2
 * servers since "rapid reset" take a connection for an attack and close it, which fuzz-raw.ts sees to.
 */
export class FuzzPool implements AsyncDisposable {
  readonly #open: () => Slot;
  readonly #slots: Slot[] = [];
  #next = 0;

  constructor(address: string, tls: FuzzTls, width = 4) {
    this.#open = () => ({ connection: FuzzConnection.open(address, tls), uses: 0, calls: 0 });
    for (let at = 0; at < width; at += 1) this.#slots.push(this.#open());
  }

  async call(path: string, frames: Buffer, options?: CallOptions): Promise<Outcome> {
    const at = this.#next % this.#slots.length;
    this.#next += 1;
    let slot = this.#slots[at]!;
    if (slot.uses >= MAX_USES) {
      const retired = slot;
      slot = this.#open();
      this.#slots[at] = slot;
      // Otherwise the last call on it closes it.
      if (retired.calls === 0) (await retired.connection).session.destroy();
    }
    slot.uses += 1;
    slot.calls += 1;
    const connection = await slot.connection;
    const outcome = await connection.call(path, frames, options);
    slot.calls -= 1;
    if (slot.calls === 0 && !this.#slots.includes(slot)) connection.session.destroy();
    return outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { connection } of this.#slots) await (await connection)[Symbol.asyncDispose]();
  }
}

/** Runs tasks 0..count-1, so many at a time. */
export async function inFlight(
  count: number,
  width: number,
  task: (at: number) => Promise<void>,
): Promise<void> {
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
