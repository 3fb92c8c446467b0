// Live definitions of one kind in memory: by name, and by project in the order of names. Everything here is
// synchronous.
//
// Invariant: a name is in #byName exactly if it is among the names of its project.
import {
  definitionBytes,
  type SubscriptionDefinition,
  type TopicDefinition,
} from '../../core/definitions.ts';
import { BrokerError } from '../../core/errors.ts';
import { parseProjectName, quote } from '../../core/names.ts';
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MAX_RESPONSE_BYTES } from '../../limits.ts';

export interface PageRequest {
  /** projects/{project} */
  readonly parent: string;
  /** 0: the default. */
  readonly pageSize: number;
  readonly pageToken: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty: that was all. */
  readonly nextPageToken: string;
}

export class DefinitionIndex<T extends TopicDefinition | SubscriptionDefinition> {
  readonly #byName = new Map<string, T>();
  readonly #namesByProject = new Map<string, Set<string>>();
  /** Sorted names of a project; made when a page is asked for, forgotten when a name comes or goes. */
  readonly #sorted = new Map<string, readonly string[]>();

  get(name: string): T | undefined {
    return this.#byName.get(name);
  }

  values(): IterableIterator<T> {
    return this.#byName.values();
  }

  /** How many definitions the project has that the full name is in. */
  countInProjectOf(name: string): number {
    return this.#namesByProject.get(projectOf(name))?.size ?? 0;
  }

  set(definition: T): void {
    const { name } = definition;
    if (!this.#byName.has(name)) {
      const project = projectOf(name);
      const names = this.#namesByProject.get(project) ?? new Set();
      this.#namesByProject.set(project, names.add(name));
      this.#sorted.delete(project);
    }
    this.#byName.set(name, definition);
  }

  delete(name: string): void {
    if (!this.#byName.delete(name)) return;
    const project = projectOf(name);
    const names = this.#namesByProject.get(project);
    names?.delete(name);
    if (names?.size === 0) this.#namesByProject.delete(project);
    this.#sorted.delete(project);
  }

  /**
   * A page in the order of names, of those that `wanted` takes. It may be shorter than asked for, so that the
   * answer stays below MAX_RESPONSE_BYTES. INVALID_ARGUMENT: bad parent, size or token.
   */
  page(request: PageRequest, wanted: (definition: T) => boolean = () => true): Page<T> {
    const project = parseProjectName(request.parent, 'parent');
    const size = checkPageSize(request.pageSize);
    const names = this.#sortedNames(project);
    const items: T[] = [];
    let bytes = 0;
    for (let at = firstAfter(names, decodeToken(request.pageToken)); at < names.length; at++) {
      const definition = this.#byName.get(names[at]!)!;
      if (!wanted(definition)) continue;
      bytes += definitionBytes(definition);
      if (items.length === size || (items.length > 0 && bytes > MAX_RESPONSE_BYTES)) {
        return { items, nextPageToken: encodeToken(items.at(-1)!.name) };
      }
      items.push(definition);
    }
    return { items, nextPageToken: '' };
  }

  #sortedNames(project: string): readonly string[] {
    const known = this.#sorted.get(project);
    if (known !== undefined) return known;
    const names = [...(this.#namesByProject.get(project) ?? [])].sort();
    if (names.length > 0) this.#sorted.set(project, names);
    return names;
  }
}

function projectOf(name: string): string {
  return name.slice('projects/'.length, name.indexOf('/', 'projects/'.length));
}

function checkPageSize(pageSize: number): number {
  if (pageSize === 0) return DEFAULT_PAGE_SIZE;
  if (pageSize < 0 || pageSize > MAX_PAGE_SIZE) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `page_size is ${pageSize}: must be 0 (${DEFAULT_PAGE_SIZE}) to ${MAX_PAGE_SIZE}`,
    );
  }
  return pageSize;
}

// A token is the last name that was given, so that pages stay right while names come and go.
function encodeToken(name: string): string {
  return Buffer.from(`1 ${name}`).toString('base64url');
}

function decodeToken(token: string): string {
  if (token === '') return '';
  const text = Buffer.from(token, 'base64url').toString();
  if (!text.startsWith('1 projects/')) {
    throw new BrokerError(
      'INVALID_ARGUMENT',
      `page_token is ${quote(token)}: must be one that a former answer gave`,
    );
  }
  return text.slice(2);
}

/** Index of the first name after `name`, by binary search. */
function firstAfter(names: readonly string[], name: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (names[middle]! <= name) low = middle + 1;
    else high = middle;
  }
  return low;
}
