// An API server in memory, as a Transport, for what a real one can't be made to do on command: 409, 410, 429,
// cuts, silence, lost answers, in virtual time. It knows lists with pages, watches with history, versions and
// preconditions, and nothing of schemas. Whatever a real API server can show is tested against one.

import { KubeError } from '../../operator/kube/errors.ts';
import type { KubeObject } from '../../operator/kube/objects.ts';
import type { Transport, TransportRequest, TransportResponse } from '../../operator/kube/transport.ts';

/** What happens to a request instead of its answer, or in spite of it. */
export type Fault =
  | { readonly kind: 'status'; readonly status: number; readonly retryAfter?: string }
  /** The connection breaks before the server has done anything. */
  | { readonly kind: 'cut' }
  /** The server does what was asked, and the connection breaks before the answer. */
  | { readonly kind: 'lost' }
  /** Nothing happens, ever. */
  | { readonly kind: 'hang' };

interface HistoryEvent {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly collection: string;
  readonly object: KubeObject;
}

export class FakeKubeServer {
  /** Decides on a fault for each request; undefined: none. */
  fault: (request: TransportRequest) => Fault | undefined = () => undefined;
  /** All requests so far, as `GET /path?query`. */
  readonly requests: string[] = [];
  readonly watches = new Set<FakeWatch>();
  readonly #objects = new Map<string, KubeObject>();
  #history: HistoryEvent[] = [];
  #version = 100;
  #compacted = 0;
  #uid = 0;

  readonly transport: Transport = {
    send: (request) => this.#send(request),
    refresh: () => undefined,
    close: () => undefined,
  };

