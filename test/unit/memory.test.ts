// services/node/memory.ts: when the heap needs to be told what it may use.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { heapFlag } from '../../services/node/memory.ts';

const GIB = 1024 ** 3;
const FANFARE = fileURLToPath(new URL('../../services/cli/fanfare.js', import.meta.url));

test.each([
  ['no container', undefined, 4 * GIB, [], undefined],
  ['the half by itself, and the young generation', GIB, 0.5 * GIB + 48 * 1024 ** 2, [], undefined],
  ['more than node takes by itself', 8 * GIB, 2 * GIB, [], '--max-old-space-size=4096'],
  ['the default of a node that does not look at containers', GIB, 0.2 * GIB, [], '--max-old-space-size=512'],
  ['told by a flag', 8 * GIB, 2 * GIB, ['--max-old-space-size=100'], undefined],
  ['told in another spelling', 8 * GIB, 2 * GIB, ['--max_old_space_size', '100'], undefined],
  ['told by NODE_OPTIONS', 8 * GIB, 2 * GIB, ['-r x --max-heap-size=100'], undefined],
  ['told something else', 8 * GIB, 2 * GIB, ['--stack-size=900'], '--max-old-space-size=4096'],
])('%s', (_what, memoryBytes, heapLimitBytes, options, flag) => {
  expect(heapFlag({ memoryBytes, heapLimitBytes, options })).toBe(flag);
});

/** Makes node believe that it is in a container with nearly all memory, and tell what it was started with. */
const IN_CONTAINER = `
  import { totalmem } from 'node:os';
  import { getHeapStatistics } from 'node:v8';
  process.constrainedMemory = () => totalmem() - 1;
  process.on('exit', () => {
    const { heap_size_limit } = getHeapStatistics();
    console.error(JSON.stringify({ pid: process.pid, flags: process.execArgv, limit: heap_size_limit, total: totalmem() }));
  });`;

test('`fanfare serve` goes on in the same process with the flag, which then counts; nothing else does', () => {
  const run = (...args: string[]) => {
    const { pid, stderr, stdout } = spawnSync(process.execPath, [FANFARE, ...args, '--help'], {
      encoding: 'utf8',
      env: { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(IN_CONTAINER)}` },
    });
    expect(stdout).toContain('Usage: fanfare');
    const told = JSON.parse(stderr) as { pid: number; flags: string[]; limit: number; total: number };
    expect(told.pid).toBe(pid);
    return told;
  };
  const broker = run('serve');
  const halfMiB = Math.floor((broker.total - 1) / 2 / 1024 ** 2);
  expect(broker.flags).toEqual([`--max-old-space-size=${halfMiB}`]);
  expect(broker.limit).toBeGreaterThanOrEqual(halfMiB * 1024 ** 2);
  expect(run('topic').flags).toEqual([]);
});
