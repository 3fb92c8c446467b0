// What the Redis servers are and how they are set up: checked before a store opens, and looked at again each
// minute and after each reconnection.
//
// Invariant: `fsync` is what every master could do at the last look that succeeded.
import { Cluster, type Redis } from 'ioredis';
import { DURABILITY_LEVELS, type DurabilityLevel } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Conditions, OnWarning } from './conditions.ts';
import type { RedisConnection } from './connection.ts';
import { messageOf } from './redis-errors.ts';

/** How an answered write gets onto the server's disk; `none`: it can't be made to. */
export type Fsync = 'waitaof' | 'always' | 'none';

const OLDEST_MAJOR = 7;
const CHECK_INTERVAL_MS = 60_000;

/** What one server says of itself; undefined: it did not say. */
interface ServerFacts {
  readonly address: string;
  readonly version: string | undefined;
  readonly isMaster: boolean;
  readonly evictionPolicy: string | undefined;
  readonly fsync: Fsync | undefined;
  readonly replicas: number;
}

export class ServerWatch {
  readonly #connection: RedisConnection;
  readonly #clock: Clock;
  readonly #conditions: Conditions;
  readonly #warn: OnWarning;
  readonly #shown: string;
  #fsync: Fsync = 'none';
  #stopped = false;
  #cancelTimer: () => void = () => {};

  constructor(
    connection: RedisConnection,
    clock: Clock,
    conditions: Conditions,
    warn: OnWarning,
    shown: string,
  ) {
    this.#connection = connection;
    this.#clock = clock;
    this.#conditions = conditions;
    this.#warn = warn;
    this.#shown = shown;
  }

  get fsync(): Fsync {
    return this.#fsync;
  }

