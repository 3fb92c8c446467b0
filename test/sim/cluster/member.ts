// One broker of a simulated cluster, from its start to its stop or death: the real engine and all that makes
// it a member (engine/cluster-member.ts), on a clock and a connection of its own. Alone it is put together as
// on the embedded store: no membership, no links, and its partitions are all there are.
//
// kill(): nothing of it runs any more; what it had asked of the store may still arrive there. pause():
// nothing runs until resume(), and then everything that is due, late.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../../services/broker/core/partition.ts';
import { Broker } from '../../../services/broker/engine/broker.ts';
import { ClusterMember } from '../../../services/broker/engine/cluster-member.ts';
import { Definitions } from '../../../services/broker/engine/definitions/definitions.ts';
import type { BacklogReporter } from '../../../services/broker/engine/delivery/backlog-types.ts';
import type { MembershipKeeper } from '../../../services/broker/engine/membership/membership-keeper.ts';
import type { PartitionHost } from '../../../services/broker/engine/partition-host.ts';
import { DEFINITION_LIMITS } from '../../../services/broker/limits.ts';
import type { Clock } from '../../../services/broker/ports/clock.ts';
import type { CursorCommit } from '../../../services/broker/ports/cursor-store.ts';
import type { PeerConnector } from '../../../services/broker/ports/peer.ts';
import type { DeliveryWrite } from '../../../services/broker/ports/telemetry.ts';
import type { ConnectionFaults, MemberClock } from '../../support/memory-cluster.ts';
import type { AcceptLink } from '../../support/memory-peers.ts';
import type { ClusterStores } from '../../support/memory-store.ts';
import { seededRandom } from '../../support/random.ts';
import type { Trace } from '../trace.ts';
import type { Holder } from './delivery-truth.ts';
import { guardedStores } from './guarded-stores.ts';
import type { Sabotage } from './sabotage.ts';
import type { ClusterScenario } from './scenario.ts';
import type { ConsumerStream } from './stream.ts';

export const CLUSTER = 'sim-cluster';

export type LastSink =
  | {
      readonly kind: 'stream';
      readonly frames: Uint8Array;
      readonly holder: Holder;
      readonly stream: ConsumerStream;
    }
  /** `isOver`: its stream had ended, and the owner had not heard of that. */
  | { readonly kind: 'link'; readonly holder: Holder; readonly isOver: boolean };

/** A process's clock and the store as it sees it. */
export interface StoreConnection {
  readonly clock: MemberClock;
  readonly stores: ClusterStores;
  /** Undefined: the store is in the process itself. */
  readonly faults: ConnectionFaults | undefined;
  /** Writes under way, even after the end of the process, that no claim fences off. */
  unfencedCalls(): number;
}

export interface MemberOptions {
  readonly id: string;
  readonly name: string;
  readonly scenario: ClusterScenario;
  readonly connection: StoreConnection;
  readonly skewMs: number;
  readonly connector: (clock: Clock) => PeerConnector;
  readonly listen: (address: string, clock: Clock, accept: AcceptLink) => void;
  readonly trace: Trace;
  readonly sabotage: Sabotage;
  /** A commit begins; returns what to call when it has an answer. */
  readonly onCommit: (commits: readonly CursorCommit[]) => () => void;
  /** A sink has taken a delivery. */
  readonly onDelivered: (member: Member, write: DeliveryWrite) => void;
  /** The member has lost its lease. */
  readonly onFenced: (member: Member) => void;
  /** The member sends its clients to others, or takes clients again. */
  readonly onCutOff: (isCutOff: boolean) => void;
  readonly onAbandoned: (member: Member, id: PartitionId) => void;
  /** An error that nobody may ever see. */
  readonly onBug: (error: unknown) => void;
}

const LEASE_MS = 2_000;
const EMBEDDED_LEVELS = { supported: ['memory', 'stored', 'fsync'], default: 'fsync' } as const;
const REDIS_LEVELS = { supported: ['stored', 'memory'], default: 'stored' } as const;
/** Retention that a simulation sees the end of. */
const SMALL = { ...DEFINITION_LIMITS, minRetentionMs: 1_000, minRetentionBytes: 1_000 };
const CIRCLE = 20_000;

