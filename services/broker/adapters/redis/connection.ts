// A connection to Redis that lasts: it reconnects, takes new certificates, gives every command a time limit
// and turns failures into BrokerErrors. On a Cluster it is one to each master. Leases, bulk data and waits
// for replicas each have one of their own, so that none waits behind the others.
//
// On one node, commands are carried out in the order in which they were sent, as long as none fails. A
// command that has failed with UNAVAILABLE may still be carried out later.
import { Cluster } from 'ioredis';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Client } from './client.ts';
import type { Conditions } from './conditions.ts';
import { isRefusedLogin, meaningOf, messageOf, RedisTimeout, toBrokerError } from './redis-errors.ts';
import type { ScriptName } from './scripts.ts';

/** Strings, integers as numbers, nil as null, and lists of these. */
export type Reply = string | number | null | Reply[];
export type BufferReply = Buffer | number | null | BufferReply[];
export type Argument = string | number | Uint8Array;

export interface ConnectionOptions {
  readonly createClient: () => Client;
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** The limit of a command that has none of its own. */
  readonly timeoutMs: number;
  /** How long a new client may take until it can be used. */
  readonly connectTimeoutMs: number;
  /** What messages call the target. */
  readonly shown: string;
  /** Called with the reply of each script(), also when its caller has given up waiting. Does not throw. */
  readonly onReply?: (script: ScriptName, key: string, args: readonly Argument[], reply: Reply) => void;
  /** A command that takes longer is a sign of trouble, even if it succeeds. Absent: none is. */
  readonly slowMs?: number;
}

export interface ConnectionStats {
  connects: number;
  failures: number;
  timeouts: number;
}

/** How long commands on a replaced client may still take. */
const RETIRE_MS = 10_000;

export class RedisConnection {
  readonly stats: ConnectionStats = { connects: 0, failures: 0, timeouts: 0 };
  readonly #options: ConnectionOptions;
  #client: Client;
  #closed = false;
  readonly #readyListeners = new Set<() => void>();

