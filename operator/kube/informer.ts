// One kind of object, cached and announced: a store with its reflectors, one for each watched namespace. It
// runs on standbys too, so that a new leader starts from a warm cache.
import type { Clock, Random } from './clock.ts';
import type { KubeHttp } from './http.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { KubeObject, Resource } from './objects.ts';
import { Reflector } from './reflector.ts';
import { type Change, type Index, ObjectStore } from './store.ts';

export interface InformerOptions<T extends KubeObject> {
  readonly http: KubeHttp;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly resource: Resource;
  /** Empty or left out: all namespaces. */
  readonly namespaces?: readonly string[];
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly indexes?: Readonly<Record<string, Index<T>>>;
  /** Applied to each object before it is stored, for instance withoutManagedFields. */
  readonly transform?: (object: T) => T;
  /** Silence after which a watch counts as dead. 150 s if left out. */
  readonly idleMs?: number;
}

export interface Informer<T extends KubeObject> {
  readonly resource: Resource;
  get(key: string): T | undefined;
  /** All objects, or those of one namespace. Frozen. */
  list(namespace?: string): T[];
  /** The objects that the index of that name files under the value. */
  byIndex(name: string, value: string): T[];
  readonly size: number;
  /** Whether the whole collection has been read once. Never false again. */
  readonly synced: boolean;
  /** Resolves when synced. Rejects with the signal's reason. */
  waitForSync(signal: AbortSignal): Promise<void>;
  /** Called within the turn in which the store changed, after it. Must not throw, nor take long. */
  onChange(listener: (change: Change<T>) => void): void;
  /** Why the cache is behind; undefined while it is not. */
  readonly problem: string | undefined;
  /**
   * Milliseconds since its loops last made a step; they make one every few minutes even if nothing happens.
   */
  readonly idleForMs: number;
  /** Keeps the cache current until aborted; resolves when its loops have ended. Called once. */
  run(signal: AbortSignal): Promise<void>;
}

export function createInformer<T extends KubeObject>(options: InformerOptions<T>): Informer<T> {
  const { resource, clock, metrics, namespaces = [], indexes = {} } = options;
  const listeners: ((change: Change<T>) => void)[] = [];
  const waiting = new Set<() => void>();
  const changes = metrics.counter('fanfare_operator_cache_changes_total', 'Changes seen by the caches.', [
    'resource',
    'type',
  ]);
  const store = new ObjectStore<T>(indexes, (change) => {
    changes.add([resource.plural, change.type]);
    for (const listener of listeners) listener(change);
  });
  const scopes: readonly (string | undefined)[] = namespaces.length === 0 ? [undefined] : namespaces;
  const reflectors = scopes.map(
    (namespace) =>
      new Reflector<T>({
        ...options,
        namespace,
        store,
        onSynced: () => {
          if (isSynced()) for (const done of waiting) done();
        },
      }),
  );
  const isSynced = (): boolean => reflectors.every(({ synced }) => synced);
  const idleForMs = (): number =>
    clock.monotonicMs() - Math.min(...reflectors.map(({ progressMs }) => progressMs));
  let started = false;

  return {
    resource,
    get: (key) => store.get(key),
    list: (namespace) => store.list(namespace),
    byIndex: (name, value) => store.byIndex(name, value),
    get size() {
      return store.size;
    },
    get synced() {
      return isSynced();
    },
    async waitForSync(signal) {
      signal.throwIfAborted();
      if (isSynced()) return;
      await new Promise<void>((resolve, reject) => {
        const end = (): void => {
          waiting.delete(end);
          signal.removeEventListener('abort', end);
          if (signal.aborted) reject(signal.reason);
          else resolve();
        };
        waiting.add(end);
        signal.addEventListener('abort', end, { once: true });
      });
    },
    onChange: (listener) => void listeners.push(listener),
    get problem() {
      return reflectors.find(({ problem }) => problem !== undefined)?.problem;
    },
    get idleForMs() {
      return started ? idleForMs() : 0;
    },
    async run(signal) {
      started = true;
      await Promise.all(reflectors.map((reflector) => reflector.run(signal)));
    },
  };
}

/** managedFields is about half of an object's size, and only a scale target's is ever read. */
export function withoutManagedFields<T extends KubeObject>(object: T): T {
  if (object.metadata.managedFields === undefined) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Gauges over all informers: objects held, and whether they are up to date. */
export function informerGauges(metrics: Metrics, informers: readonly Informer<KubeObject>[]): void {
  const gauge = (name: string, help: string, read: (informer: Informer<KubeObject>) => number): void =>
    metrics.gauge(name, help, ['resource'], () =>
      informers.map((informer) => ({ labels: [informer.resource.plural], value: read(informer) })),
    );
  gauge('fanfare_operator_cache_objects', 'Objects in the caches.', ({ size }) => size);
  gauge(
    'fanfare_operator_cache_current',
    '1 while the cache follows the API server.',
    ({ synced, problem }) => (synced && problem === undefined ? 1 : 0),
  );
  gauge('fanfare_operator_cache_idle_seconds', "Seconds since the cache's loops made a step.", (informer) =>
    Math.round(informer.idleForMs / 1000),
  );
}