export class Member {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly clock: Clock;
  readonly broker: Broker;
  readonly definitions: Definitions;
  readonly backlog: BacklogReporter;
  /** Undefined: the broker is alone. */
  readonly membership: MembershipKeeper | undefined;
  readonly connection: StoreConnection;
  /** The member's losses: its links that broke, its pauses and its death. */
  readonly losses = { count: 0 };
  /** The consumer that was given something last, as far as this process has seen it. */
  lastSink: LastSink | undefined;
  /** What its broker draws next; undefined: what the random numbers give. */
  draws: number | undefined;
  skewMs: number;
  state: 'starting' | 'ready' | 'stopping' | 'over' = 'starting';
  paused = false;
  /** The member sends its clients to other members. */
  isCutOff = false;
  /** When the member last abandoned a partition. */
  abandonedMs = Number.NEGATIVE_INFINITY;
  readonly #options: MemberOptions;
  readonly #cluster: ClusterMember | undefined;
  readonly #endListeners = new Set<() => void>();
  #instantMs = 0;
  #inInstant = 0;

  constructor(options: MemberOptions) {
    const { id, scenario, connection, trace, sabotage } = options;
    this.#options = options;
    this.id = id;
    this.name = options.name;
    this.address = `${this.name}:7443`;
    this.skewMs = options.skewMs;
    this.connection = connection;
    const clock = this.#clock();
    this.clock = clock;
    const seen = sabotage.stores?.(id, connection.stores) ?? connection.stores;
    const stores = guardedStores(
      scenario.alone ? this.#withCommitsWatched(seen) : seen,
      () => this.#meter(),
      options.onBug,
    );
    const say = (fields: object, message: string): void => {
      if (trace.on) trace.say(id, `${message} ${JSON.stringify(fields)}`);
    };
    const logger = { info: say, warn: say, error: say };
    const random = seededRandom(scenario.seed);
    this.definitions = new Definitions({
      store: stores.definitions,
      clock,
      durability: scenario.alone ? EMBEDDED_LEVELS : REDIS_LEVELS,
      limits: SMALL,
      currentEnds: (topic) => this.broker.currentEnds(topic),
      audit: ({ verb, resource, result }) => say({ verb, resource, result }, 'audit'),
      onWarning: (message, fields) => {
        const reason = 'error' in fields && fields.error instanceof Error ? fields.error.message : undefined;
        say({ ...fields, error: reason }, message);
      },
      ...(!scenario.alone && {
        onWritten: (kind, written) => stores.signals.send('definitions', `${kind} ${written}`),
      }),
    });
    this.broker = new Broker({
      ...stores,
      definitions: this.definitions,
      clock,
      random: () => {
        const { draws = random() } = this;
        this.draws = undefined;
        return draws;
      },
      limits: scenario.limits,
      logger,
      tracing: { publishing: () => undefined, delivered: (write) => options.onDelivered(this, write) },
      maxPullBytes: scenario.maxPullBytes,
      maxConsumersPerSubscription: 100,
      ...(!scenario.alone && {
        mayServe: () => this.membership!.holds,
        checkStore: async () => {
          if ((await stores.membership.identity()) !== CLUSTER)
            throw new BrokerError('UNAVAILABLE', 'the store holds another cluster');
        },
      }),
    });
    sabotage.broker?.(this.broker);
    this.#cluster = scenario.alone ? undefined : this.#join(stores);
    this.backlog = this.#cluster?.backlog ?? this.broker.backlog;
    this.membership = this.#cluster?.membership;
    if (this.membership === undefined) return;
    this.membership.listen({ changed: () => {}, fenced: () => options.onFenced(this) });
    sabotage.membership?.(this.membership);
  }

  get alive(): boolean {
    return this.state !== 'over';
  }

  /**
   * Rejects with a BrokerError if the store doesn't let it; stays pending if the member is killed meanwhile.
   */
  async start(): Promise<void> {
    await this.definitions.load();
    const cluster = this.#cluster;
    if (cluster === undefined) await this.broker.start();
    else {
      this.#options.listen(this.address, this.clock, (link, relay) => cluster.accept(link, relay));
      await cluster.start();
    }
    this.state = 'ready';
  }