  get supported(): readonly DurabilityLevel[] {
    return DURABILITY_LEVELS.filter((level) => level !== 'fsync' || this.#fsync !== 'none');
  }

  /**
   * FAILED_PRECONDITION if a server is not fit to hold a broker's data; the message says why and what to do.
   */
  async open(): Promise<void> {
    const servers = await this.#look();
    for (const server of servers) this.#refuseUnfit(server);
    const unseen = servers.filter(({ evictionPolicy }) => evictionPolicy === undefined);
    if (unseen.length > 0) {
      this.#warn(
        'Redis does not let us see its settings (INFO): make sure that maxmemory-policy is noeviction, or messages may be lost',
        { store: this.#shown, servers: unseen.map(({ address }) => address) },
      );
    }
    if (servers.some(({ fsync }) => fsync === undefined)) {
      this.#warn(
        'Redis does not let us see its settings (CONFIG GET): the durability level `fsync` is not offered',
        { store: this.#shown },
      );
    }
    this.#connection.onReady(() => void this.check());
    this.#schedule();
  }

  /** Looks now. Never rejects: what is wrong becomes a condition. */
  async check(): Promise<void> {
    if (this.#stopped) return;
    try {
      const servers = await this.#look();
      const evicting = servers.find(
        ({ evictionPolicy: policy }) => policy !== undefined && policy !== 'noeviction',
      );
      if (evicting) {
        this.#conditions.begins('eviction', `${evicting.address} has ${evicting.evictionPolicy}`);
      } else {
        this.#conditions.ends('eviction');
      }
      if (this.#fsync !== 'none') this.#conditions.ends('fsync');
    } catch (error) {
      // run() has noted the condition.
      if (!(error instanceof BrokerError)) throw error;
    }
  }

  /** Why a topic can't have that level now; undefined: it can. UNAVAILABLE: a master does not answer. */
  async refusal(level: DurabilityLevel, minReplicas: number): Promise<string | undefined> {
    if (level === 'memory' || level === 'stored') return undefined;
    const servers = await this.#look();
    if (level === 'fsync') {
      if (this.#fsync !== 'none') return undefined;
      return 'the store does not sync to its disk: Redis needs appendonly yes, and before 7.2 appendfsync always';
    }
    const masters = servers.filter(({ isMaster }) => isMaster);
    const fewest = Math.min(...masters.map(({ replicas }) => replicas));
    if (fewest >= minReplicas) return undefined;
    return `the store has ${fewest} connected ${fewest === 1 ? 'replica' : 'replicas'} of Redis, and ${minReplicas} must confirm`;
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  #schedule(): void {
    this.#cancelTimer = this.#clock.setTimer(CHECK_INTERVAL_MS, async () => {
      await this.check();
      if (!this.#stopped) this.#schedule();
    });
  }

  async #look(): Promise<ServerFacts[]> {
    const { client } = this.#connection;
    const nodes = client instanceof Cluster ? client.nodes('all') : [client];
    const masters = client instanceof Cluster ? client.nodes('master') : [client];
    const looked = await Promise.allSettled(
      nodes.map((node) => this.#connection.run('info', () => factsOf(node))),
    );
    const servers: ServerFacts[] = [];
    looked.forEach((outcome, index) => {
      if (outcome.status === 'fulfilled') servers.push(outcome.value);
      // A replica that is away does no harm here.
      else if (masters.includes(nodes[index]!)) throw outcome.reason;
    });
    const ways = servers.filter(({ isMaster }) => isMaster).map(({ fsync }) => fsync ?? 'none');
    this.#fsync = WEAKEST_FIRST.find((way) => ways.includes(way)) ?? 'none';
    return servers;
  }

  #refuseUnfit({ address, version, isMaster, evictionPolicy }: ServerFacts): void {
    const refuse = (what: string): never => {
      throw new BrokerError('FAILED_PRECONDITION', `the store ${this.#shown}: ${what}`);
    };
    if (version !== undefined && Number.parseInt(version, 10) < OLDEST_MAJOR) {
      refuse(`${address} is Redis ${version}, too old: at least ${OLDEST_MAJOR}.0 is needed`);
    }
    if (evictionPolicy !== undefined && evictionPolicy !== 'noeviction') {
      refuse(
        `${address} has maxmemory-policy ${evictionPolicy}, so Redis would delete messages when its memory is full: ` +
          'set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)',
      );
    }
    if (!isMaster && !(this.#connection.client instanceof Cluster)) {
      refuse(`${address} is a replica: name its master, or use redis+sentinel:// so that it is found`);
    }
  }
}

/**
 * The ways from the weakest on, to find one for all servers: WAITAOF also works where every write is synced.
 */
const WEAKEST_FIRST: readonly Fsync[] = ['none', 'waitaof', 'always'];

async function factsOf(node: Redis): Promise<ServerFacts> {
  const { host = 'localhost', port = 0 } = node.options;
  const address = `${host}:${port}`;
  const info = await optional(node.info('server', 'memory', 'persistence', 'replication'));
  const facts = new Map((info ?? '').split('\r\n').map((line) => split(line)));
  const version = facts.get('redis_version');
  return {
    address,
    version,
    isMaster: facts.get('role') !== 'slave',
    evictionPolicy: facts.get('maxmemory_policy'),
    fsync: facts.get('aof_enabled') === '1' ? await fsyncOf(node, version) : 'none',
    replicas: [...facts].filter(([key, value]) => /^slave\d+$/.test(key) && value.includes('state=online'))
      .length,
  };
}

async function fsyncOf(node: Redis, version: string | undefined): Promise<Fsync | undefined> {
  const setting = (await optional(node.config('GET', 'appendfsync'))) as string[] | undefined;
  if (setting?.[1] === 'always') return 'always';
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number);
  if (major > 7 || (major === 7 && minor >= 2)) return 'waitaof';
  return setting === undefined ? undefined : 'none';
}

/** The answer, or undefined if the server does not let us ask. */
async function optional<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (/^(NOPERM|ERR unknown)/.test(messageOf(error))) return undefined;
    throw error;
  }
}

function split(line: string): [string, string] {
  const colon = line.indexOf(':');
  return [line.slice(0, colon), line.slice(colon + 1)];
}
