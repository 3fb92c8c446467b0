// Backlogs as brokers push them, turned into rates. There is one loop for each link, project and pace: fast
// subscriptions are watched by name every second, and their first messages are told at once; slow ones share
// one stream of the whole project.
//
// Invariant: what is held is what a broker said, with the time it arrived; nothing is made up while a broker
// is away.
import { foldBacklog, type RateState } from '../core/autoscale/rates.ts';
import { type Clock, linkedAbort, type Random, sleep } from '../kube/clock.ts';
import type { Logger } from '../kube/logger.ts';
import { type BacklogReport, BrokerCallError } from './admin.ts';
import type { BrokerLink } from './link.ts';

export interface Heard {
  readonly rates: RateState;
  readonly report: BacklogReport;
}

/** Which subscription to watch, where, and how closely. */
export interface Wanted {
  readonly link: BrokerLink;
  readonly project: string;
  /** Full name. */
  readonly subscription: string;
  readonly pace: 'fast' | 'slow';
}

export interface BacklogWatchOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Called with every report of a subscription that is wanted. Must not throw, nor take long. */
  readonly onHeard: (key: string, heard: Heard) => void;
  readonly fastMs?: number;
  readonly slowMs?: number;
}

interface Stream {
  readonly link: BrokerLink;
  readonly project: string;
  readonly pace: 'fast' | 'slow';
  /** The resources' keys by the subscriptions' full names. */
  readonly keys: Map<string, string>;
  readonly abort: AbortController;
  /** Ends the present call, so that the next one has the names of now. */
  reopen: () => void;
}

const FAST_MS = 1_000;
const SLOW_MS = 15_000;
/** Subscriptions come and go in swarms: the stream is opened anew once for all of them. */
const GATHER_MS = 250;
const BACKOFF = { firstMs: 500, mostMs: 5_000 };
/** admin.proto's limit of names in a call. */
const MAX_NAMES = 1_000;

export class BacklogWatch {
  readonly #options: BacklogWatchOptions;
  readonly #streams = new Map<string, Stream>();
  readonly #wanted = new Map<string, Wanted>();
  readonly #heard = new Map<string, Heard>();
  readonly #ids = new Map<BrokerLink, number>();
  #nextId = 0;
  #signal: AbortSignal | undefined;

  constructor(options: BacklogWatchOptions) {
    this.#options = options;
  }

  /** What was heard last. Its receivedAtMs is by the monotonic clock. */
  get(key: string): Heard | undefined {
    return this.#heard.get(key);
  }

  /** Watches the key's subscription from now on; undefined: no more. */
  want(key: string, wanted: Wanted | undefined): void {
    const before = this.#wanted.get(key);
    if (before !== undefined && wanted !== undefined && isSame(before, wanted)) return;
    if (before !== undefined) this.#leave(key, before);
    if (before?.subscription !== wanted?.subscription || before?.link !== wanted?.link)
      this.#heard.delete(key);
    if (wanted === undefined) {
      this.#wanted.delete(key);
      return;
    }
    this.#wanted.set(key, wanted);
    this.#join(key, wanted);
  }

  /** Watches until aborted. Called once; `want` may come before. */
  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal;
    for (const stream of this.#streams.values()) void this.#follow(stream);
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    for (const stream of this.#streams.values()) stream.abort.abort();
  }

  #join(key: string, { link, project, pace, subscription }: Wanted): void {
    const id = this.#streamId(link, project, pace);
    const present = this.#streams.get(id);
    if (present !== undefined) {
      present.keys.set(subscription, key);
      if (pace === 'fast') present.reopen();
      return;
    }
    const keys = new Map([[subscription, key]]);
    const stream: Stream = {
      link,
      project,
      pace,
      keys,
      abort: new AbortController(),
      reopen: () => undefined,
    };
    this.#streams.set(id, stream);
    if (this.#signal !== undefined) void this.#follow(stream);
  }

  #leave(key: string, { link, project, pace, subscription }: Wanted): void {
    const id = this.#streamId(link, project, pace);
    const stream = this.#streams.get(id);
    if (stream?.keys.get(subscription) !== key) return;
    stream.keys.delete(subscription);
    if (stream.keys.size > 0) return;
    stream.abort.abort();
    this.#streams.delete(id);
  }

