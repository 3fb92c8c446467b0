// `npm run dev:cluster` as a newcomer uses it: it greets, what the greeting says works, a broker that is
// killed is missed by nobody, and Ctrl-C leaves nothing behind.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CliRun, runCli, startCli } from '../support/cli.ts';
import { freePorts } from '../support/free-ports.ts';
import { redisServerPath } from '../support/redis.ts';

const BROKERS = 3;

let folder: string;
let cluster: CliRun | undefined;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-dev-cluster-'));
  // The server is looked for in PATH, and installed if need be.
  redisServerPath();
});
afterAll(async () => {
  // If a test has failed the cluster still runs; its processes end with it.
  cluster?.child.kill('SIGKILL');
  await cluster?.finished;
  await rm(folder, { recursive: true, maxRetries: 50 });
});

test('it greets, carries messages over the death of a broker, and Ctrl-C ends all of it', async () => {
  const port = await freePorts(BROKERS);
  cluster = startCli(['dev-cluster', '--port', `${port}`], { cwd: folder });
  const heard = listener(cluster);
  const greeting = await heard.until('Ctrl-C stops all.');
  const pids = [...greeting.matchAll(/^ {4}broker-\d .* pid (\d+)$/gm)].map(([, pid]) => Number(pid));
  const redisPort = Number(/store=redis:\/\/127\.0\.0\.1:(\d+)/.exec(greeting)?.[1]);
  expect(pids).toHaveLength(BROKERS);
  expect(await isOpen(redisPort)).toBe(true);

  await ok('topic create orders --partitions 12');
  await ok('subscription create audit --topic orders --ordering');
  const reader = startCli(['sub', 'audit'], { cwd: folder });
  const wanted = new Set(`${lines('before', 100)}${lines('after', 200)}`.trim().split('\n'));
  const read = allRead(reader, wanted);
  await ok('pub orders --key-match .$', lines('before', 100));
  process.kill(pids[0]!, 'SIGKILL');
  await heard.until('broker-1    | was killed and comes back in 10 s');
  await ok('pub orders --key-match .$', lines('after', 200));
  // Some may come twice: acknowledgements that were not written down died with the broker.
  await read;
  // Each partition's end is told by its owner.
  await ok('subscription create late --topic orders --from earliest');
  const late = await runCli(['sub', 'late', '--exit-at-end'], { cwd: folder });
  expect({ code: late.code, stderr: late.stderr }).toEqual({ code: 0, stderr: '' });
  expect(new Set(late.stdout.toString().trim().split('\n'))).toEqual(wanted);

  const second = await runCli(['dev-cluster', '--port', `${port}`], { cwd: folder });
  expect(second.code).toBe(1);
  expect(second.stderr).toMatch(/^fanfare: another dev-cluster \(pid \d+\) uses .*: stop it/);

  cluster.child.kill('SIGINT');
  expect((await cluster.finished).code).toBe(0);
  expect(await heard.until('broker-3    | stopped')).toContain('broker-2    | stopped');
  expect(pids.filter(isAlive)).toEqual([]);
  expect(await isOpen(redisPort)).toBe(false);
}, 120_000);

test('a port that is taken is said before anything is started', async () => {
  const server = createServer();
  const port = await listen(server, 0);
  const { code, stderr } = await runCli(['dev-cluster', '--port', `${port}`], { cwd: folder });
  server.close();
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `fanfare: 127.0.0.1:${port} is taken, perhaps by another broker: stop it, or choose other ports with --port\n`,
  });
});

async function ok(args: string, input = ''): Promise<void> {
  const { code, stderr } = await runCli(args.split(' '), { cwd: folder, input });
  expect({ args, code, stderr }).toMatchObject({ args, code: 0 });
}

function lines(word: string, count: number): string {
  return Array.from({ length: count }, (_, i) => `${word} ${i}\n`).join('');
}

/** Ends the reader once every line has come. */
async function allRead({ child, finished }: CliRun, wanted: ReadonlySet<string>): Promise<void> {
  const missing = new Set(wanted);
  let rest = '';
  child.stdout.on('data', (bytes: Buffer) => {
    const read = `${rest}${bytes}`.split('\n');
    rest = read.pop()!;
    for (const line of read) missing.delete(line);
    if (missing.size === 0) child.kill('SIGINT');
  });
  const { stderr } = await finished;
  expect({ missing: [...missing], stderr }).toMatchObject({ missing: [] });
}

/** Hears all that the command says on stderr; `until` resolves with it as soon as the text is in it. */
function listener({ child, finished }: CliRun): { until(text: string): Promise<string> } {
  let all = '';
  child.stderr.on('data', (bytes: Buffer) => {
    all += bytes.toString();
  });
  const ended = finished.then(() => true);
  return {
    async until(text) {
      while (!all.includes(text)) {
        const isOver = await Promise.race([ended, once(child.stderr, 'data').then(() => false)]);
        if (isOver && !all.includes(text)) throw new Error(`it ended without saying "${text}":\n${all}`);
      }
      return all;
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    return false;
  }
}

/** Whether somebody listens on the port. */
function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const bound = server.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : port);
    });
  });
}
