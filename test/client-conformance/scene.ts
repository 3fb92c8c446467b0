// What a scenario plays with: a driver, a broker, proxies before it that can be broken, and a project of its
// own.

import type { SubscriptionSettings } from '../../services/client/admin-types.ts';
import type { Client } from '../../services/client/client.ts';
import { type BrokerProcess, type StartOptions, startBroker } from '../support/broker.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { Consumer } from './consumer.ts';
import { type Driver, OperationFailed, startDriver } from './driver.ts';
import type { DriverCommand } from './drivers.ts';
import type { Operations, Outcome, OutgoingMessage } from './protocol.ts';

export type ConnectOptions = Omit<Partial<Operations['connect']['request']>, 'tls'> & {
  readonly tls?: Operations['connect']['request']['tls'] | 'none';
};
type PublisherRequest = Operations['publisher']['request'];
type ConsumeRequest = Operations['consume']['request'];

let projects = 0;

export class Scene implements AsyncDisposable {
  readonly driver: Driver;
  readonly project: string;
  readonly #shared: BrokerProcess;
  readonly #command: DriverCommand;
  readonly #patienceMs: number | undefined;
  readonly #parts = new AsyncDisposableStack();
  readonly #consumers = new Map<Driver, number>();
  #own: BrokerProcess | undefined;
  #admin: Client | undefined;

  /**
   * All scenarios share the broker `shared`: none may harm it. `patienceMs`: how long to wait for anything.
   */
  static async begin(shared: BrokerProcess, command: DriverCommand, patienceMs?: number): Promise<Scene> {
    return new Scene(shared, command, await startDriver(command, {}, patienceMs), patienceMs);
  }

  private constructor(
    shared: BrokerProcess,
    command: DriverCommand,
    driver: Driver,
    patienceMs: number | undefined,
  ) {
    this.#patienceMs = patienceMs;
    this.#shared = shared;
    this.#command = command;
    this.driver = this.#parts.use(driver);
    projects += 1;
    this.project = `scene-${projects}`;
  }

  get broker(): BrokerProcess {
    return this.#own ?? this.#shared;
  }

  /** The suite's own client, which looks and administers. */
  get admin(): Client['admin'] {
    this.#admin ??= this.broker.connect({ project: this.project });
    return this.#admin.admin;
  }

  /** A further driver process, with that in its environment too. */
  async anotherDriver(env: Readonly<Record<string, string>> = {}): Promise<Driver> {
    return this.#parts.use(await startDriver(this.#command, env, this.#patienceMs));
  }

  /**
   * From here on the scenario's broker is its own: it may be killed, and started again by `restartBroker`.
   */
  async ownBroker(options: StartOptions = {}): Promise<BrokerProcess> {
    this.#own = this.#parts.use(await startBroker(options));
    return this.#own;
  }

  /** Starts the broker again with the same address and data, after it was stopped or killed. */
  async restartBroker(options: StartOptions = {}): Promise<BrokerProcess> {
    const { dataDir, address } = this.broker;
    this.#own = this.#parts.use(await startBroker({ ...options, dataDir, listen: address }));
    return this.#own;
  }

  /** A new proxy before the broker. */
  async proxy(): Promise<FaultProxy> {
    return this.#parts.use(await startFaultProxy(this.broker.address));
  }

  use<Part extends AsyncDisposable>(part: Part): Part {
    return this.#parts.use(part);
  }

  /** A topic "orders", unless told otherwise. */
  async createTopic(partitions = 4, topic = 'orders'): Promise<void> {
    await this.admin.createTopic(topic, { partitions });
  }

  async createSubscription(
    subscription = 'audit',
    settings: SubscriptionSettings & { readonly topic?: string } = {},
  ): Promise<void> {
    await this.admin.createSubscription(subscription, { topic: 'orders', ...settings });
  }

  /** Connects the driver's client "main", to the broker and with its certificates unless told otherwise. */
  async connect(options: ConnectOptions = {}, by = this.driver): Promise<void> {
    const { tls = this.broker.tls, ...given } = options;
    const request = { client: 'main', address: this.broker.address, project: this.project, ...given };
    await by.ask('connect', { ...request, ...(tls !== 'none' && { tls }) });
  }

  async reach(client = 'main', timeoutMs = 10_000): Promise<void> {
    await this.driver.ask('reach', { client, timeoutMs });
  }

  /** A publisher "p" of "main" to "orders", unless told otherwise. */
  async publisher(options: Partial<PublisherRequest> = {}): Promise<void> {
    await this.driver.ask('publisher', { publisher: 'p', client: 'main', topic: 'orders', ...options });
  }

  /** The outcomes of a publish. They need not be awaited at once: their rejection counts as handled. */
  outcomes(messages: readonly OutgoingMessage[], publisher = 'p'): Promise<readonly Outcome[]> {
    return handled(this.driver.ask('publish', { publisher, messages }).then(({ outcomes }) => outcomes));
  }

  /** The ids of a publish of which no message may fail. They need not be awaited at once, either. */
  publish(messages: readonly OutgoingMessage[], publisher = 'p'): Promise<string[]> {
    return handled(this.outcomes(messages, publisher).then((outcomes) => outcomes.map(idOf)));
  }

  /** A consumer of "main", from "audit", in a loop, acking at once, unless told otherwise. */
  async consume(options: Partial<ConsumeRequest> = {}, driver = this.driver): Promise<Consumer> {
    const number = (this.#consumers.get(driver) ?? 0) + 1;
    this.#consumers.set(driver, number);
    const request = { client: 'main', subscription: 'audit', mode: 'loop', ...options } as const;
    const consumer = new Consumer(driver, `c${number}`);
    await driver.ask('consume', { ...request, consumer: consumer.name });
    return consumer;
  }

  /** Waits until the broker's counts of a subscription are as wanted. */
  async untilBacklog(
    what: string,
    wanted: (counts: { messages: number; outstandingMessages: number; consumers: number }) => boolean,
    subscription = 'audit',
    timeoutMs = this.#patienceMs ?? 15_000,
  ): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    let last: unknown;
    const watch = this.admin.watchBacklog({ subscriptions: [subscription], intervalMs: 100, signal });
    for await (const [backlog] of watch) {
      last = backlog;
      if (backlog !== undefined && wanted(backlog)) return;
    }
    throw new Error(`waited ${timeoutMs} ms in vain for ${what}: ${JSON.stringify(last)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync();
    await this.#admin?.close();
  }
}

function idOf(outcome: Outcome): string {
  if ('id' in outcome) return outcome.id;
  throw new OperationFailed(outcome);
}

function handled<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => {});
  return promise;
}