  /** Not connected yet: open() it before anything is sent. */
  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#client = this.#create();
  }

  get client(): Client {
    return this.#client;
  }

  /** Calls back whenever a client is connected, again or for the first time. */
  onReady(listener: () => void): void {
    this.#readyListeners.add(listener);
  }

  /** UNAVAILABLE: the server can't be reached. FAILED_PRECONDITION: it refuses our credentials. */
  async open(): Promise<void> {
    try {
      await connect(this.#client, this.#options);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Runs a script with as many keys as scripts.ts says. */
  script(name: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<Reply> {
    const { onReply } = this.#options;
    return this.run(
      name,
      async (client) => {
        const reply = await commandOf<Reply>(client, name)(...keys, ...args.map(sendable));
        onReply?.(name, keys[0] ?? '', args, reply);
        return reply;
      },
      name === 'append',
    );
  }

  /** As script(), with Buffers instead of strings in the reply. */
  scriptBuffer(name: ScriptName, keys: readonly string[], args: readonly Argument[]): Promise<BufferReply> {
    return this.run(name, (client) =>
      commandOf<BufferReply>(client, `${name}Buffer`)(...keys, ...args.map(sendable)),
    );
  }

  /** Sends anything else. `action` is for messages; `grew`: it needs memory at the server. */
  async run<T>(
    action: string,
    send: (client: Client) => Promise<T>,
    grew = false,
    timeoutMs = this.#options.timeoutMs,
  ): Promise<T> {
    const { clock, conditions, slowMs = Number.POSITIVE_INFINITY } = this.#options;
    const sentMs = clock.monotonicMs();
    try {
      const result = await withTimeout(clock, timeoutMs, sendWith(this.#client, send));
      const tookMs = clock.monotonicMs() - sentMs;
      // An answer that came in time, but is noticed after the limit, was not slow: this process stood still.
      if (tookMs > slowMs && tookMs <= timeoutMs)
        conditions.begins('slow', `${action} took ${Math.round(tookMs)} ms`);
      conditions.works(grew);
      return result;
    } catch (error) {
      if (error instanceof BrokerError) throw error;
      const meaning = meaningOf(error);
      this.stats.failures += 1;
      if (error instanceof RedisTimeout) this.stats.timeouts += 1;
      if (!this.#closed) conditions.begins(meaning.condition, messageOf(error));
      throw toBrokerError(action, meaning, error);
    }
  }

  /**
   * Goes on with a new client, for new certificates. Keeps the old one, and rejects, if the new one can't
   * connect.
   */
  async replace(): Promise<void> {
    const next = this.#create();
    try {
      await connect(next, this.#options);
    } catch (error) {
      next.disconnect();
      throw error;
    }
    const old = this.#client;
    this.#client = next;
    if (this.#closed) next.disconnect();
    await retire(old, this.#options.clock);
  }

  close(): void {
    this.#closed = true;
    this.#client.disconnect();
  }

  #create(): Client {
    const client = this.#options.createClient();
    client.on('error', (error: unknown) => {
      // The failures of a client that is being closed, or not yet in use, are reported elsewhere.
      if (client === this.#client && !this.#closed && this.stats.connects > 0) {
        this.#options.conditions.begins('unreachable', messageOf(error));
      }
    });
    client.on('ready', () => {
      this.stats.connects += 1;
      for (const listener of this.#readyListeners) listener();
    });
    return client;
  }
}

/** Calls `send`; what it throws at once becomes a rejection, too. */
async function sendWith<T>(client: Client, send: (client: Client) => Promise<T>): Promise<T> {
  // The driver would queue without limit for as long as no node of the Cluster can be reached.
  if (client instanceof Cluster && client.status !== 'ready')
    throw new Error('no node of the Cluster can be reached');
  return send(client);
}

/** ioredis takes only a Buffer for bytes: of another array it sends the text. */
function sendable(argument: Argument): string | number | Buffer {
  if (typeof argument !== 'object' || Buffer.isBuffer(argument)) return argument;
  return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength);
}

/** A command of the client by name; those of scripts are there by defineCommand. */
export function commandOf<T>(client: object, name: string): (...args: readonly Argument[]) => Promise<T> {
  const command = (client as Record<string, (...args: readonly Argument[]) => Promise<T>>)[name]!;
  return command.bind(client);
}

/** Rejects with RedisTimeout after that time; the promise's own outcome is ignored then. */
export function withTimeout<T>(clock: Clock, timeoutMs: number, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.setTimer(timeoutMs, () =>
      reject(new RedisTimeout(`no answer within ${timeoutMs} ms`)),
    );
    promise.then(
      (value) => {
        cancel();
        resolve(value);
      },
      (error: unknown) => {
        cancel();
        reject(error);
      },
    );
  });
}

/** Resolves when commands can be sent. Errors as in open(); the client is disconnected then. */
export async function connect(
  client: Client,
  { clock, connectTimeoutMs, shown }: Pick<ConnectionOptions, 'clock' | 'connectTimeoutMs' | 'shown'>,
): Promise<void> {
  let last: unknown;
  const opened = new Promise<void>((resolve, reject) => {
    client.on('error', (error: unknown) => {
      last = innermost(error);
      if (isRefusedLogin(last)) reject(last);
    });
    client.once('ready', resolve);
    // Its rejection means that the first attempt failed; others follow.
    client.connect().catch((error: unknown) => {
      last ??= innermost(error);
    });
  });
  try {
    await withTimeout(clock, connectTimeoutMs, opened);
    // A Cluster's client connects to a node with the first command for it.
    if (client instanceof Cluster) await Promise.all(client.nodes('master').map((node) => node.ping()));
  } catch (error) {
    client.disconnect();
    if (isRefusedLogin(error)) {
      const message = `the store ${shown} refuses our credentials (${messageOf(error)}): check user, password and ACL`;
      throw new BrokerError('FAILED_PRECONDITION', message, { cause: error });
    }
    const reason = messageOf(last ?? error);
    throw new BrokerError(
      'UNAVAILABLE',
      `the store ${shown} cannot be reached (${reason}): check that it runs there, and its TLS certificates`,
      { cause: last ?? error },
    );
  }
}

/** The node's error that a Cluster's error hides. */
function innermost(error: unknown): unknown {
  return (error as { lastNodeError?: unknown }).lastNodeError ?? error;
}

/** Ends a client after its commands: QUIT is answered after everything before it. */
async function retire(client: Client, clock: Clock): Promise<void> {
  try {
    await withTimeout(clock, RETIRE_MS, client.quit());
  } catch (error) {
    // Its commands have failed, and say so themselves.
    if (!(error instanceof Error)) throw error;
  }
  client.disconnect();
}
