// The definition port in memory, for tests and simulations. A store that goes back forgets what a real one
// would: definitions, removals, and the last incarnation numbers, of which it then leaves many out.
import { BrokerError } from '../../services/broker/core/errors.ts';
import {
  type Definition,
  type DefinitionKind,
  type DefinitionStore,
  MAX_REMEMBERED,
  MIN_REMEMBERED,
  REMEMBERED_MS,
  type Removals,
} from '../../services/broker/ports/definition-store.ts';
import type { Take } from './memory-store.ts';

const SKIPPED_INCARNATIONS = 1_000;

interface Removed {
  readonly definition: Definition;
  readonly version: number;
  readonly atMs: number;
}

interface Content {
  readonly definitions: Map<string, Definition>;
  readonly removed: Removed[];
  version: number;
  forgottenTo: number;
  lastIncarnation: number;
}

export class MemoryDefinitions implements DefinitionStore {
  readonly #take: Take;
  readonly #nowMs: () => number;
  readonly #most: number;
  #content: Content = {
    definitions: new Map(),
    removed: [],
    version: 0,
    forgottenTo: 0,
    lastIncarnation: 0,
  };
  /** Counts on whatever becomes of the content, as time does. */
  #ticks = 0;
  /** The step to the next incarnation. */
  #step = 1;
  #returns = 0;

  /** `nowMs` is the store's clock; `most` is how many removals are remembered. */
  constructor(take: Take, nowMs: () => number, most = MAX_REMEMBERED) {
    this.#take = take;
    this.#nowMs = nowMs;
    this.#most = most;
  }

  list(): Promise<Definition[]> {
    return this.#take(() => [...this.#content.definitions.values()]);
  }

  version(): Promise<number> {
    return this.#take(() => this.#content.version);
  }

  get(kind: DefinitionKind, name: string): Promise<Definition | undefined> {
    return this.#take(() => this.#content.definitions.get(keyOf(kind, name)));
  }

  put(
    kind: DefinitionKind,
    name: string,
    body: string,
    expectedRevision: number,
    revision = expectedRevision + 1,
  ): Promise<number> {
    return this.#take(() => {
      const current = this.#revisionOf(kind, name);
      if (expectedRevision === 0 && current > 0)
        throw new BrokerError('ALREADY_EXISTS', `${name} exists already`);
      refuseChanged(current, expectedRevision);
      this.#changed();
      this.#content.definitions.set(keyOf(kind, name), { kind, name, body, revision });
      return revision;
    });
  }

  remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void> {
    return this.#take(() => {
      refuseChanged(this.#revisionOf(kind, name), expectedRevision);
      const { definitions, removed } = this.#content;
      const definition = definitions.get(keyOf(kind, name));
      if (definition === undefined) throw new BrokerError('ABORTED', `${name} does not exist`);
      this.#changed();
      definitions.delete(keyOf(kind, name));
      const atMs = this.#nowMs();
      removed.push({ definition, version: this.#content.version, atMs });
      const isOld = ({ atMs: removedMs }: Removed): boolean => removedMs <= atMs - REMEMBERED_MS;
      while (removed.length > this.#most || (removed.length > MIN_REMEMBERED && isOld(removed[0]!)))
        this.#content.forgottenTo = removed.shift()!.version;
    });
  }

  removals(): Promise<Removals> {
    return this.#take(() => ({
      removed: this.#content.removed.map(({ definition }) => definition),
      forgottenTo: this.#content.forgottenTo,
    }));
  }

  nextIncarnation(above = 0): Promise<number> {
    return this.#take(() => {
      this.#content.lastIncarnation = Math.max(this.#content.lastIncarnation + this.#step, above + 1);
      this.#step = 1;
      return this.#content.lastIncarnation;
    });
  }

  /** Returns a function that brings back what is there now. */
  checkpoint(): () => void {
    const saved = copyOf(this.#content);
    return () => {
      this.#content = copyOf(saved);
      this.#returns += 1;
      this.#step = SKIPPED_INCARNATIONS * this.#returns;
    };
  }

  #revisionOf(kind: DefinitionKind, name: string): number {
    return this.#content.definitions.get(keyOf(kind, name))?.revision ?? 0;
  }

  #changed(): void {
    this.#ticks += 1;
    this.#content.version = this.#ticks;
  }
}

function copyOf(content: Content): Content {
  return { ...content, definitions: new Map(content.definitions), removed: [...content.removed] };
}

function keyOf(kind: DefinitionKind, name: string): string {
  return `${kind} ${name}`;
}

function refuseChanged(current: number, expected: number): void {
  if (current !== expected) throw new BrokerError('ABORTED', `at revision ${current}, not ${expected}`);
}
