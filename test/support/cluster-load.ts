// Load with ordering keys on a cluster, and what became of each message: for tests that kill, pause and
// restart brokers.
//
// One publisher and several subscriptions with ordering, one consumer each, in this process, all as clients
// of any broker. `finish` has what was seen judged (history-checker.ts), and counts what was delivered again;
// `resumed` tells how long after a moment each partition delivered something that was published later.
import type { Client } from '../../services/client/client.ts';
import type { Publisher } from '../../services/client/publisher.ts';
import type { Subscription } from '../../services/client/subscription.ts';
import { checkHistory, type PublishedMessage, type SubscriberEvent } from './history-checker.ts';

export interface ClusterLoadOptions {
  readonly topic: string;
  readonly partitions: number;
  /** How many partitions the topic will have in the end; default: as many as it begins with. */
  readonly growsTo?: number;
  readonly subscriptions: number;
  readonly keys: number;
  /** Messages a second. */
  readonly rate: number;
  /**
   * One more subscription, not read before finish(): it finds what the store has, not what has just passed
   * by.
   */
  readonly late?: boolean;
}

/** What one subscription has seen. */
interface Seen {
  readonly events: SubscriberEvent[];
  /** Ids of what it was handed, and acknowledged at once. */
  readonly ids: Set<string>;
  /** The payloads of these: a message that was sent again may have several ids. */
  readonly payloads: Set<string>;
  redelivered: number;
}

const ACK_DEADLINE_SECONDS = 60;

/** A delivery, as far as gaps are concerned. */
interface Arrival {
  readonly atMs: number;
  readonly publishedMs: number;
}

export interface LoadReport {
  readonly published: number;
  readonly deliveries: number;
  /** Messages, acknowledged to the publisher, that a subscription has not had. */
  readonly lost: number;
  readonly redelivered: number;
  readonly clientErrors: number;
  /** What the judge has found, and what clients were told. */
  readonly faults: readonly string[];
}

export class ClusterLoad implements AsyncDisposable {
  readonly #client: Client;
  readonly #options: ClusterLoadOptions;
  readonly #publisher: Publisher;
  readonly #subscriptions: Subscription[] = [];
  readonly #seen: Seen[] = [];
  /** Arrivals by subscription and partition, in their order. */
  readonly #arrivals: Arrival[][][] = [];
  /** In the order of publishing. */
  readonly #messages: { -readonly [K in keyof PublishedMessage]: PublishedMessage[K] }[] = [];
  readonly #publishing = new Set<Promise<void>>();
  readonly #readers: Promise<void>[] = [];
  readonly errors: string[] = [];
  #count = 0;
  #stopping = false;
  #pump: Promise<void> | undefined;
  readonly #abort = new AbortController();