  /** Stops it in order; stays pending if the member is killed meanwhile. */
  async stop(handOverMs: number): Promise<void> {
    this.state = 'stopping';
    await this.#cluster?.handOver(handOverMs);
    await this.broker.stop();
    await this.#cluster?.stop();
  }

  /**
   * Runs `fn` as something that arrives at this process from outside: at once, or when it goes on; not at
   * all if it has ended.
   */
  enter(fn: () => void): void {
    const { clock } = this.connection;
    if (clock.running) fn();
    else clock.defer(fn);
  }

  pause(suspended = false): void {
    this.paused = true;
    this.losses.count += 1;
    this.connection.clock.pause(suspended);
  }

  resume(): void {
    this.paused = false;
    this.connection.clock.resume();
  }

  /** Ends its process at once. Idempotent. */
  kill(): void {
    if (!this.alive) return;
    this.state = 'over';
    this.losses.count += 1;
    this.connection.clock.kill();
    for (const listener of [...this.#endListeners]) listener();
    this.#endListeners.clear();
  }

  /** Calls the listener when the process ends. Returns a function that removes it. */
  onEnd(listener: () => void): () => void {
    this.#endListeners.add(listener);
    return () => this.#endListeners.delete(listener);
  }

  #withCommitsWatched(stores: ClusterStores): ClusterStores {
    const { cursors } = stores;
    return {
      ...stores,
      cursors: {
        load: (subscription, partition) => cursors.load(subscription, partition),
        drop: (subscription) => cursors.drop(subscription),
        commit: async (commits) => {
          const ended = this.#options.onCommit(commits);
          try {
            return await cursors.commit(commits);
          } finally {
            ended();
          }
        },
      },
    };
  }

  #join(stores: ClusterStores): ClusterMember {
    const { scenario, connector, onCutOff } = this.#options;
    const { id, name, clock } = this;
    return new ClusterMember({
      stores,
      connector: connector(clock),
      clock,
      broker: this.broker,
      definitions: this.definitions,
      host: this.#host(),
      identity: CLUSTER,
      self: { id, name, version: 'sim', address: () => this.address },
      leaseMs: LEASE_MS,
      handOverMs: scenario.handOverMs,
      maxConsumersPerSubscription: 100,
      onCutOff: (isCutOff) => {
        this.isCutOff = isCutOff;
        onCutOff(isCutOff);
      },
    });
  }

  #host(): PartitionHost {
    const { partitions } = this.broker;
    const { sabotage, trace, id: memberId } = this.#options;
    const say = (what: string): void => {
      if (trace.on) trace.say(memberId, what);
    };
    return {
      own: (id, claim) => {
        say(`opens ${formatPartitionId(id)} under epoch ${claim.ownerEpoch}`);
        return partitions.own(id, sabotage.claim?.(claim) ?? claim);
      },
      handOver: async (id) => {
        say(`hands over ${formatPartitionId(id)}`);
        sabotage.handOverBegins?.(memberId);
        try {
          return await partitions.handOver(id);
        } finally {
          sabotage.handOverEnds?.(memberId);
        }
      },
      abandon: (id, reason) => {
        this.#options.onAbandoned(this, id);
        partitions.abandon(id, reason);
      },
      onStale: (listener) => partitions.onStale(listener),
      knows: (id) => partitions.knows(id),
      onTopics: (listener) => partitions.onTopics(listener),
    };
  }

  #clock(): Clock {
    const { clock } = this.#options.connection;
    return {
      nowMs: () => Math.floor(clock.nowMs() + this.skewMs),
      monotonicMs: () => clock.monotonicMs(),
      setTimer: (delayMs, fn) => clock.setTimer(delayMs, fn),
      defer: (fn) => {
        this.#meter();
        clock.defer(fn);
      },
    };
  }

  #meter(): void {
    const nowMs = this.#options.connection.clock.monotonicMs();
    if (nowMs !== this.#instantMs) {
      this.#instantMs = nowMs;
      this.#inInstant = 0;
    }
    this.#inInstant += 1;
    if (this.#inInstant === CIRCLE) this.#options.onBug(new Error(`${this.id} runs in a circle`));
  }
}
