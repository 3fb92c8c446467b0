// The Redis store: all ports that the members of a cluster share, on one server, on what Sentinels watch
// over, or on a Cluster (target.ts has the URLs).
//
//   log-store  cursor-store  ownership-store      definition-store  membership-store  signals
//        └──────────┼───────────────┘                     └────────────────┴────────────┤
//              connection (data)   confirmer ── connection (waiting)       connection (control), subscriber
//
// Opening: connect, refuse servers that are not fit (server-watch.ts). Certificates are replaced while it
// runs: new clients take the place of the old ones, whose commands are finished.
import type { DurabilityLevel } from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { DefinitionStore } from '../../ports/definition-store.ts';
import type { LogStore } from '../../ports/log-store.ts';
import type { MembershipStore } from '../../ports/membership-store.ts';
import type { OwnershipStore } from '../../ports/ownership-store.ts';
import type { Signals } from '../../ports/signals.ts';
import { createClient } from './client.ts';
import { Conditions, type OnWarning } from './conditions.ts';
import { Confirmer } from './confirmer.ts';
import { type ConnectionStats, RedisConnection } from './connection.ts';
import { RedisCursorStore } from './cursor-store.ts';
import { RedisDefinitionStore } from './definition-store.ts';
import { RedisKeys } from './keys.ts';
import { RedisLogStore } from './log-store.ts';
import { RedisMembershipStore } from './membership-store.ts';
import { RedisOwnershipStore } from './ownership-store.ts';
import { PartitionLists } from './partition-lists.ts';
import { messageOf } from './redis-errors.ts';
import { ServerWatch } from './server-watch.ts';
import { RedisSignals } from './signals.ts';
import { StaleWrites } from './stale-writes.ts';
import { parseTarget, type RedisCredentials } from './target.ts';
import { openTlsFiles, type RedisTlsFiles } from './tls-files.ts';
import { WriteNumbers } from './write-numbers.ts';

const DEFAULT_PREFIX = 'fanfare';
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;
/** The limit for data: an append of some MiB, behind others, over a slow network. */
const DATA_TIMEOUT_MS = 3_000;
/** The limit for leases and signals: a later answer is of no use for a lease of 2 s. */
const CONTROL_TIMEOUT_MS = 1_000;
/**
 * The part of these limits from which on people are told that Redis is slow, while everything still works.
 */
const SLOW_PART = 0.3;
/** The limit for what is behind a wait; the wait has its own. */
const WAITING_TIMEOUT_MS = 3_000;

export interface RedisStoreOptions {
  /** See target.ts. */
  readonly url: string;
  /** They win over what the URL says. */
  readonly credentials?: RedisCredentials;
  /** For rediss:// URLs. */
  readonly tls?: RedisTlsFiles;
  /** The id of this process alone, new with each start. */
  readonly memberId: string;
  /**
   * What all keys begin with; clusters that share a Redis have different ones. 1 to 100 letters, digits and
   * ._:-, default "fanfare".
   */
  readonly clusterPrefix?: string;
  /** How long the store waits for Redis when it is opened. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** Called when something goes wrong and when it is over. For the log. */
  readonly onWarning: OnWarning;
  readonly clock: Clock;
}

export interface RedisDurability {
  /** The levels that the servers can give as they are set up now. */
  readonly supported: readonly DurabilityLevel[];
  readonly default: DurabilityLevel;
  /**
   * Why a topic can't have that level at the moment; undefined: it can. `replicas` counts for `replicated`.
   * UNAVAILABLE: a master does not answer.
   */
  check(level: DurabilityLevel, replicas: number): Promise<string | undefined>;
}

export interface RedisStoreStats {
  readonly data: Readonly<ConnectionStats>;
  readonly control: Readonly<ConnectionStats>;
  readonly lostSignals: number;
  /** See stale-writes.ts. */
  readonly staleWrites: number;
  /** What is wrong at the moment (conditions.ts). */
  readonly conditions: readonly string[];
}

export interface RedisStore {
  readonly log: LogStore;
  readonly cursors: CursorStore;
  readonly definitions: DefinitionStore;
  readonly ownership: OwnershipStore;
  readonly membership: MembershipStore;
  readonly signals: Signals;
  readonly durability: RedisDurability;
  stats(): RedisStoreStats;
  /** What is wrong with Redis and what to do about it; empty while it works. */
  conditions(): readonly string[];
  /** Looks at the certificate files now. True if there were new ones, which are in force then. */
  reloadCertificates(): Promise<boolean>;
  /** Closes all connections: what is still under way fails. */
  close(): Promise<void>;
}