  async #follow(stream: Stream): Promise<void> {
    const { clock, random, logger } = this.#options;
    const ended = linkedAbort(this.#signal);
    stream.abort.signal.addEventListener('abort', () => ended.abort(undefined), { once: true });
    const gone = (): void => {
      ended.abort(undefined);
      for (const [id, each] of this.#streams) if (each === stream) this.#streams.delete(id);
    };
    if (stream.link.closed.aborted) gone();
    stream.link.closed.addEventListener('abort', gone, { once: true });
    let backoffMs = BACKOFF.firstMs;
    using _ended = ended;
    while (!ended.signal.aborted) {
      using once = linkedAbort(ended.signal);
      let changed = false;
      stream.reopen = () => {
        if (changed) return;
        changed = true;
        clock.setTimer(GATHER_MS, () => once.abort(undefined));
      };
      try {
        await this.#listen(stream, once.signal, () => {
          backoffMs = BACKOFF.firstMs;
        });
      } catch (error) {
        if (ended.signal.aborted) return;
        if (!(error instanceof BrokerCallError)) throw error;
        stream.link.reportAway(error);
        if (!error.isAway) {
          const { label } = stream.link;
          logger.warn(
            { broker: label, project: stream.project, reason: error.message },
            'cannot watch backlogs',
          );
        }
      }
      if (changed) continue;
      await sleep(clock, backoffMs * (0.5 + random()), once.signal);
      backoffMs = Math.min(BACKOFF.mostMs, backoffMs * 2);
    }
  }

  /**
   * Listens until the signal aborts or a call fails. There are several calls where there are more names than
   * one takes.
   */
  async #listen(stream: Stream, signal: AbortSignal, onAnswer: () => void): Promise<void> {
    const { fastMs = FAST_MS, slowMs = SLOW_MS } = this.#options;
    const { link, project, pace, keys } = stream;
    const names = pace === 'fast' ? [...keys.keys()] : [];
    const parts: string[][] = [];
    for (let at = 0; at === 0 || at < names.length; at += MAX_NAMES)
      parts.push(names.slice(at, at + MAX_NAMES));
    using part = linkedAbort(signal);
    const listening = parts.map(async (some) => {
      const intervalMs = pace === 'fast' ? fastMs : slowMs;
      for await (const reports of link.admin.watchBacklog(project, some, intervalMs, part.signal)) {
        onAnswer();
        for (const report of reports) this.#hear(stream, report);
      }
    });
    try {
      await Promise.all(listening);
    } finally {
      part.abort(undefined);
      await Promise.allSettled(listening);
    }
  }

  #hear({ keys }: Stream, report: BacklogReport): void {
    const key = keys.get(report.subscription);
    if (key === undefined) return;
    const { clock, onHeard } = this.#options;
    const rates = foldBacklog(this.#heard.get(key)?.rates, report, clock.monotonicMs());
    const heard = { rates, report };
    this.#heard.set(key, heard);
    onHeard(key, heard);
  }

  #streamId(link: BrokerLink, project: string, pace: string): string {
    let id = this.#ids.get(link);
    if (id === undefined) {
      id = this.#nextId++;
      this.#ids.set(link, id);
      link.closed.addEventListener('abort', () => this.#ids.delete(link), { once: true });
    }
    return `${id} ${project} ${pace}`;
  }
}

function isSame(a: Wanted, b: Wanted): boolean {
  return (
    a.link === b.link && a.project === b.project && a.subscription === b.subscription && a.pace === b.pace
  );
}
