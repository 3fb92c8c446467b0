// Signals as messages on one channel, "kind detail"; the comments of ports/signals.ts are the contract. They
// are heard on a connection of their own, and sent on the one for leases; on a Cluster every node passes them
// on to all others.
import type { Clock } from '../../ports/clock.ts';
import type { SignalKind, Signals } from '../../ports/signals.ts';
import type { Client } from './client.ts';
import type { Conditions } from './conditions.ts';
import { connect, type RedisConnection, withTimeout } from './connection.ts';
import { messageOf } from './redis-errors.ts';

const KINDS: readonly SignalKind[] = ['assignment', 'definitions', 'released'];
const SUBSCRIBE_TIMEOUT_MS = 3_000;
const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 2_000;

interface Listener {
  readonly heard: (kind: SignalKind, detail: string) => void;
  readonly missed: () => void;
}

export interface SignalsOptions {
  readonly connection: RedisConnection;
  readonly createClient: () => Client;
  readonly channel: string;
  readonly clock: Clock;
  readonly conditions: Conditions;
  /** See ConnectionOptions. */
  readonly connectTimeoutMs: number;
  readonly shown: string;
}

export class RedisSignals implements Signals {
  /** Signals that could not be sent. */
  lost = 0;
  readonly #options: SignalsOptions;
  readonly #listeners = new Set<Listener>();
  #client: Client | undefined;
  #closed = false;
  #cancelRetry: () => void = () => {};

  constructor(options: SignalsOptions) {
    this.#options = options;
  }

  /**
   * Begins to hear. Rejects as connect() does, or with the driver's error if it can't subscribe; later
   * failures are dealt with here.
   */
  async open(): Promise<void> {
    await this.#subscribe();
  }

  send(kind: SignalKind, detail: string): void {
    const { connection, channel } = this.#options;
    connection
      .run('publish', (client) => client.publish(channel, `${kind} ${detail}`))
      .catch(() => {
        // Lossy by contract; connection.ts has noted what is wrong.
        this.lost += 1;
      });
  }

  listen(heard: Listener['heard'], missed: Listener['missed']): () => void {
    const listener = { heard, missed };
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Goes on with a new client, for new certificates. */
  async replace(): Promise<void> {
    const old = this.#client;
    await this.#subscribe();
    old?.disconnect();
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry();
    this.#client?.disconnect();
  }

  async #subscribe(): Promise<void> {
    const { createClient, channel, clock } = this.#options;
    const client = createClient();
    client.on('message', (_channel: string, text: string) => this.#hear(text));
    try {
      await connect(client, this.#options);
      await withTimeout(
        clock,
        SUBSCRIBE_TIMEOUT_MS,
        client.subscribe(channel).then(() => undefined),
      );
    } catch (error) {
      client.disconnect();
      throw error;
    }
    if (this.#closed) {
      client.disconnect();
      return;
    }
    this.#client = client;
    this.#watch(client);
    for (const { missed } of this.#listeners) missed();
  }

  /**
   * Replaces a client that has lost its connection. The driver would subscribe again by itself, but on a
   * Cluster without saying when.
   */
  #watch(client: Client): void {
    const lost = (): void => {
      if (client !== this.#client || this.#closed) return;
      this.#client = undefined;
      client.disconnect();
      this.#retry(FIRST_RETRY_MS);
    };
    client.on('close', lost);
    client.on('-subscriber', lost);
  }

  #retry(delayMs: number): void {
    const { clock, conditions } = this.#options;
    this.#cancelRetry = clock.setTimer(delayMs, () => {
      if (this.#closed) return;
      this.#subscribe().catch((error: unknown) => {
        conditions.begins('unreachable', messageOf(error));
        if (!this.#closed) this.#retry(Math.min(delayMs * 2, MAX_RETRY_MS));
      });
    });
  }

  #hear(text: string): void {
    const space = text.indexOf(' ');
    const kind = KINDS.find((known) => known === text.slice(0, space));
    // It may be a kind that only newer brokers know.
    if (kind === undefined) return;
    for (const { heard } of [...this.#listeners]) heard(kind, text.slice(space + 1));
  }
}
