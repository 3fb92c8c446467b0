// The API server in the words of controllers: one request each unless it says otherwise. Reads come from
// informers as a rule; get and list are for what nobody caches. All errors are KubeErrors, or the signal's
// reason.
//
// No write acts on a stale idea by accident: an apply owns its fields, a status carries the version it
// describes, finalizers are patched only if they are still as they were read, a scale is written with the
// version it was read at.
import { isConflict, isNotFound, KubeError } from './errors.ts';
import type { KubeHttp, KubeRequest } from './http.ts';
import {
  apiVersionOf,
  collectionPath,
  type KubeObject,
  type ObjectRef,
  type OwnerReference,
  objectPath,
  type Resource,
  sameJson,
} from './objects.ts';

/** The object whose fields an apply sets, and what of its metadata we want to own. */
export interface AppliedMeta extends ObjectRef {
  readonly uid?: string | undefined;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface ListOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface DeleteOptions {
  /** Deletes only the object of this uid, not one that was created under its name since. */
  readonly uid?: string | undefined;
  readonly propagation?: 'Background' | 'Foreground' | 'Orphan';
}

/** The /scale of a workload, or of anything with that subresource. */
export interface Scale extends KubeObject {
  readonly spec?: { readonly replicas?: number };
  readonly status?: { readonly replicas?: number; readonly selector?: string };
}

export interface KubeClient {
  /** Returns the objects of all pages. */
  list<T extends KubeObject>(resource: Resource, options?: ListOptions, signal?: AbortSignal): Promise<T[]>;
  /** Undefined if there is none. */
  get<T extends KubeObject>(resource: Resource, ref: ObjectRef, signal?: AbortSignal): Promise<T | undefined>;
  /** Throws AlreadyExists if there is one. */
  create<T extends KubeObject>(resource: Resource, object: T, signal?: AbortSignal): Promise<T>;
  /**
   * Server-side apply, which takes fields over from other managers and creates the object if there is none.
   * `fields` are spec and the like, only what we want to own.
   */
  apply<T extends KubeObject>(
    resource: Resource,
    metadata: AppliedMeta,
    fields: object,
    signal?: AbortSignal,
  ): Promise<T>;
  /**
   * Server-side apply of the whole status. Sends nothing and returns the object itself if it has that status
   * already. Throws Conflict if anybody has written the object since, for a status describes the object that
   * was read; NotFound if it is gone. Give it what the last write returned.
   */
  applyStatus<T extends KubeObject & { readonly status?: unknown }>(
    resource: Resource,
    object: T,
    status: NonNullable<T['status']>,
    signal?: AbortSignal,
  ): Promise<T>;
  /** Merge patch, for annotations and labels of what is somebody else's. Throws NotFound. */
  mergePatch<T extends KubeObject>(
    resource: Resource,
    ref: ObjectRef,
    patch: object,
    signal?: AbortSignal,
  ): Promise<T>;
  /**
   * Throws Conflict if the finalizers are not those of `object` any more. Sends nothing if it is there
   * already.
   */
  addFinalizer<T extends KubeObject>(
    resource: Resource,
    object: T,
    finalizer: string,
    signal?: AbortSignal,
  ): Promise<T>;
  /** As addFinalizer. An object that is gone is as good as one without: undefined. */
  removeFinalizer<T extends KubeObject>(
    resource: Resource,
    object: T,
    finalizer: string,
    signal?: AbortSignal,
  ): Promise<T | undefined>;
  /** Undefined if there is none. */
  getScale(resource: Resource, ref: ObjectRef, signal?: AbortSignal): Promise<Scale | undefined>;
  /**
   * Get, compare, put: two requests, one if nothing changes. They are made again, SCALE_TRIES times in all,
   * if another writer came between. `decide` is given the present replicas and may decline by returning
   * undefined. Undefined if there is no such scale.
   */
  setScale(
    resource: Resource,
    ref: ObjectRef,
    decide: (present: number, scale: Scale) => number | undefined,
    signal?: AbortSignal,
  ): Promise<{ readonly from: number; readonly to: number } | undefined>;
  /** Returns whether there was one to delete. Throws Conflict if it has another uid. */
  delete(resource: Resource, ref: ObjectRef, options?: DeleteOptions, signal?: AbortSignal): Promise<boolean>;
}

const APPLY = 'application/apply-patch+yaml';
const JSON_PATCH = 'application/json-patch+json';
const MERGE_PATCH = 'application/merge-patch+json';
const PAGE = '500';
const SCALE_TRIES = 4;
/** A scale that gets no answer is soon tried again: consumers may wait for it. */
const SCALE_TIMEOUT_MS = 10_000;

/** `fieldManager`: `fanfare-operator/<controller>`, at most 128 characters. */
export function createKubeClient(http: KubeHttp, fieldManager: string): KubeClient {
  const write = <T>(
    resource: Resource,
    ref: ObjectRef,
    request: Pick<KubeRequest, 'verb' | 'body' | 'contentType' | 'idempotent' | 'timeoutMs' | 'signal'> & {
      readonly subresource?: string;
      readonly force?: boolean;
    },
  ): Promise<T> => {
    const { subresource, force, ...rest } = request;
    return http.json<T>({
      ...rest,
      resource: subresource === undefined ? resource.plural : `${resource.plural}/${subresource}`,
      path: objectPath(resource, ref, subresource),
      query: { fieldManager, force: force === true ? 'true' : undefined },
    });
  };

  const patchFinalizers = async <T extends KubeObject>(
    resource: Resource,
    { metadata }: T,
    finalizers: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<T> => {
    const path = '/metadata/finalizers';
    const present = metadata.finalizers ?? [];
    // An absent field can't be tested: then the version stands for it.
    const unchanged =
      present.length > 0
        ? { op: 'test', path, value: present }
        : { op: 'test', path: '/metadata/resourceVersion', value: metadata.resourceVersion };
    const change = finalizers.length > 0 ? { op: 'add', path, value: finalizers } : { op: 'remove', path };
    try {
      return await write<T>(resource, metadata, {
        verb: 'patch',
        contentType: JSON_PATCH,
        body: [{ op: 'test', path: '/metadata/uid', value: metadata.uid }, unchanged, change],
        signal,
      });
    } catch (error) {
      throw failedTest(error) ? new KubeError(409, 'Conflict', error.message, { cause: error }) : error;
    }
  };

  const client: KubeClient = {
    async list<T extends KubeObject>(resource: Resource, options: ListOptions = {}, signal?: AbortSignal) {
      const { namespace, ...selectors } = options;
      const items: T[] = [];
      let token: string | undefined;
      do {
        const page = await http.json<{ items?: T[] | null; metadata?: { continue?: string } }>({
          verb: 'list',
          resource: resource.plural,
          path: collectionPath(resource, namespace),
          query: { ...selectors, limit: PAGE, continue: token },
          signal,
        });
        for (const item of page.items ?? []) {
          items.push({ ...item, apiVersion: apiVersionOf(resource), kind: resource.kind });
        }
        token = page.metadata?.continue || undefined;
      } while (token !== undefined);
      return items;
    },

    get: <T extends KubeObject>(resource: Resource, ref: ObjectRef, signal?: AbortSignal) =>
      orUndefined<T>(
        http.json({ verb: 'get', resource: resource.plural, path: objectPath(resource, ref), signal }),
      ),

    create: (resource, object, signal) =>
      http.json({
        verb: 'create',
        resource: resource.plural,
        path: collectionPath(resource, object.metadata.namespace),
        query: { fieldManager },
        body: object,
        signal,
      }),

    apply: (resource, metadata, fields, signal) =>
      write(resource, metadata, {
        verb: 'patch',
        contentType: APPLY,
        force: true,
        idempotent: true,
        body: { apiVersion: apiVersionOf(resource), kind: resource.kind, ...fields, metadata },
        signal,
      }),

    async applyStatus(resource, object, status, signal) {
      if (sameJson(object.status, status)) return object;
      // The version and not the uid, which the API server ignores in statuses of custom resources.
      const { name, namespace, resourceVersion } = object.metadata;
      return write(resource, object.metadata, {
        verb: 'patch',
        subresource: 'status',
        contentType: APPLY,
        force: true,
        idempotent: true,
        body: {
          apiVersion: apiVersionOf(resource),
          kind: resource.kind,
          metadata: { name, namespace, resourceVersion },
          status,
        },
        signal,
      });
    },

    mergePatch: (resource, ref, patch, signal) =>
      write(resource, ref, {
        verb: 'patch',
        contentType: MERGE_PATCH,
        idempotent: true,
        body: patch,
        signal,
      }),

    async addFinalizer(resource, object, finalizer, signal) {
      const present = object.metadata.finalizers ?? [];
      if (present.includes(finalizer)) return object;
      return patchFinalizers(resource, object, [...present, finalizer], signal);
    },

    async removeFinalizer(resource, object, finalizer, signal) {
      const present = object.metadata.finalizers ?? [];
      if (!present.includes(finalizer)) return object;
      const rest = present.filter((name) => name !== finalizer);
      return orUndefined(patchFinalizers(resource, object, rest, signal));
    },

    getScale: (resource, ref, signal) =>
      orUndefined<Scale>(
        http.json({
          verb: 'get',
          resource: `${resource.plural}/scale`,
          path: objectPath(resource, ref, 'scale'),
          timeoutMs: SCALE_TIMEOUT_MS,
          signal,
        }),
      ),

    async setScale(resource, ref, decide, signal) {
      for (let tries = 1; ; tries += 1) {
        const scale = await client.getScale(resource, ref, signal);
        if (scale === undefined) return undefined;
        // The API server leaves out a 0.
        const from = scale.spec?.replicas ?? 0;
        const to = decide(from, scale) ?? from;
        if (to === from) return { from, to };
        try {
          await write(resource, ref, {
            verb: 'update',
            subresource: 'scale',
            body: { ...scale, spec: { ...scale.spec, replicas: to } },
            timeoutMs: SCALE_TIMEOUT_MS,
            signal,
          });
          return { from, to };
        } catch (error) {
          if (!isConflict(error) || tries >= SCALE_TRIES) throw error;
        }
      }
    },

    async delete(resource, ref, { uid, propagation } = {}, signal) {
      const deleted = await orUndefined<object>(
        http.json({
          verb: 'delete',
          resource: resource.plural,
          path: objectPath(resource, ref),
          body: {
            apiVersion: 'v1',
            kind: 'DeleteOptions',
            ...(uid === undefined ? {} : { preconditions: { uid } }),
            ...(propagation === undefined ? {} : { propagationPolicy: propagation }),
          },
          signal,
        }),
      );
      return deleted !== undefined;
    },
  };
  return client;
}

async function orUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * The API server answers a JSON patch whose test fails with 422 and no causes; a value it refuses comes with
 * causes.
 */
function failedTest(error: unknown): error is KubeError {
  if (!(error instanceof KubeError) || error.status !== 422) return false;
  const { details } = (error.body ?? {}) as { details?: { causes?: readonly unknown[] } };
  return (details?.causes ?? []).length === 0;
}