  constructor(client: Client, options: ClusterLoadOptions) {
    this.#client = client;
    this.#options = options;
    this.#publisher = client.publisher(options.topic, {
      retryDeadlineMs: 120_000,
      signal: this.#abort.signal,
    });
  }

  /** Creates the topic and the subscriptions, begins to publish and to consume. */
  async start(): Promise<void> {
    const { topic, partitions, growsTo = partitions, subscriptions, late = false } = this.#options;
    await this.#client.admin.createTopic(topic, { partitions });
    for (let i = 0; i < subscriptions + (late ? 1 : 0); i += 1) {
      await this.#client.admin.createSubscription(`${topic}-${i}`, {
        topic,
        ordering: true,
        ackDeadlineSeconds: ACK_DEADLINE_SECONDS,
      });
      this.#seen.push({ events: [], ids: new Set(), payloads: new Set(), redelivered: 0 });
      this.#arrivals.push(Array.from({ length: growsTo }, () => []));
      if (i < subscriptions) this.#subscribe(i);
    }
    this.#pump = this.#publishAtRate();
  }

  /** After finish() nothing is left to do; before it a test has failed, and nothing is waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true;
    this.#abort.abort();
    await this.#pump;
    await Promise.all(this.#readers);
  }

  get published(): number {
    return this.#count;
  }

  /**
   * Resolves when every subscription has had, from every given partition, a message published after that
   * moment; with how long that took, in ms, by partition.
   */
  async resumed(
    partitions: readonly number[],
    sinceMs: number,
    timeoutMs: number,
  ): Promise<Map<number, number>> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const gaps = new Map<number, number>();
      for (const partition of partitions) {
        const firsts = this.#arrivals
          .slice(0, this.#options.subscriptions)
          .map(
            (byPartition) => byPartition[partition]!.find(({ publishedMs }) => publishedMs > sinceMs)?.atMs,
          );
        if (firsts.some((atMs) => atMs === undefined)) continue;
        gaps.set(partition, Math.max(...firsts.map((atMs) => atMs! - sinceMs)));
      }
      if (gaps.size === partitions.length) return gaps;
      if (performance.now() > deadlineMs) {
        const missing = partitions.filter((partition) => !gaps.has(partition));
        throw new Error(`partitions ${missing.join(', ')} did not resume within ${timeoutMs} ms`);
      }
      // Arrivals have no event of their own here, so they are polled for.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /**
   * The longest time between two deliveries of each partition, over all subscriptions, between two moments.
   */
  longestGaps(fromMs: number, toMs: number): Map<number, number> {
    const gaps = new Map<number, number>();
    for (const byPartition of this.#arrivals) {
      byPartition.forEach((arrivals, partition) => {
        let lastMs = fromMs;
        let longest = 0;
        for (const { atMs } of arrivals) {
          if (atMs < fromMs || atMs > toMs) continue;
          longest = Math.max(longest, atMs - lastMs);
          lastMs = atMs;
        }
        gaps.set(partition, Math.max(gaps.get(partition) ?? 0, longest));
      });
    }
    return gaps;
  }

  /**
   * Stops publishing, waits until everything has arrived (or timeoutMs have passed), and says what became of
   * it.
   */
  async finish(timeoutMs: number): Promise<LoadReport> {
    this.#stopping = true;
    await this.#pump;
    await Promise.all(this.#publishing);
    if (this.#options.late) this.#subscribe(this.#options.subscriptions);
    const deadlineMs = performance.now() + timeoutMs;
    while (this.#missing() > 0 && performance.now() < deadlineMs)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const lost = this.#missing();
    await this.#publisher.close();
    for (const subscription of this.#subscriptions) await subscription.close();
    await Promise.all(this.#readers);
    const { topic, partitions, growsTo = partitions } = this.#options;
    const { problems } = checkHistory({
      published: this.#messages,
      subscriptions: this.#seen.map(({ events }, i) => ({
        ...{ subscription: `${topic}-${i}`, ordering: true, ackDeadlineMs: ACK_DEADLINE_SECONDS * 1000 },
        events,
      })),
      faults: undefined,
      grew: growsTo > partitions,
    });
    return {
      published: this.#count,
      deliveries: this.#arrivals.flat().reduce((total, { length }) => total + length, 0),
      lost,
      redelivered: this.#seen.reduce((total, { redelivered }) => total + redelivered, 0),
      clientErrors: this.errors.length,
      faults: [...problems, ...this.errors].slice(0, 10),
    };
  }

  /** How many acknowledged publishes subscriptions have not had. */
  #missing(): number {
    let missing = 0;
    for (const { toldId } of this.#messages)
      for (const { ids } of this.#seen) if (toldId !== undefined && !ids.has(toldId)) missing += 1;
    return missing;
  }

  async #publishAtRate(): Promise<void> {
    const { rate, keys } = this.#options;
    const startMs = performance.now();
    const next = new Map<string, number>();
    for (let sent = 0; !this.#stopping; ) {
      const due = Math.floor(((performance.now() - startMs) * rate) / 1000);
      for (; sent < due; sent += 1) {
        const key = `key-${sent % keys}`;
        const n = next.get(key) ?? 0;
        next.set(key, n + 1);
        this.#publish(key, n);
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  #publish(key: string, n: number): void {
    const data = JSON.stringify([n, performance.now()]);
    // Whether it is sent again is the client's business.
    const sent = {
      key,
      fingerprint: `${key} ${data}`,
      toldId: undefined as string | undefined,
      retried: true,
    };
    this.#messages.push(sent);
    const done: Promise<void> = this.#publisher
      .publish({ data, orderingKey: key })
      .then(
        ({ messageId }) => {
          this.#count += 1;
          sent.toldId = messageId;
        },
        (error: unknown) => void this.errors.push(`publish: ${error}`),
      )
      .finally(() => this.#publishing.delete(done));
    this.#publishing.add(done);
  }

  #subscribe(i: number): void {
    const subscription = this.#client.subscribe(`${this.#options.topic}-${i}`, {
      clientId: `consumer-${i}`,
      signal: this.#abort.signal,
    });
    this.#subscriptions.push(subscription);
    this.#readers.push(this.#read(i, subscription));
  }

  async #read(index: number, subscription: Subscription): Promise<void> {
    const seen = this.#seen[index]!;
    try {
      for await (const message of subscription) {
        const [, publishedMs] = JSON.parse(message.data.toString()) as [number, number];
        const atMs = performance.now();
        this.#arrivals[index]![message.partition]!.push({ atMs, publishedMs });
        const { messageId, orderingKey: key } = message;
        const consumer = `consumer-${index}`;
        const fingerprint = `${key} ${message.data}`;
        if (seen.payloads.has(fingerprint)) seen.redelivered += 1;
        seen.payloads.add(fingerprint);
        seen.ids.add(messageId);
        const what = { atMs, consumer, messageId };
        seen.events.push(
          { kind: 'handed', ...what, stream: 1, attempt: message.deliveryAttempt, fingerprint, key },
          { kind: 'acked', ...what },
        );
        message.ack();
      }
    } catch (error) {
      this.errors.push(`subscription ${index}: ${error}`);
    }
  }
}

/** "p50 800 ms, p90 1900 ms, max 2400 ms (31 values)" */
export function distribution(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): string =>
    `${Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0)} ms`;
  return `p50 ${at(0.5)}, p90 ${at(0.9)}, max ${at(1)} (${sorted.length} values)`;
}
