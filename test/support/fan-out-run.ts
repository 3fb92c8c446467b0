// One run of a fan-out: a broker, a publisher process, subscriber processes of several subscriptions, and the
// faults on the way. It leaves histories in files, which it reads back for the checker.
//
// Nothing here waits for time to pass: faults come when so much was acknowledged, and what follows them when
// the broker's backlog says so.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Backlog } from '../../services/client/admin-types.ts';
import type { Client } from '../../services/client/client.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';
import { type BrokerProcess, startBroker } from './broker.ts';
import type { FanOutPublisherOptions, PublishLimit, PublishProgress } from './fan-out-publisher.ts';
import type { FanOutSubscriberOptions } from './fan-out-subscriber.ts';
import type { Faults, SubscriptionHistory } from './history-checker.ts';
import { monotonicMs, type PublisherHistory, readPublisherLog, readSubscriberLog } from './history-log.ts';

export interface SubscriptionPlan {
  readonly name: string;
  readonly ordering: boolean;
  readonly consumers: number;
  readonly mode: FanOutSubscriberOptions['mode'];
  readonly ackDeadlineSeconds: number;
}

export interface RunOptions {
  /** The folder for data, histories and logs: a new one. */
  readonly dir: string;
  readonly inputFile: string;
  readonly partitions: number;
  readonly subscriptions: readonly SubscriptionPlan[];
  readonly batch: FanOutPublisherOptions['batch'];
  readonly maxOutstandingMessages: number;
}

export interface RunResult {
  readonly publisher: PublisherHistory;
  readonly subscriptions: readonly SubscriptionHistory[];
  readonly faults: Faults;
}

const TOPIC = 'packages';
const WAIT_TIMEOUT_MS = 60_000;
const BACKLOG_INTERVAL_MS = 100;
/**
 * Now and then Node does not notice that a peer was killed while it was writing to it (TLS under HTTP/2).
 * Then only a ping without an answer tells; with the client's usual keepalive that takes up to 40 s, which
 * would be most of the run.
 */
const KEEPALIVE_MS = 2_000;

