// A TCP proxy that does to connections what networks do: cuts them, holds them up, slows them down, in one
// direction or in both, switched while they are open. It stands between a broker and Redis, or (as the
// advertised address) before a broker.
//
//   await using proxy = await startFaultProxy(redis.address);
//   proxy.set('both', { holds: true });    // half-open: connections stay and are accepted, nothing arrives
//   proxy.heal();                          // what was held arrives now, as TCP would send it again
//   proxy.cut();                           // all connections are reset
//
// Bytes are never lost out of the middle of a connection and never change places: TCP would not do that
// either.
import { createServer, connect as openSocket, type Server, type Socket } from 'node:net';

export type Direction = 'toServer' | 'toClient';

export interface Fault {
  /** Nothing gets through, ends of connections included, until this is taken back. Default false. */
  readonly holds?: boolean;
  /** Everything arrives so much later. Default 0. */
  readonly delayMs?: number;
  /** The rate of each connection. Default: no limit. */
  readonly bytesPerSecond?: number;
}

/**
 * Most bytes taken from a sender and not passed on, per connection and direction; beyond that, the sender's
 * own buffers fill up.
 */
const MAX_QUEUED_BYTES = 4 * 1024 * 1024;
const WHOLE: Required<Fault> = { holds: false, delayMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY };

/** Listens on 127.0.0.1 (port 0: a free one) and passes connections on to target, "host:port". */
export async function startFaultProxy(target: string, port = 0): Promise<FaultProxy> {
  const server = createServer({ allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const bound = server.address();
  return new FaultProxy(server, typeof bound === 'object' && bound !== null ? bound.port : port, target);
}

export class FaultProxy implements AsyncDisposable {
  readonly port: number;
  /** host:port to which new connections go. */
  target: string;
  /** Bytes passed on so far. */
  readonly bytes: Record<Direction, number> = { toServer: 0, toClient: 0 };
  /** How many connections were ever accepted. */
  accepted = 0;
  readonly #server: Server;
  readonly #links = new Set<Link>();
  readonly #faults: Record<Direction, Required<Fault>> = { toServer: WHOLE, toClient: WHOLE };
  #refuses = false;

  constructor(server: Server, port: number, target: string) {
    this.#server = server;
    this.port = port;
    this.target = target;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /** host:port of the proxy. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get connections(): number {
    return this.#links.size;
  }

  /**
   * Sets the fault from now on, for open connections and new ones. Each field that is not given is back to
   * normal.
   */
  set(direction: Direction | 'both', fault: Fault): void {
    const directions: Direction[] = direction === 'both' ? ['toServer', 'toClient'] : [direction];
    for (const each of directions) this.#faults[each] = { ...WHOLE, ...fault };
    for (const link of this.#links) link.pump();
  }

  /** New connections are reset at once, or no longer. */
  refuse(refuses: boolean): void {
    this.#refuses = refuses;
  }

  /** Resets all open connections, whatever else is set. */
  cut(): void {
    for (const link of [...this.#links]) link.cut();
  }

  /** Ends all faults; connections that were cut stay cut. */
  heal(): void {
    this.#refuses = false;
    this.set('both', {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#refuses = true;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.cut();
    await closed;
  }

  #accept(client: Socket): void {
    this.accepted += 1;
    if (this.#refuses) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(this.target) ?? [];
    const server = openSocket({ host, port: Number(port), allowHalfOpen: true });
    for (const socket of [client, server]) socket.setNoDelay(true);
    const link = new Link(client, server, this.#faults, this.bytes, () => this.#links.delete(link));
    this.#links.add(link);
  }
}

/** One connection: two one-way pipes that die together. */
class Link {
  readonly #sockets: readonly [Socket, Socket];
  readonly #pipes: readonly Pipe[];

  constructor(
    client: Socket,
    server: Socket,
    faults: Readonly<Record<Direction, Required<Fault>>>,
    bytes: Record<Direction, number>,
    onGone: () => void,
  ) {
    this.#sockets = [client, server];
    const pipe = (from: Socket, to: Socket, direction: Direction): Pipe =>
      new Pipe(from, to, {
        fault: () => faults[direction],
        passed: (count) => {
          bytes[direction] += count;
        },
        broken: () => this.cut(),
      });
    this.#pipes = [pipe(client, server, 'toServer'), pipe(server, client, 'toClient')];
    let open = 2;
    for (const socket of this.#sockets) {
      socket.once('close', () => {
        open -= 1;
        if (open === 0) onGone();
      });
    }
  }

  pump(): void {
    for (const pipe of this.#pipes) pipe.pump();
  }

  cut(): void {
    for (const pipe of this.#pipes) pipe.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }
}

interface PipeOptions {
  readonly fault: () => Required<Fault>;
  readonly passed: (bytes: number) => void;
  /** The sender's connection broke, and the news has arrived here. */
  readonly broken: () => void;
}

type Item = { readonly dueMs: number; readonly what: Buffer | 'end' | 'broken' };

/** One direction: what comes from a socket goes to the other in order, when it is due and may go. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #options: PipeOptions;
  #queue: Item[] = [];
  #queuedBytes = 0;
  /** When the last byte taken will have been sent at the rate allowed. */
  #sentAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #isFull = false;
  #isOver = false;

  constructor(from: Socket, to: Socket, options: PipeOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    from.on('data', (bytes: Buffer) => this.#take(bytes, bytes.length));
    from.on('end', () => this.#take('end', 0));
    from.on('error', () => this.#take('broken', 0));
    from.on('close', () => this.#take('broken', 0));
    to.on('drain', () => {
      this.#isFull = false;
      this.pump();
    });
  }

  /** Passes on what is due. */
  pump(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (!this.#isOver && !this.#isFull && !this.#options.fault().holds) {
      const next = this.#queue[0];
      if (next === undefined) break;
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), waitMs);
        break;
      }
      this.#queue.shift();
      this.#pass(next.what);
    }
    if (!this.#isOver && this.#queuedBytes < MAX_QUEUED_BYTES) this.#from.resume();
  }

  close(): void {
    this.#isOver = true;
    this.#queue = [];
    clearTimeout(this.#timer);
  }

  #take(what: Item['what'], bytes: number): void {
    if (this.#isOver) return;
    const { delayMs, bytesPerSecond } = this.#options.fault();
    const nowMs = performance.now();
    this.#sentAtMs = Math.max(this.#sentAtMs, nowMs) + (bytes / bytesPerSecond) * 1_000;
    // Items stay in order even when the delay has just become shorter.
    const dueMs = Math.max(this.#sentAtMs + delayMs, this.#queue.at(-1)?.dueMs ?? 0);
    this.#queue.push({ dueMs: dueMs > nowMs ? dueMs : 0, what });
    this.#queuedBytes += bytes;
    if (this.#queuedBytes >= MAX_QUEUED_BYTES) this.#from.pause();
    this.pump();
  }

  #pass(what: Item['what']): void {
    if (what === 'end') this.#to.end();
    else if (what === 'broken') {
      // A close after an orderly end is no news.
      if (!this.#to.writableEnded) this.#options.broken();
    } else {
      this.#queuedBytes -= what.length;
      this.#options.passed(what.length);
      if (!this.#to.destroyed) this.#isFull = !this.#to.write(what);
    }
  }
}
