// HTTP/2 frames written by hand over TLS, for what no HTTP/2 library sends. An attack is a name and the bytes
// that are sent behind preface and settings; what counts is how the connection is afterwards.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type TLSSocket } from 'node:tls';
import type { Random } from '../../services/broker/ports/clock.ts';
import type { FuzzTls } from './fuzz-connection.ts';
import { between, framed, pick, randomBytes } from './fuzz-mutate.ts';

const DATA = 0;
const HEADERS = 1;
const PRIORITY = 2;
const RST_STREAM = 3;
const SETTINGS = 4;
const PUSH_PROMISE = 5;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const CONTINUATION = 9;

const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const PADDED = 8;

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const DEADLINE_MS = 15_000;
const UNFINISHED_MS = 1_000;

export interface Attack {
  readonly name: string;
  /** How many frames or requests the attack counts for. */
  readonly count: number;
  readonly bytes: Buffer;
  /** The bytes stand for preface and settings, too. */
  readonly bare?: boolean;
  /**
   * The bytes end inside a frame: the broker may wait for the rest, until its keepalive gives the connection
   * up.
   */
  readonly unfinished?: boolean;
  /** The only right verdict, if HTTP/2 leaves no choice. */
  readonly expected?: Verdict;
}

/** How the connection was left: closed by the broker; alive, which a ping shows; or neither in time. */
export type Verdict = 'closed' | 'alive' | 'silent';

export async function attack(
  address: string,
  tls: FuzzTls,
  { bytes, bare, unfinished }: Attack,
): Promise<Verdict> {
  const socket = await tlsConnect(address, tls);
  const { promise: verdict, resolve } = Promise.withResolvers<Verdict>();
  const timer = setTimeout(() => resolve('silent'), unfinished ? UNFINISHED_MS : DEADLINE_MS);
  socket.on('close', () => resolve('closed'));
  const mark = randomBytes(Math.random, 8);
  onFrames(socket, (type, flags, payload) => {
    if (type === PING && (flags & ACK) !== 0 && payload.equals(mark)) resolve('alive');
  });
  if (!bare) socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]));
  socket.write(bytes);
  socket.write(frame(PING, 0, 0, mark));
  const how = await verdict;
  clearTimeout(timer);
  socket.destroy();
  return how;
}

export async function tlsConnect(address: string, tls: FuzzTls): Promise<TLSSocket> {
  const [ca, cert, key] = await Promise.all([readFile(tls.ca), readFile(tls.cert), readFile(tls.key)]);
  const [host, port] = [address.slice(0, address.lastIndexOf(':')), Number(address.split(':').at(-1))];
  const socket = connect({ host, port, ca, cert, key, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  // The error comes from writing to what the broker has closed.
  socket.on('error', () => {});
  return socket;
}

function onFrames(socket: TLSSocket, heard: (type: number, flags: number, payload: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      heard(rest[3]!, rest[4]!, rest.subarray(9, 9 + length));
      rest = rest.subarray(9 + length);
    }
  });
}

function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
  statedLength = payload.length,
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(statedLength, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream >>> 0, 5);
  return Buffer.concat([header, payload]);
}

type Header = readonly [name: string, value: string | Buffer];

/** HPACK: each header as a literal that is not indexed, without Huffman coding. */
function block(headers: readonly Header[]): Buffer {
  const text = (value: string | Buffer): Buffer => {
    const bytes = Buffer.from(value);
    if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
    const length: number[] = [127];
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    return Buffer.concat([Buffer.from([...length, rest]), bytes]);
  };
  return Buffer.concat(headers.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

function grpcHeaders(path: string | Buffer, more: readonly Header[] = []): Header[] {
  return [
    [':method', 'POST'],
    [':scheme', 'https'],
    [':path', path],
    [':authority', 'localhost'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ...more,
  ];
}

const CHECK = '/grpc.health.v1.Health/Check';
const EMPTY_MESSAGE = framed(Buffer.alloc(0));

function repeat(count: number, make: (at: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, at) => make(at)));
}

/** A sound call. */
function call(stream: number, path: string | Buffer = CHECK, more: readonly Header[] = []): Buffer {
  return Buffer.concat([
    frame(HEADERS, END_HEADERS, stream, block(grpcHeaders(path, more))),
    frame(DATA, END_STREAM, stream, EMPTY_MESSAGE),
  ]);
}

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A connection's first bytes, with a call that would be answered. */
export const CHECK_CALL = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), call(1)]);