  get version(): string {
    return String(this.#version);
  }

  /** Writes an object as another client would. `collection`: `/api/v1/namespaces/a/pods`. */
  put(collection: string, name: string, fields: object = {}): KubeObject {
    const path = `${collection}/${name}`;
    const present = this.#objects.get(path);
    const uid = present?.metadata.uid ?? `uid-${++this.#uid}`;
    const namespace = /\/namespaces\/([^/]+)\//.exec(path)?.[1];
    const resourceVersion = String(++this.#version);
    const given = (fields as Partial<KubeObject>).metadata;
    const metadata = {
      ...present?.metadata,
      ...given,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
      resourceVersion,
    };
    const object: KubeObject = { apiVersion: 'v1', kind: 'Thing', ...present, ...fields, metadata };
    this.#objects.set(path, object);
    this.#happened(present === undefined ? 'ADDED' : 'MODIFIED', collection, object);
    return object;
  }

  delete(collection: string, name: string): void {
    const path = `${collection}/${name}`;
    const present = this.#objects.get(path);
    if (present === undefined) return;
    this.#objects.delete(path);
    const metadata = { ...present.metadata, resourceVersion: String(++this.#version) };
    this.#happened('DELETED', collection, { ...present, metadata });
  }

  get(path: string): KubeObject | undefined {
    return this.#objects.get(path);
  }

  /** The objects of a collection; `/api/v1/pods` has those of all namespaces. */
  list(collection: string): KubeObject[] {
    return [...this.#objects]
      .filter(([path]) => within(collection, path.slice(0, path.lastIndexOf('/'))))
      .map(([, object]) => object);
  }

  /** Forgets history: watches that begin before now get 410, and so do continued lists. */
  compact(): void {
    this.#compacted = this.#version;
    this.#history = [];
  }

  /**
   * Goes back to an earlier version, as after a restore of etcd; running watches learn it from their next
   * bookmark.
   */
  rollBack(versions: number): void {
    this.#version -= versions;
    this.#history = [];
  }

  bookmark(): void {
    const object = { metadata: { resourceVersion: this.version } };
    for (const watch of this.watches) watch.push({ type: 'BOOKMARK', object });
  }

  async #send(request: TransportRequest): Promise<TransportResponse> {
    request.signal.throwIfAborted();
    this.requests.push(`${request.method} ${request.path}`);
    const fault = this.fault(request);
    switch (fault?.kind) {
      case 'cut':
        throw new KubeError(0, 'Unreachable', 'cut');
      case 'status':
        return answer(fault.status, status(fault.status), { 'retry-after': fault.retryAfter });
      case 'hang':
        return new Promise((_, reject) =>
          request.signal.addEventListener('abort', () => reject(request.signal.reason), { once: true }),
        );
      case 'lost':
        this.#perform(request);
        throw new KubeError(0, 'Unreachable', 'lost');
      default:
        return this.#perform(request);
    }
  }

  #perform(request: TransportRequest): TransportResponse {
    const url = new URL(request.path, 'http://fake');
    const path = url.pathname;
    const name = path.slice(path.lastIndexOf('/') + 1);
    const collection = path.slice(0, path.lastIndexOf('/'));
    const body = request.body === undefined ? {} : JSON.parse(request.body);
    const present = this.#objects.get(path);
    if (request.streaming) return this.#watch(path, Number(url.searchParams.get('resourceVersion')), request);
    switch (request.method) {
      case 'POST':
        if (this.#objects.has(`${path}/${body.metadata.name}`))
          return answer(409, status(409, 'AlreadyExists'));
        return answer(201, this.put(path, body.metadata.name, body));
      case 'PUT':
      case 'PATCH': {
        if (present === undefined) return answer(404, status(404));
        const expected = body.metadata?.resourceVersion;
        if (expected !== undefined && expected !== present.metadata.resourceVersion) {
          return answer(409, status(409));
        }
        return answer(200, this.put(collection, name, body));
      }
      case 'DELETE':
        if (present === undefined) return answer(404, status(404));
        this.delete(collection, name);
        return answer(200, status(200));
      default:
        if (present !== undefined) return answer(200, present);
        return isCollection(path) ? this.#list(path, url.searchParams) : answer(404, status(404));
    }
  }

  #list(collection: string, query: URLSearchParams): TransportResponse {
    const [version, from] = (query.get('continue') ?? `${this.#version} 0`).split(' ').map(Number);
    if (version! < this.#compacted && query.has('continue')) return answer(410, status(410, 'Expired'));
    const all = this.list(collection);
    // Later pages show the present and not the snapshot: only their version makes that right again.
    const to = from! + Number(query.get('limit') ?? all.length);
    const metadata = {
      resourceVersion: String(version),
      ...(to < all.length ? { continue: `${version} ${to}` } : {}),
    };
    const items = all.slice(from, to).map(({ apiVersion: _, kind: __, ...item }) => item);
    return answer(200, { kind: 'List', metadata, items });
  }

  #watch(collection: string, from: number, { signal }: TransportRequest): TransportResponse {
    if (from < this.#compacted) return answer(410, status(410, 'Expired'));
    const watch = new FakeWatch(collection, signal, () => this.watches.delete(watch));
    this.watches.add(watch);
    for (const event of this.#history) {
      if (event.version > from && within(collection, event.collection)) watch.push(event);
    }
    return { status: 200, headers: {}, body: watch };
  }

  #happened(type: HistoryEvent['type'], collection: string, object: KubeObject): void {
    const event = { version: this.#version, type, collection, object };
    this.#history.push(event);
    for (const watch of this.watches) if (within(watch.collection, collection)) watch.push(event);
  }
}

/** One running watch, from the server's side. */
export class FakeWatch implements AsyncIterable<Uint8Array> {
  readonly collection: string;
  readonly #onEnd: () => void;
  readonly #ready: Uint8Array[] = [];
  #ending: 'end' | 'cut' | undefined;
  #silent = false;
  #wake: () => void = () => undefined;

  constructor(collection: string, signal: AbortSignal, onEnd: () => void) {
    this.collection = collection;
    this.#onEnd = onEnd;
    signal.addEventListener('abort', () => this.cut(), { once: true });
  }

  push({ type, object }: { readonly type: string; readonly object: unknown }): void {
    if (!this.#silent) this.raw(`${JSON.stringify({ type, object })}\n`);
  }

  /** Sends bytes as they are, split where it hurts. */
  raw(text: string): void {
    const bytes = Buffer.from(text);
    const half = Math.floor(bytes.length / 2);
    this.#ready.push(bytes.subarray(0, half), bytes.subarray(half));
    this.#wake();
  }

  end(): void {
    this.#close('end');
  }

  /** Breaks the watch as its reader sees it; what was pushed and not read yet is lost. */
  cut(): void {
    this.#ready.length = 0;
    this.#close('cut');
  }

  /** The peer is gone and nobody says so. */
  fallSilent(): void {
    this.#silent = true;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const next = this.#ready.shift();
        if (next !== undefined) yield next;
        else if (this.#ending === 'cut') throw new Error('aborted');
        else if (this.#ending === 'end') return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      this.#onEnd();
    }
  }

  #close(how: 'end' | 'cut'): void {
    this.#ending ??= how;
    this.#onEnd();
    this.#wake();
  }
}

export function status(code: number, reason = ''): object {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, code, reason, message: `as told: ${code}` };
}

function answer(
  code: number,
  body: object,
  headers: Record<string, string | undefined> = {},
): TransportResponse {
  const bytes = Buffer.from(JSON.stringify(body));
  return {
    status: code,
    headers,
    body: (async function* () {
      yield bytes;
    })(),
  };
}

/** `/apis/g/v1/things` and not `/apis/g/v1/things/name`: plurals end in s, the names of tests don't. */
function isCollection(path: string): boolean {
  return path.endsWith('s');
}

/** Whether an object's collection belongs to the one asked for: the same, or the same of all namespaces. */
function within(asked: string, collection: string): boolean {
  return collection === asked || collection.replace(/\/namespaces\/[^/]+/, '') === asked;
}
