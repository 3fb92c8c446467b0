// Definitions as fields of one hash, "<revision> <body>" each, with what was removed and incarnation numbers
// beside them; the comments of ports/definition-store.ts are the contract.
//
// All are in one slot, so a failover that forgets an incarnation number has also forgotten every definition
// made with it. Logs under that number may live on in other slots: so a server that did not give the last
// number itself leaves many out.
import { BrokerError } from '../../core/errors.ts';
import {
  type Definition,
  type DefinitionKind,
  type DefinitionStore,
  MAX_REMEMBERED,
  MIN_REMEMBERED,
  REMEMBERED_MS,
  type Removals,
} from '../../ports/definition-store.ts';
import type { RedisConnection } from './connection.ts';
import type { RedisKeys } from './keys.ts';
import { verdictOf } from './replies.ts';

/** About how many fields one step looks at. */
const SCAN_COUNT = 500;

export class RedisDefinitionStore implements DefinitionStore {
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async list(): Promise<Definition[]> {
    // A scan may show a field twice.
    const found = new Map<string, Definition>();
    let cursor = '0';
    do {
      const [next, fields] = await this.#connection.run('list', (client) =>
        client.hscan(this.#keys.definitions, cursor, 'COUNT', SCAN_COUNT),
      );
      for (let at = 0; at < fields.length; at += 2) {
        found.set(fields[at]!, definitionOf(fields[at]!, fields[at + 1]!));
      }
      cursor = next;
    } while (cursor !== '0');
    return [...found.values()];
  }

  async version(): Promise<number> {
    const key = this.#keys.definitionsVersion;
    return Number((await this.#connection.run('version', (client) => client.get(key))) ?? 0);
  }

  async get(kind: DefinitionKind, name: string): Promise<Definition | undefined> {
    const field = fieldOf(kind, name);
    const value = await this.#connection.run('get', (client) => client.hget(this.#keys.definitions, field));
    return value === null ? undefined : definitionOf(field, value);
  }

  async put(
    kind: DefinitionKind,
    name: string,
    body: string,
    expectedRevision: number,
    given?: number,
  ): Promise<number> {
    const revision = given ?? expectedRevision + 1;
    const isNew = expectedRevision === 0 && given === undefined;
    const [word, current] = verdictOf(
      await this.#connection.script(
        isNew ? 'put_definition' : 'replace_definition',
        [this.#keys.definitions, this.#keys.definitionsVersion],
        [fieldOf(kind, name), expectedRevision, body, revision],
      ),
    );
    if (word === 'OK') return revision;
    if (expectedRevision === 0) throw new BrokerError('ALREADY_EXISTS', `${name} exists already`);
    throw changed(name, Number(current), expectedRevision);
  }

  async remove(kind: DefinitionKind, name: string, expectedRevision: number): Promise<void> {
    const { definitions, definitionsVersion, removed, removedForgotten } = this.#keys;
    const [word, current] = verdictOf(
      await this.#connection.script(
        'remove_definition',
        [definitions, definitionsVersion, removed, removedForgotten],
        [fieldOf(kind, name), expectedRevision, REMEMBERED_MS * 1_000, MAX_REMEMBERED, MIN_REMEMBERED],
      ),
    );
    if (word !== 'OK') throw changed(name, Number(current), expectedRevision);
  }

  async removals(): Promise<Removals> {
    const { removed, removedForgotten } = this.#keys;
    const reply = await this.#connection.script('removals', [removed, removedForgotten], []);
    const [forgottenTo, found] = reply as [string, string[]];
    return {
      forgottenTo: Number(forgottenTo),
      removed: found.map((each) => {
        const end = each.indexOf('\n');
        return definitionOf(each.slice(0, end), each.slice(end + 1));
      }),
    };
  }

  async nextIncarnation(above = 0): Promise<number> {
    const { incarnation } = this.#keys;
    return Number(await this.#connection.script('next_incarnation', [incarnation], [above]));
  }
}

function fieldOf(kind: DefinitionKind, name: string): string {
  return `${kind} ${name}`;
}

function definitionOf(field: string, value: string): Definition {
  const space = field.indexOf(' ');
  const afterRevision = value.indexOf(' ');
  return {
    kind: field.slice(0, space) as DefinitionKind,
    name: field.slice(space + 1),
    revision: Number(value.slice(0, afterRevision)),
    body: value.slice(afterRevision + 1),
  };
}

function changed(name: string, current: number, expected: number): BrokerError {
  const now = current === 0 ? 'it does not exist' : `it is at revision ${current}`;
  return new BrokerError(
    'ABORTED',
    `${name} was expected at revision ${expected}, but ${now}: read it again`,
  );
}
