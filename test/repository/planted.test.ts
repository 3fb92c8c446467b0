// The table of planted bugs keeps up with the code: each can still be planted, in every room and in every
// script, and the page shows what the table says. Whether they are noticed is `npm run planted` to find out.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { BUGS, DOCUMENT, documentText, roomOf } from '../planted/table.ts';
import { ROOT, unplantable } from '../planted/tree.ts';

const LUA = 'services/broker/adapters/redis/lua';

test('the text that each planted bug replaces is in its file exactly once', () => {
  expect(unplantable(BUGS)).toEqual([]);
});

test('no two planted bugs have one name, and their checks are there', () => {
  const names = BUGS.map(({ name }) => name);
  expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
  const tests = BUGS.flatMap(({ noticed }) => ('test' in noticed ? [noticed.test] : []));
  expect(tests.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

test('there are bugs in every room of the engine, in the adapters, and in every Lua script', () => {
  const rooms = new Set(BUGS.map(roomOf));
  const engine = readdirSync(join(ROOT, 'services/broker/engine'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath }) => parentPath.slice(join(ROOT, 'services/broker/').length));
  const wanted = [...engine, 'core', 'adapters/embedded', 'adapters/redis', 'adapters/grpc', 'operator/core'];
  expect([...new Set(wanted)].filter((room) => !rooms.has(room))).toEqual([]);
  const files = new Set(BUGS.map(({ file }) => file));
  expect(readdirSync(join(ROOT, LUA)).filter((script) => !files.has(`${LUA}/${script}`))).toEqual([]);
});

test('the page of planted bugs is what the table makes of it: run `npm run planted -- --document`', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toBe(documentText());
});
