// Keeps a store equal to one collection of the API server: list, then watch, for ever, whatever happens in
// between. It gives up only when it is stopped.
//
//   state      what happens                                   next
//   listing    all pages came                                 watching
//   watching   frames; the server ends the watch (normal)     watching, from the last version seen
//   watching   410, as a status or an ERROR frame             listing
//   watching   a bookmark older than what we have: the        listing
//              server was restored from a backup
//   watching   silence for idleMs: a quiet collection, or a   watching; no failure, for where nothing changes
//              connection that died without saying so         there are no bookmarks either
//   any        any other error                                waiting, then where it was; after MAX_RESUMES
//                                                             watches in a row that brought nothing, listing
//
// The version that the next watch begins at is taken only from what was stored, so nothing is skipped.
import { type Clock, linkedAbort, type Random, sleep } from './clock.ts';
import { errorFromStatus, isGone, KubeError } from './errors.ts';
import type { KubeHttp, WatchFrame } from './http.ts';
import type { Logger } from './logger.ts';
import type { Counter, Metrics } from './metrics.ts';
import { apiVersionOf, collectionPath, compareVersions, type KubeObject, type Resource } from './objects.ts';
import type { ObjectStore } from './store.ts';

export interface ReflectorOptions<T extends KubeObject> {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly resource: Resource;
  /** Undefined: all namespaces. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly store: ObjectStore<T>;
  /** Applied to each object before it is stored: to drop what nobody reads. */
  readonly transform?: ((object: T) => T) | undefined;
  readonly idleMs?: number | undefined;
  /** Called when the whole collection is in the store for the first time. */
  readonly onSynced?: () => void;
}

interface ObjectList<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
}

const PAGE = '500';
/** The server ends a watch after a random time in this range, so that watches don't all come back at once. */
const WATCH_SECONDS = { least: 300, most: 600 };
/**
 * The silence that ends a watch: two and a half bookmarks. A collection in which nothing happens costs a
 * request each time, 24 an hour.
 */
const IDLE_MS = 150_000;
/**
 * Waits after errors: they double each time, and jitter makes them up to twice as long; after a calm while
 * they begin anew.
 */
const BACKOFF = { firstMs: 800, mostMs: 30_000, calmMs: 120_000 };
/**
 * A watch that ends sooner than this is a failure, however politely it ended: else it would be a hot loop.
 */
const SHORT_WATCH_MS = 10_000;
const MAX_RESUMES = 5;

