// The Lua scripts by name: how many keys each takes, and what it may do.
//
// Scripts that free memory, or that the cluster can't do without, run while Redis is out of memory, too; the
// others are refused as a whole then. Whether one runs is decided before its first write, so none is left
// half done.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface ScriptDefinition {
  readonly keys: number;
  readonly flags: '' | 'allow-oom' | 'no-writes';
  /** The name of its file in the lua folder, where that is not the script's. */
  readonly file?: string;
  /** Files of the lua folder that are put before it. */
  readonly libraries?: readonly ('partition' | 'membership' | 'definitions' | 'server')[];
}

const SCRIPTS = {
  append: { keys: 3, flags: '', libraries: ['partition'] },
  bounds: { keys: 2, flags: 'no-writes', libraries: ['partition'] },
  fence: { keys: 2, flags: 'allow-oom', libraries: ['partition'] },
  trim: { keys: 3, flags: 'allow-oom', libraries: ['partition'] },
  skip: { keys: 1, flags: 'allow-oom' },
  touch: { keys: 1, flags: 'allow-oom', libraries: ['partition'] },
  drop: { keys: 4, flags: 'allow-oom' },
  enlist: { keys: 2, flags: 'allow-oom' },
  enlist_cursors: { keys: 1, flags: 'allow-oom' },
  drop_topic: { keys: 1, flags: 'allow-oom' },
  acquire: { keys: 2, flags: 'allow-oom' },
  release: { keys: 2, flags: 'allow-oom', libraries: ['partition'] },
  commit: { keys: 2, flags: 'allow-oom', libraries: ['partition'] },
  put_definition: { keys: 2, flags: '', libraries: ['definitions'] },
  /** Shorter retention and tombstones come this way: what makes room must not need any. */
  replace_definition: { keys: 2, flags: 'allow-oom', libraries: ['definitions'], file: 'put_definition' },
  remove_definition: { keys: 4, flags: 'allow-oom', libraries: ['definitions'] },
  removals: { keys: 2, flags: 'no-writes' },
  next_incarnation: { keys: 1, flags: 'allow-oom', libraries: ['server'] },
  heartbeat: { keys: 7, flags: 'allow-oom', libraries: ['membership'] },
  leave: { keys: 4, flags: 'allow-oom', libraries: ['membership'] },
  assign: { keys: 2, flags: 'allow-oom', libraries: ['membership', 'server'] },
} as const satisfies Record<string, ScriptDefinition>;

export type ScriptName = keyof typeof SCRIPTS;

export interface Script {
  readonly name: ScriptName;
  readonly keys: number;
  readonly lua: string;
  readonly readOnly: boolean;
}

let loaded: ReadonlyMap<ScriptName, Script> | undefined;

/** All scripts, with their text from the lua folder, which is read once. */
export function loadScripts(): ReadonlyMap<ScriptName, Script> {
  loaded ??= readScripts();
  return loaded;
}

export function scriptText(name: ScriptName): string {
  return loadScripts().get(name)!.lua;
}

function readScripts(): ReadonlyMap<ScriptName, Script> {
  const read = (file: string) => readFileSync(join(import.meta.dirname, 'lua', `${file}.lua`), 'utf8');
  const scripts = new Map<ScriptName, Script>();
  for (const [key, definition] of Object.entries<ScriptDefinition>(SCRIPTS)) {
    const name = key as ScriptName;
    const { keys, flags, libraries = [], file = name } = definition;
    const body = [...libraries, file].map(read).join('');
    const lua = `#!lua flags=${flags}\n${withoutComments(body)}`;
    scripts.set(name, { name, keys, lua, readOnly: flags === 'no-writes' });
  }
  return scripts;
}

/** The text goes to the server with the first call of each connection: comments need not. */
function withoutComments(lua: string): string {
  return lua.replace(/^\s*--.*\n/gm, '').replace(/\n+/g, '\n');
}
