// A master with replicas under real Sentinels, for tests of failovers.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KubeProcess, startProcess } from './kube-process.ts';
import {
  freePort,
  type RedisTestOptions,
  redisServerPath,
  startRedis,
  TEST_HOST,
  TestRedis,
  until,
} from './redis.ts';

export const MASTER_NAME = 'mymaster';
const SENTINELS = 3;
const QUORUM = 2;
const DOWN_AFTER_MS = 800;

/** One master and one replica that follows it, watched over by three Sentinels that know each other. */
export async function startRedisWithSentinels(options: RedisTestOptions = {}): Promise<SentinelGroup> {
  const servers = [await startRedis(options), await startRedis(options)];
  const group = new SentinelGroup(servers, await mkdtemp(join(tmpdir(), 'fanfare-sentinel-')));
  try {
    await servers[1]!.follow(servers[0]!);
    await group.startSentinels();
  } catch (error) {
    await group[Symbol.asyncDispose]();
    throw error;
  }
  return group;
}

export class SentinelGroup implements AsyncDisposable {
  readonly servers: readonly TestRedis[];
  readonly #dir: string;
  readonly #sentinels: { process: KubeProcess; port: number }[] = [];

  /** Call startRedisWithSentinels instead. */
  constructor(servers: readonly TestRedis[], dir: string) {
    this.servers = servers;
    this.#dir = dir;
  }

  /** The URL for --store. */
  get url(): string {
    const hosts = this.#sentinels.map(({ port }) => `${TEST_HOST}:${port}`);
    return `redis+sentinel://${hosts.join(',')}/${MASTER_NAME}`;
  }

  /** The server that the Sentinels call the master now. */
  async master(): Promise<TestRedis> {
    const [, port] = (await this.#ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER_NAME)) as [
      string,
      string,
    ];
    return this.servers.find((server) => server.port === Number(port))!;
  }

  /** Resolves with the new master once the Sentinels have put another one in its place. */
  async failedOver(from: TestRedis): Promise<TestRedis> {
    await until('the Sentinels have made another one the master', async () => {
      const master = await this.master();
      return master !== from && (await master.info('role')) === 'master';
    });
    return this.master();
  }

  async startSentinels(): Promise<void> {
    for (let index = 0; index < SENTINELS; index++) {
      const port = await freePort();
      const config = join(this.#dir, `sentinel-${index}.conf`);
      await writeFile(config, sentinelConfig(port, this.servers[0]!.port, this.#dir));
      const log = join(this.#dir, `sentinel-${index}.log`);
      this.#sentinels.push({ process: startProcess(redisServerPath(), [config, '--sentinel'], log), port });
    }
    await until('the Sentinels know each other and the replica', async () => {
      const info = (await this.#ask('SENTINEL', 'MASTER', MASTER_NAME)) as string[];
      const value = (field: string) => Number(info[info.indexOf(field) + 1]);
      return (
        value('num-other-sentinels') === SENTINELS - 1 && value('num-slaves') === this.servers.length - 1
      );
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#sentinels.map(({ process }) => process.stop('SIGKILL', 5_000)));
    await Promise.all(this.servers.map((server) => server[Symbol.asyncDispose]()));
    await rm(this.#dir, { recursive: true, force: true });
  }

  #ask(...args: readonly [string, ...string[]]): Promise<unknown> {
    return new TestRedis(this.#dir, this.#sentinels[0]!.port, {}).command(...args);
  }
}

function sentinelConfig(port: number, masterPort: number, dir: string): string {
  return [
    `port ${port}`,
    `bind ${TEST_HOST}`,
    `dir ${dir}`,
    `sentinel monitor ${MASTER_NAME} ${TEST_HOST} ${masterPort} ${QUORUM}`,
    `sentinel down-after-milliseconds ${MASTER_NAME} ${DOWN_AFTER_MS}`,
    `sentinel failover-timeout ${MASTER_NAME} 5000`,
    '',
  ].join('\n');
}