export class FanOutRun implements AsyncDisposable {
  readonly #options: RunOptions;
  readonly #faults = {
    brokerKillsMs: [] as number[],
    consumerKills: [] as { consumer: string; atMs: number }[],
    freezes: [] as { consumer: string; fromMs: number; toMs: number }[],
  };
  readonly #consumers = new Map<string, { readonly plan: SubscriptionPlan; readonly child: Child }>();
  /** All consumers, those that were killed included. */
  readonly #consumerNames: { readonly plan: SubscriptionPlan; readonly name: string }[] = [];
  #broker: BrokerProcess;
  readonly #client: Client;
  #publisher: Child | undefined;
  #told = 0;
  #onProgress = (): void => {};

  private constructor(options: RunOptions, broker: BrokerProcess) {
    this.#options = options;
    this.#broker = broker;
    this.#client = broker.connect({ keepaliveMs: KEEPALIVE_MS });
    process.once('exit', this.#killAll);
  }

  /** Starts the broker, makes topic and subscriptions, and resolves when all consumers are connected. */
  static async start(options: RunOptions): Promise<FanOutRun> {
    await mkdir(options.dir, { recursive: true });
    const broker = await startBroker({ dataDir: join(options.dir, 'data') });
    const run = new FanOutRun(options, broker);
    const { admin } = run.#client;
    await admin.createTopic(TOPIC, { partitions: options.partitions });
    for (const { name, ordering, ackDeadlineSeconds } of options.subscriptions) {
      await admin.createSubscription(name, { topic: TOPIC, ordering, ackDeadlineSeconds });
    }
    for (const plan of options.subscriptions) {
      for (let nth = 1; nth <= plan.consumers; nth += 1) run.#startConsumer(plan, `${plan.name}/${nth}`);
    }
    const wanted = new Map(options.subscriptions.map(({ name, consumers }) => [name, consumers]));
    await run.#backlogUntil('all consumers to connect', (backlogs) =>
      backlogs.every(({ subscription, consumers }) => consumers === wanted.get(shortName(subscription))),
    );
    return run;
  }

  /** Starts the publisher; it stops before the message with this index. */
  publish(limit: number): void {
    const { dir, inputFile, batch, maxOutstandingMessages } = this.#options;
    const options: FanOutPublisherOptions = {
      connection: this.#connection(),
      topic: TOPIC,
      inputFile,
      historyFile: join(dir, 'publisher.history'),
      batch,
      maxOutstandingMessages,
    };
    const child = new Child('publisher', 'fan-out-publisher.ts', options);
    child.process.on('message', ({ told }: PublishProgress) => {
      this.#told = told;
      this.#onProgress();
    });
    this.#publisher = child;
    this.publishUpTo(limit);
  }

  publishUpTo(limit: number): void {
    this.#publisher!.process.send({ limit } satisfies PublishLimit);
  }

  /** Resolves when the publisher was told of that many messages. */
  async told(messages: number): Promise<void> {
    const reached = new Promise<void>((resolve) => {
      this.#onProgress = () => {
        if (this.#told >= messages) resolve();
      };
      this.#onProgress();
    });
    await within(`${messages} messages to be acknowledged`, Promise.race([reached, this.#publisher!.failed]));
  }

  /** Kills the broker with SIGKILL, and starts a new one on its data and port. */
  async killBroker(): Promise<void> {
    const { address, dataDir } = this.#broker;
    this.#faults.brokerKillsMs.push(monotonicMs());
    await this.#broker.kill();
    this.#broker = await startBroker({ dataDir, listen: address });
  }

  async killConsumer(name: string): Promise<void> {
    const { child } = this.#consumers.get(name)!;
    this.#consumers.delete(name);
    this.#faults.consumerKills.push({ consumer: name, atMs: monotonicMs() });
    await child.kill();
  }

  /** Starts another consumer of the subscription. */
  addConsumer(subscription: string, name: string): void {
    const plan = this.#options.subscriptions.find((candidate) => candidate.name === subscription)!;
    this.#startConsumer(plan, name);
  }

  /**
   * Stops a consumer with SIGSTOP until leases of its subscription have expired and `also` is done; then
   * sends SIGCONT.
   */
  async freezeConsumer(name: string, also: () => Promise<void>): Promise<void> {
    const { child, plan } = this.#consumers.get(name)!;
    const [before] = await this.#client.admin.getBacklog([plan.name]);
    const fromMs = monotonicMs();
    child.process.kill('SIGSTOP');
    await also();
    await this.#backlogUntil(
      `leases of ${name}, which is frozen, to expire`,
      ([backlog]) => backlog!.redeliveredTotal > before!.redeliveredTotal,
      [plan.name],
    );
    const toMs = monotonicMs();
    child.process.kill('SIGCONT');
    this.#faults.freezes.push({ consumer: name, fromMs, toMs });
  }

  /**
   * Waits until all is published and acknowledged by everyone, ends all processes in order, and reads the
   * histories.
   */
  async finish(): Promise<RunResult> {
    await within('the publisher to end', this.#publisher!.succeeded);
    await this.#backlogUntil('all backlogs to be empty', (backlogs) =>
      backlogs.every(({ messages }) => messages === 0),
    );
    for (const { child } of this.#consumers.values()) child.process.kill('SIGTERM');
    for (const { child } of this.#consumers.values()) await within('consumers to end', child.succeeded);
    await this.#client.close();
    const { code } = await this.#broker.stop();
    if (code !== 0) throw new Error(`the broker ended with ${code}`);
    return this.#readHistories();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#publisher?.kill();
    for (const { child } of this.#consumers.values()) await child.kill();
    process.off('exit', this.#killAll);
    await this.#client.close();
    await this.#broker[Symbol.asyncDispose]();
  }

  /** Children notice by themselves that we are gone, but a frozen one would not. */
  readonly #killAll = (): void => {
    for (const { child } of this.#consumers.values()) child.process.kill('SIGKILL');
  };

  #connection(): ConnectOptions {
    const { address, tls } = this.#broker;
    return { address, tls, keepaliveMs: KEEPALIVE_MS };
  }

  #startConsumer(plan: SubscriptionPlan, name: string): void {
    const options: FanOutSubscriberOptions = {
      connection: this.#connection(),
      subscription: plan.name,
      historyFile: this.#historyFile(name),
      mode: plan.mode,
    };
    this.#consumers.set(name, { plan, child: new Child(name, 'fan-out-subscriber.ts', options) });
    this.#consumerNames.push({ plan, name });
  }

  async #backlogUntil(
    what: string,
    isReached: (backlogs: readonly Backlog[]) => boolean,
    subscriptions: readonly string[] = this.#options.subscriptions.map(({ name }) => name),
  ): Promise<void> {
    let last: readonly Backlog[] = [];
    const { admin } = this.#client;
    const signal = AbortSignal.timeout(WAIT_TIMEOUT_MS);
    const watch = admin.watchBacklog({ subscriptions, intervalMs: BACKLOG_INTERVAL_MS, signal });
    for await (const backlogs of watch) {
      for (const { child } of this.#consumers.values()) child.check();
      last = backlogs;
      if (backlogs.length === subscriptions.length && isReached(backlogs)) return;
    }
    throw new Error(`waited ${WAIT_TIMEOUT_MS} ms for ${what}: ${JSON.stringify(last)}`);
  }

  #readHistories(): RunResult {
    const subscriptions = this.#options.subscriptions.map((plan) => {
      const events = this.#consumerNames
        .filter((consumer) => consumer.plan === plan)
        .flatMap(({ name }) => readSubscriberLog(this.#historyFile(name), name));
      events.sort((a, b) => a.atMs - b.atMs);
      const { name: subscription, ordering, ackDeadlineSeconds } = plan;
      return { subscription, ordering, ackDeadlineMs: ackDeadlineSeconds * 1000, events };
    });
    const publisher = readPublisherLog(join(this.#options.dir, 'publisher.history'));
    return { publisher, subscriptions, faults: this.#faults };
  }

  #historyFile(consumer: string): string {
    return join(this.#options.dir, `${consumer.replace('/', '-')}.history`);
  }
}

/** A process of the test's own. Its standard error is shown when it fails. */
class Child {
  readonly process: ChildProcess;
  /** Resolves when it has ended with code 0, rejects when it ended otherwise. */
  readonly succeeded: Promise<void>;
  /** Rejects when it ended otherwise than with code 0; never resolves. */
  readonly failed: Promise<never>;
  #failure: Error | undefined;
  #stderr = '';

  constructor(name: string, program: string, options: object) {
    this.process = spawn(process.execPath, [join(import.meta.dirname, program), JSON.stringify(options)], {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    this.process.stderr!.on('data', (bytes: Buffer) => {
      this.#stderr = (this.#stderr + bytes).slice(-10_000);
    });
    this.succeeded = new Promise((resolve, reject) => {
      this.process.once('close', (code, signal) => {
        if (code === 0) return resolve();
        this.#failure = new Error(`${name} ended with ${code ?? signal}:\n${this.#stderr}`);
        reject(this.#failure);
      });
    });
    this.failed = this.succeeded.then(() => new Promise<never>(() => {}));
    // The rejection is for whoever asks: a child may also be killed on purpose.
    this.failed.catch(() => {});
  }

  /** Throws if it ended with a failure. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.process.once('close', resolve));
    this.process.kill('SIGKILL');
    await gone;
  }
}

async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`waited ${WAIT_TIMEOUT_MS} ms for ${what}`)),
    WAIT_TIMEOUT_MS,
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function shortName(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}