/** Attacks that are always the same. */
export function fixedAttacks(): readonly Attack[] {
  const opened = frame(HEADERS, END_HEADERS, 1, block(grpcHeaders('/fanfare.v1.Subscriber/Subscribe')));
  const one = (name: string, ...frames: Buffer[]): Attack => ({
    name,
    count: frames.length,
    bytes: Buffer.concat(frames),
  });
  const headers = (name: string, list: readonly Header[]): Attack =>
    one(name, frame(HEADERS, END_HEADERS | END_STREAM, 1, block(list)));
  const block4k = Buffer.alloc(4096, 0x61);
  return [
    { ...one('a sound call, for comparison', call(1)), expected: 'alive' },
    { ...one('HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')), bare: true },
    { ...one('half a preface', PREFACE.subarray(0, 10)), bare: true, unfinished: true },
    {
      name: 'reset at once',
      expected: 'closed',
      count: 3_000,
      bytes: repeat(1_500, (at) =>
        Buffer.concat([
          frame(HEADERS, END_HEADERS, 2 * at + 1, block(grpcHeaders('/fanfare.v1.Subscriber/Subscribe'))),
          frame(RST_STREAM, 0, 2 * at + 1, uint32(8)),
        ]),
      ),
    },
    {
      name: 'more streams than allowed',
      count: 3_000,
      bytes: repeat(3_000, (at) =>
        frame(HEADERS, END_HEADERS, 2 * at + 1, block(grpcHeaders('/fanfare.v1.Publisher/PublishStream'))),
      ),
    },
    {
      name: 'calls without waiting for answers',
      count: 2_000,
      bytes: repeat(1_000, (at) => call(2 * at + 1)),
    },
    {
      name: 'settings again and again',
      expected: 'closed',
      count: 5_000,
      bytes: repeat(5_000, () => frame(SETTINGS, 0, 0)),
    },
    {
      name: 'pings again and again',
      expected: 'closed',
      count: 5_000,
      bytes: repeat(5_000, () => frame(PING, 0, 0, Buffer.alloc(8))),
    },
    {
      name: 'empty data again and again',
      count: 5_001,
      bytes: Buffer.concat([opened, repeat(5_000, () => frame(DATA, 0, 1))]),
    },
    {
      name: 'headers without end',
      expected: 'closed',
      count: 1_000,
      bytes: Buffer.concat([
        frame(HEADERS, 0, 1, block(grpcHeaders(CHECK))),
        repeat(1_000, (at) => frame(CONTINUATION, 0, 1, block([[`x-${at}`, block4k]]))),
      ]),
    },
    {
      name: 'a megabyte of headers',
      count: 250,
      bytes: Buffer.concat([
        frame(HEADERS, 0, 1, block(grpcHeaders(CHECK))),
        repeat(250, (at) =>
          frame(CONTINUATION, at === 249 ? END_HEADERS : 0, 1, block([[`x-${at}`, block4k]])),
        ),
      ]),
    },
    { ...one('window update of 0', frame(WINDOW_UPDATE, 0, 0, uint32(0))), expected: 'closed' },
    {
      ...one(
        'window beyond its maximum',
        frame(WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1)),
        frame(WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1)),
      ),
      expected: 'closed',
    },
    { ...one('data on stream 0', frame(DATA, 0, 0, EMPTY_MESSAGE)), expected: 'closed' },
    { ...one('data on an idle stream', frame(DATA, 0, 77, EMPTY_MESSAGE)), expected: 'closed' },
    one("headers on the broker's stream", frame(HEADERS, END_HEADERS, 2, block(grpcHeaders(CHECK)))),
    one('an older stream', call(9), call(3)),
    { ...one('a lying length', frame(DATA, 0, 1, Buffer.alloc(10), 16_777_215)), expected: 'closed' },
    { ...one('an unfinished frame', opened, frame(DATA, 0, 1, Buffer.alloc(10), 16_000)), unfinished: true },
    {
      ...one('padding longer than the frame', opened, frame(DATA, PADDED, 1, Buffer.from([200, 1, 2]))),
      expected: 'closed',
    },
    {
      ...one(
        'a push',
        frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), block(grpcHeaders(CHECK))])),
      ),
      expected: 'closed',
    },
    one(
      'a stream that depends on itself',
      opened,
      frame(PRIORITY, 0, 1, Buffer.concat([uint32(1), Buffer.from([1])])),
    ),
    one('goaway, then calls', frame(GOAWAY, 0, 0, Buffer.alloc(8)), call(1), call(3)),
    {
      ...one('settings out of range', frame(SETTINGS, 0, 0, Buffer.from([0, 4, 0xff, 0xff, 0xff, 0xff]))),
      expected: 'closed',
    },
    one('a frame of an unknown type', frame(0xee, 0xff, 1, Buffer.alloc(100))),
    ...['80', 'ffffffffffffff7f', '3fffffffffff', '0085ffffffffff', '00ff', '40017f'].map((hex) => ({
      ...one(`HPACK ${hex}`, frame(HEADERS, END_HEADERS | END_STREAM, 1, Buffer.from(hex, 'hex'))),
      expected: 'closed' as const,
    })),
    headers(
      'no path',
      grpcHeaders(CHECK).filter(([name]) => name !== ':path'),
    ),
    headers(
      'no method',
      grpcHeaders(CHECK).filter(([name]) => name !== ':method'),
    ),
    headers(
      'no authority',
      grpcHeaders(CHECK).filter(([name]) => name !== ':authority'),
    ),
    headers('two paths', [[':path', '/'], ...grpcHeaders(CHECK)]),
    headers('an upper-case name', grpcHeaders(CHECK, [['X-Upper', 'x']])),
    headers('a name that is none', grpcHeaders(CHECK, [['a b', 'x']])),
    headers('an unknown pseudo-header', [[':fanfare', 'x'], ...grpcHeaders(CHECK)]),
    headers('CONNECT', [
      [':method', 'CONNECT'],
      [':authority', 'localhost'],
    ]),
    ...[
      '',
      '*',
      'x',
      '/',
      '/\u0000',
      '/a\nb',
      '/é',
      '/%',
      '/%zz',
      '/💥',
      `/${'x'.repeat(5_000)}`,
      '/__proto__',
      '/constructor',
    ].map((path) => one(`path ${JSON.stringify(path.slice(0, 20))}`, call(1, path))),
    ...['80', 'ff', 'c0af', 'eda080'].map((hex) =>
      one(`path with the bytes ${hex}`, call(1, Buffer.concat([Buffer.from('/'), Buffer.from(hex, 'hex')]))),
    ),
    ...[
      'grpc-timeout',
      'grpc-encoding',
      'x-bin',
      'content-length',
      ':authority',
      'host',
      'traceparent',
      'te',
      '!',
      '__proto__',
    ].flatMap((name) =>
      ['', '-1', '99999999H', '1n', 'x', '\u0000', '\u00e9', '💥', '='.repeat(2_000)].map((value) =>
        one(`header ${name}: ${JSON.stringify(value.slice(0, 12))}`, call(1, CHECK, [[name, value]])),
      ),
    ),
  ];
}

/** Frames of random types, flags and streams with true lengths, among sound calls; or no frames at all. */
export function randomAttack(random: Random): Attack {
  if (random() < 0.1) {
    const bytes = randomBytes(random, between(random, 64, 3_000));
    return { name: 'random bytes', count: 1, bytes, bare: random() < 0.5, unfinished: true };
  }
  const count = between(random, 1, 40);
  const bytes = repeat(count, (at) => {
    if (random() < 0.5) return call(2 * at + 1);
    const payload = randomBytes(random, pick(random, [0, 0, 1, 4, 5, 6, 8, 9, 40, 300]));
    const type = random() < 0.9 ? between(random, 0, 9) : between(random, 10, 255);
    const flags = random() < 0.5 ? pick(random, [0, 1, 4, 5, 8]) : between(random, 0, 255);
    const stream = pick(random, [0, 1, 2 * at + 1, 2 * at - 1, 2, 2 ** 31 - 1, 2 ** 31 + 1]);
    return frame(type, flags, stream, payload);
  });
  return { name: 'random frames', count, bytes };
}
