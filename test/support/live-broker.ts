// A broker in this process: the real engine and services over the memory store, on real connections without
// TLS. Its monotonic clock can be moved on, so that leases run out that the client believes to last.
import { ServerCredentials } from '@grpc/grpc-js';
import { adminService } from '../../services/broker/adapters/grpc/admin.ts';
import { authorizeAll, Identity } from '../../services/broker/adapters/grpc/identity.ts';
import { Outboxes } from '../../services/broker/adapters/grpc/outboxes.ts';
import { publisherService } from '../../services/broker/adapters/grpc/publisher.ts';
import { routingService } from '../../services/broker/adapters/grpc/routing.ts';
import { RpcBorder } from '../../services/broker/adapters/grpc/rpc.ts';
import { GrpcServer } from '../../services/broker/adapters/grpc/server.ts';
import { subscriberService } from '../../services/broker/adapters/grpc/subscriber.ts';
import { WatchSlots } from '../../services/broker/adapters/grpc/watch.ts';
import { nodeClock } from '../../services/broker/adapters/node/clock.ts';
import { NOTHING_DRAINS } from '../../services/broker/core/draining.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { Broker } from '../../services/broker/engine/broker.ts';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import { soleRoutes } from '../../services/broker/engine/membership/routes.ts';
import {
  engineLimits,
  OUTBOX_LIMITS,
  PUBLISH_LIMITS,
  SUBSCRIBE_LIMITS,
  WATCH_LIMITS,
} from '../../services/broker/limits.ts';
import type { Clock } from '../../services/broker/ports/clock.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';
import { createMemoryStore, type Stores } from './memory-store.ts';

class MovedClock implements Clock {
  #aheadMs = 0;

  nowMs(): number {
    return nodeClock.nowMs();
  }

  monotonicMs(): number {
    return nodeClock.monotonicMs() + this.#aheadMs;
  }

  setTimer(delayMs: number, fn: () => void): () => void {
    return nodeClock.setTimer(delayMs, fn);
  }

  defer(fn: () => void): void {
    nodeClock.defer(fn);
  }

  moveOn(byMs: number): void {
    this.#aheadMs += byMs;
  }
}

interface Parts {
  readonly address: string;
  readonly broker: Broker;
  readonly definitions: Definitions;
  readonly server: GrpcServer;
  readonly clock: MovedClock;
  readonly unexpected: unknown[];
  readonly keeping: { leases: boolean };
}

export class LiveBroker implements AsyncDisposable {
  readonly address: string;
  readonly broker: Broker;
  readonly definitions: Definitions;
  /** Errors that the engine and the services did not expect. */
  readonly unexpected: unknown[];
  readonly #server: GrpcServer;
  readonly #clock: MovedClock;
  readonly #keeping: { leases: boolean };

  private constructor(parts: Parts) {
    this.address = parts.address;
    this.broker = parts.broker;
    this.definitions = parts.definitions;
    this.unexpected = parts.unexpected;
    this.#server = parts.server;
    this.#clock = parts.clock;
    this.#keeping = parts.keeping;
  }

  static async start(): Promise<LiveBroker> {
    const clock = new MovedClock();
    const stores: Stores = createMemoryStore();
    const unexpected: unknown[] = [];
    const say = (): void => {};
    const definitions: Definitions = new Definitions({
      store: stores.definitions,
      clock,
      durability: { supported: ['memory', 'stored', 'fsync'], default: 'fsync' },
      currentEnds: (topic) => broker.currentEnds(topic),
      audit: say,
      onWarning: say,
    });
    await definitions.load();
    const broker = new Broker({
      ...stores,
      definitions,
      clock,
      random: Math.random,
      limits: engineLimits(64 * 1024 * 1024),
      logger: { info: say, warn: say, error: (fields) => unexpected.push(fields) },
      maxPullBytes: 3 * 1024 * 1024,
      maxConsumersPerSubscription: 200,
    });
    await broker.start();
    const keeping = { leases: false };
    const border = new RpcBorder({
      identity: new Identity({ plaintext: true }),
      clock,
      random: Math.random,
      maxStreamAgeMs: 3_600_000,
      onUnexpected: (error) => unexpected.push(error),
    });
    const routes = soleRoutes({
      selfId: 'alone',
      name: () => 'alone',
      address: () => live.advertised,
      ownerEpochOf: (partition) => broker.ownerEpochOf(partition),
    });
    const common = { border, authorize: authorizeAll, definitions, watches: new WatchSlots(WATCH_LIMITS) };
    const server = new GrpcServer({
      border,
      clock,
      keepaliveMs: 60_000,
      credentials: ServerCredentials.createInsecure(),
      services: [
        publisherService({ broker, border, authorize: authorizeAll, limits: PUBLISH_LIMITS }),
        subscriberService({
          broker,
          border,
          authorize: authorizeAll,
          clock,
          outboxes: new Outboxes(OUTBOX_LIMITS),
          leasesOutlive: () => keeping.leases,
          limits: SUBSCRIBE_LIMITS,
        }),
        adminService({
          ...common,
          backlog: broker.backlog,
          draining: { drain: async () => NOTHING_DRAINS },
          storage: { log: stores.log, conditions: () => [] },
          audit: say,
          clock,
        }),
        routingService({ ...common, routes }),
      ],
    });
    const port = await server.bind({ host: '127.0.0.1', port: 0 });
    const live: LiveBroker = new LiveBroker({
      address: `127.0.0.1:${port}`,
      broker,
      definitions,
      server,
      clock,
      unexpected,
      keeping,
    });
    return live;
  }

  /** The address that the routing table says. */
  get advertised(): string {
    return this.address;
  }

  /** Options for connect(). */
  get connectOptions(): ConnectOptions {
    return { address: this.address, insecure: true };
  }

  /** Ends all streams as a broker does that stops, and takes new ones at once. */
  async endStreams({ keepLeases }: { keepLeases: boolean }): Promise<void> {
    this.#keeping.leases = keepLeases;
    await this.#server.sendAway(new BrokerError('UNAVAILABLE', 'told to by the test'));
    await this.#server.sendAway(undefined);
  }

  /** Moves the monotonic clock on; leases whose time is then over end within 100 ms. */
  moveOn(byMs: number): void {
    this.#clock.moveOn(byMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.drain({ timeoutMs: 500, before: () => {}, after: () => this.broker.stop() });
  }
}