/**
 * INVALID_ARGUMENT: not a URL of the known forms. UNAVAILABLE: Redis can't be reached. FAILED_PRECONDITION:
 * it is too old, evicts keys, is a replica, or refuses our credentials; or the certificates can't be used.
 * Messages say what to do.
 */
export async function openRedisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const { clock, memberId, onWarning, clusterPrefix = DEFAULT_PREFIX } = options;
  const { connectTimeoutMs = DEFAULT_CONNECT_TIMEOUT_MS } = options;
  const target = parseTarget(options.url, options.credentials);
  if (!/^[\w.:-]{1,100}$/.test(clusterPrefix)) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `the prefix ${JSON.stringify(clusterPrefix)} must be 1 to 100 letters, digits and ._:-`,
    );
  }
  const tls = target.tls ? await openTlsFiles(options.tls ?? {}, clock, onWarning) : undefined;
  const conditions = new Conditions(clock, onWarning, target.shown);
  const connections: RedisConnection[] = [];
  const client = (use: string) => () =>
    createClient({ target, tls: tls?.content, name: `fanfare:${memberId}:${use}`.replace(/[^\w.:-]/g, '_') });
  const staleWrites = new StaleWrites(onWarning);
  const connection = (use: string, timeoutMs: number, slowMs?: number): RedisConnection => {
    const made = new RedisConnection({
      createClient: client(use),
      clock,
      conditions,
      timeoutMs,
      connectTimeoutMs,
      shown: target.shown,
      onReply: (...heard) => staleWrites.heard(...heard),
      ...(slowMs !== undefined && { slowMs }),
    });
    connections.push(made);
    return made;
  };
  const openWaiting = async (): Promise<RedisConnection> => {
    const waiting = connection('waiting', WAITING_TIMEOUT_MS);
    await waiting.open();
    return waiting;
  };

  const data = connection('data', DATA_TIMEOUT_MS, DATA_TIMEOUT_MS * SLOW_PART);
  const control = connection('control', CONTROL_TIMEOUT_MS, CONTROL_TIMEOUT_MS * SLOW_PART);
  const keys = new RedisKeys(clusterPrefix);
  const numbers = new WriteNumbers(clock);
  const lists = new PartitionLists(data, keys);
  const watch = new ServerWatch(control, clock, conditions, onWarning, target.shown);
  const confirmer = new Confirmer({ connection: data, openWaiting, keys, memberId, watch, conditions });
  const signals = new RedisSignals({
    connection: control,
    createClient: client('signals'),
    channel: keys.signals,
    clock,
    conditions,
    connectTimeoutMs,
    shown: target.shown,
  });

  const close = (): void => {
    tls?.stop();
    watch.stop();
    signals.close();
    for (const each of connections) each.close();
  };
  const replaceClients = async (): Promise<void> => {
    const outcomes = await Promise.allSettled([
      ...connections.map((each) => each.replace()),
      signals.replace(),
    ]);
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') continue;
      const reason = messageOf(outcome.reason);
      onWarning('Redis does not take the new certificate: the old connection stays', { reason });
    }
  };
  try {
    await Promise.all([data.open(), control.open()]);
    await watch.open();
    await signals.open();
  } catch (error) {
    close();
    throw error;
  }
  tls?.watch(replaceClients);

  return {
    log: new RedisLogStore({ connection: data, keys, memberId, numbers, lists, confirmer }),
    cursors: new RedisCursorStore(data, keys, memberId, numbers, lists),
    definitions: new RedisDefinitionStore(control, keys),
    ownership: new RedisOwnershipStore(data, keys, memberId, lists),
    membership: new RedisMembershipStore(control, keys),
    signals,
    durability: {
      get supported() {
        return watch.supported;
      },
      default: 'stored',
      check: (level, replicas) => watch.refusal(level, replicas),
    },
    conditions: () => conditions.advice,
    stats: () => ({
      data: { ...data.stats },
      control: { ...control.stats },
      lostSignals: signals.lost,
      staleWrites: staleWrites.count,
      conditions: conditions.current,
    }),
    async reloadCertificates() {
      if (!(await tls?.reload())) return false;
      await replaceClients();
      return true;
    },
    async close() {
      close();
    },
  };
}
