// The clients' process (test/clients/go/chaos): takes commands, and its journal goes, line by line, to the
// file, to the judge and to whoever waits for a line.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { setUpForeignClient } from '../support/foreign-clients.ts';
import type { JournalEvent, Note } from './events.ts';
import type { Judge } from './judge.ts';

/** Where a client connects. */
export interface Door {
  readonly addresses: readonly string[];
  /** Paths of PEM files. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
}

export interface PublisherOrder {
  readonly topic: string;
  /** How many ordering keys it uses; no other publisher uses them. */
  readonly keys: number;
  /** Requests a second, of 1 to 10 messages each. */
  readonly perSecond: number;
  /** Most bytes of a message; a few messages are larger. */
  readonly bytes: number;
}

export interface ConsumerOrder {
  readonly subscription: string;
  /** It receives by Pull and Acknowledge instead of a stream. */
  readonly pulls?: boolean;
  /** The share of the messages that it nacks. */
  readonly nacks?: number;
}

const STOP_TIMEOUT_MS = 30_000;
const MAX_SEED = 2 ** 32;

export async function startClients(
  journalFile: string,
  judge: Judge,
  random: () => number,
): Promise<ChaosClients> {
  const { command } = await setUpForeignClient('go');
  const child = spawn(join(dirname(command), 'chaosclient'), { stdio: ['pipe', 'pipe', 'pipe'] });
  return new ChaosClients(child, createWriteStream(journalFile), judge, random);
}

export class ChaosClients implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #journal: WriteStream;
  readonly #random: () => number;
  readonly #listeners = new Set<(event: JournalEvent) => void>();
  readonly #ended: Promise<void>;
  #stderr = '';
  #isClosing = false;
  #failure: Error | undefined;

  constructor(
    child: ChildProcessWithoutNullStreams,
    journal: WriteStream,
    judge: Judge,
    random: () => number,
  ) {
    this.#child = child;
    this.#journal = journal;
    this.#random = random;
    const lines = createInterface({ input: child.stdout });
    lines.on('line', (line) => {
      this.#journal.write(`${line}\n`);
      const event = JSON.parse(line) as JournalEvent;
      judge.hear(event);
      for (const hear of [...this.#listeners]) hear(event);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    child.stdin.on('error', () => {}); // The end of the process says more.
    this.#ended = new Promise((resolve) => {
      child.once('close', (code, signal) => {
        if (!this.#isClosing)
          this.#failure = new Error(`the clients ended (${signal ?? code}): ${this.#stderr}`);
        resolve();
      });
    });
  }

  /** Why the process ended by itself. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  publish(name: string, door: Door, order: PublisherOrder): void {
    const topic = `projects/default/topics/${order.topic}`;
    this.#say({ do: 'publish', name, ...this.#reaching(door), ...order, topic });
  }

  consume(name: string, door: Door, order: ConsumerOrder): void {
    const subscription = `projects/default/subscriptions/${order.subscription}`;
    this.#say({ do: 'consume', name, ...this.#reaching(door), ...order, subscription });
  }

  /**
   * Resolves when the client has stopped: a publisher with the request that is under way, answered or not.
   */
  async stop(name: string): Promise<void> {
    const stopped = this.next((event) => event.ev === 'stopped' && (event.p ?? event.c) === name);
    this.#say({ do: 'stop', name });
    await stopped;
  }

  /** Writes a note into the journal; resolves when it is there, with its time in the journal. */
  async note(event: Note): Promise<number> {
    const written = this.next((heard) => heard.ev === event.ev);
    this.#say({ do: 'note', event });
    return (await written).t;
  }

  /** Resolves with the next line of the journal that `wanted` accepts. */
  next(wanted: (event: JournalEvent) => boolean, timeoutMs = STOP_TIMEOUT_MS): Promise<JournalEvent> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(hear);
      };
      const hear = (event: JournalEvent): void => {
        if (!wanted(event)) return;
        finish();
        resolve(event);
      };
      const timer = setTimeout(() => {
        finish();
        reject(
          this.#failure ?? new Error(`waited ${timeoutMs} ms in vain for a line of the journal: ${wanted}`),
        );
      }, timeoutMs);
      this.#listeners.add(hear);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
    this.#journal.end();
    await finished(this.#journal);
  }

  #reaching({ addresses, tls }: Door): object {
    return { addresses, ...tls, seed: Math.floor(this.#random() * MAX_SEED) };
  }

  #say(command: object): void {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
  }
}