export class Reflector<T extends KubeObject> {
  readonly #options: ReflectorOptions<T>;
  readonly #endings: Counter;
  /** The version the store holds; undefined: it has to be listed. */
  #version: string | undefined;
  #synced = false;
  #problem: string | undefined;
  #progressMs: number;
  #relists = 0;
  /** Watches in a row that the server refused, or accepted and let end without a frame. */
  #fruitless = 0;
  #opened = false;
  #backoffMs = BACKOFF.firstMs;
  #lastFailureMs = 0;
  #paged = true;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#endings = options.metrics.counter('fanfare_operator_watch_endings_total', 'How watches ended.', [
      'resource',
      'how',
    ]);
    this.#progressMs = options.clock.monotonicMs();
  }

  /** Whether the store has held the whole collection once. */
  get synced(): boolean {
    return this.#synced;
  }

  /** Why it is not up to date; undefined while list or watch work. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /**
   * When it last made a step, be it a failed one, by the monotonic clock: a loop that is alive makes one at
   * least every idleMs.
   */
  get progressMs(): number {
    return this.#progressMs;
  }

  /** How often the collection was read as a whole. */
  get relists(): number {
    return this.#relists;
  }

  /** Runs until aborted. Throws only on a bug. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#progressed();
      try {
        if (this.#version === undefined) await this.#list(signal);
        else await this.#watch(this.#version, signal);
        this.#progressed();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof KubeError)) throw error;
        this.#failed(error);
        await this.#backOff(error, signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { http, resource, store, namespace } = this.#options;
    const items: T[] = [];
    let version: string | undefined;
    let token: string | undefined;
    do {
      const page: ObjectList<T> = await http.json({
        verb: 'list',
        resource: resource.plural,
        path: collectionPath(resource, namespace),
        query: { ...this.#selectors(), limit: this.#paged ? PAGE : undefined, continue: token },
        timeoutMs: 60_000,
        // The loop has a backoff of its own, and shows that it is alive with each try.
        maxTries: 1,
        signal,
      });
      this.#progressed();
      for (const item of page.items ?? []) items.push(this.#shaped(item));
      version = page.metadata?.resourceVersion ?? '0';
      token = page.metadata?.continue || undefined;
    } while (token !== undefined);
    this.#paged = true;
    this.#relists += 1;
    store.replace(namespace, items);
    this.#version = version;
    this.#problem = undefined;
    this.#fruitless = 0;
    if (this.#synced) return;
    this.#synced = true;
    this.#options.onSynced?.();
  }

  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const { http, clock, random, resource, namespace, idleMs = IDLE_MS } = this.#options;
    const seconds =
      WATCH_SECONDS.least + Math.floor(random() * (WATCH_SECONDS.most - WATCH_SECONDS.least + 1));
    const silence = new KubeError(0, 'Timeout', `watch ${resource.plural}: silent for ${idleMs / 1000} s`);
    using linked = linkedAbort(signal);
    using idle = idleTimer(clock, idleMs, () => linked.abort(silence));
    const startedMs = clock.monotonicMs();
    this.#opened = false;
    const watching = http.watch(
      {
        verb: 'watch',
        resource: resource.plural,
        path: collectionPath(resource, namespace),
        query: {
          ...this.#selectors(),
          watch: '1',
          allowWatchBookmarks: 'true',
          resourceVersion: from,
          timeoutSeconds: String(seconds),
        },
        signal: linked.signal,
      },
      () => {
        idle.restart();
        this.#progressed();
        this.#opened = true;
        this.#problem = undefined;
      },
    );
    try {
      for await (const frame of watching) {
        idle.restart();
        this.#progressed();
        this.#take(frame);
        this.#fruitless = 0;
      }
    } catch (error) {
      const silent = error === silence;
      this.#endings.add([resource.plural, silent ? 'silent' : isGone(error) ? 'gone' : 'failed']);
      if (silent && this.#opened) return;
      throw error;
    }
    this.#endings.add([resource.plural, 'server']);
    if (clock.monotonicMs() - startedMs < SHORT_WATCH_MS && !signal.aborted) {
      throw new KubeError(0, 'Unreachable', `watch ${resource.plural}: ended at once`);
    }
  }

  #take({ type, object }: WatchFrame): void {
    const { store, resource } = this.#options;
    if (type === 'ERROR') throw errorFromStatus(500, object, `watch ${resource.plural}`);
    const version = object.metadata?.resourceVersion;
    if (type === 'BOOKMARK') {
      if ((compareVersions(version, this.#version) ?? 0) < 0) {
        throw new KubeError(
          410,
          'Gone',
          `watch ${resource.plural}: the server went back to version ${version}`,
        );
      }
    } else {
      store.apply(type, this.#shaped(object as T));
    }
    this.#version = version ?? this.#version;
  }

  #failed(error: KubeError): void {
    const { logger, resource, namespace } = this.#options;
    this.#problem = error.message;
    this.#progressed();
    const where = { resource: resource.plural, namespace: namespace ?? 'all', reason: error.message };
    if (isGone(error)) {
      // A list's continue token went stale between two pages. Without pages that can't happen.
      if (this.#version === undefined) this.#paged = false;
      this.#version = undefined;
      logger.info(where, 'the server has forgotten the version we are at: listing again');
      return;
    }
    // A server that is away says nothing about our version: after an outage the watch goes on where it was.
    if (this.#version !== undefined && (this.#opened || !error.transient)) this.#fruitless += 1;
    if (this.#fruitless >= MAX_RESUMES) {
      this.#version = undefined;
      this.#fruitless = 0;
    }
    logger.warn(where, 'the cache is not up to date for now');
  }

  async #backOff(error: KubeError, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    if (clock.monotonicMs() - this.#lastFailureMs > BACKOFF.calmMs) this.#backoffMs = BACKOFF.firstMs;
    const waitMs = Math.max(error.retryAfterMs ?? 0, this.#backoffMs * (1 + random()));
    this.#backoffMs = Math.min(BACKOFF.mostMs, this.#backoffMs * 2);
    await sleep(clock, waitMs, signal);
    this.#lastFailureMs = clock.monotonicMs();
  }

  /** Items of lists lack what frames of watches have: kind and version. */
  #shaped(item: T): T {
    const { resource, transform } = this.#options;
    const object =
      item.kind === undefined ? { ...item, apiVersion: apiVersionOf(resource), kind: resource.kind } : item;
    return transform === undefined ? object : transform(object);
  }

  #selectors(): Record<string, string | undefined> {
    const { labelSelector, fieldSelector } = this.#options;
    return { labelSelector, fieldSelector };
  }

  #progressed(): void {
    this.#progressMs = this.#options.clock.monotonicMs();
  }
}

/**
 * Fires after idleMs without a restart. One timer however many restarts: a busy watch must not pay for it per
 * frame.
 */
function idleTimer(clock: Clock, idleMs: number, fire: () => void): Disposable & { restart(): void } {
  let lastMs = clock.monotonicMs();
  let cancel: () => void;
  const arm = (): void => {
    const restMs = lastMs + idleMs - clock.monotonicMs();
    if (restMs <= 0) fire();
    else cancel = clock.setTimer(restMs, arm);
  };
  cancel = clock.setTimer(idleMs, arm);
  return {
    restart() {
      lastMs = clock.monotonicMs();
    },
    [Symbol.dispose]: () => cancel(),
  };
}
