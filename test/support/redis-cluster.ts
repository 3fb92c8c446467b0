// A real Redis Cluster for tests: masters with replicas, each a server of redis.ts.
import { freePort, type RedisTestOptions, startRedis, TEST_HOST, type TestRedis, until } from './redis.ts';

export interface RedisClusterOptions extends RedisTestOptions {
  /** Default 3. */
  readonly masters?: number;
  /** Replicas of each master. Default 1. */
  readonly replicas?: number;
}

const SLOTS = 16_384;
/** The time without an answer after which a master counts as failed. */
const NODE_TIMEOUT_MS = 1_500;

/** Resolves when all slots are served and all replicas follow. */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<TestRedisCluster> {
  const { masters = 3, replicas = 1, args = [], ...rest } = options;
  const nodes = await Promise.all(
    Array.from({ length: masters * (1 + replicas) }, async () => {
      const bus = await freePort();
      const cluster = ['--cluster-enabled', 'yes', '--cluster-port', `${bus}`];
      const timing = [
        '--cluster-node-timeout',
        `${NODE_TIMEOUT_MS}`,
        '--cluster-replica-validity-factor',
        '0',
      ];
      const server = await startRedis({ ...rest, args: [...cluster, ...timing, ...args] });
      return { server, bus };
    }),
  );
  const started = new TestRedisCluster(nodes.map(({ server }) => server));
  try {
    await form(nodes, masters);
  } catch (error) {
    await started[Symbol.asyncDispose]();
    throw error;
  }
  return started;
}

export class TestRedisCluster implements AsyncDisposable {
  /** All servers; those that began as masters come first. */
  readonly nodes: readonly TestRedis[];

  /** Call startRedisCluster instead. */
  constructor(nodes: readonly TestRedis[]) {
    this.nodes = nodes;
  }

  /** The URL for --store. */
  get url(): string {
    const [first] = this.nodes;
    const scheme = first!.url.startsWith('rediss') ? 'rediss+cluster' : 'redis+cluster';
    return `${scheme}://${this.nodes.map(({ address }) => address).join(',')}`;
  }

  /** The master that serves the slot of a key now, and the replicas that follow it. */
  async nodesOf(key: string): Promise<{ master: TestRedis; replicas: TestRedis[] }> {
    const asked = firstRunning(this.nodes);
    const slot = Number(await asked.command('CLUSTER', 'KEYSLOT', key));
    const ranges = (await asked.command('CLUSTER', 'SLOTS')) as [number, number, ...[string, number][]][];
    const range = ranges.find(([from, to]) => from <= slot && slot <= to) ?? [];
    const [master, ...replicas] = (range.slice(2) as [string, number][]).map(
      ([, port]) => this.nodes.find((node) => node.port === port)!,
    );
    return { master: master!, replicas };
  }

  /** Resolves when every slot is served again, by masters that are alive. */
  async serves(): Promise<void> {
    await until('the Cluster serves all slots', async () => {
      const asked = firstRunning(this.nodes);
      return isOk(asked);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }
}

async function form(nodes: readonly { server: TestRedis; bus: number }[], masters: number): Promise<void> {
  const servers = nodes.map(({ server }) => server);
  const [first, ...others] = servers;
  for (const [index, server] of servers.entries()) {
    await server.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
    if (index >= masters) continue;
    const from = Math.floor((SLOTS * index) / masters);
    const to = Math.floor((SLOTS * (index + 1)) / masters) - 1;
    await server.command('CLUSTER', 'ADDSLOTSRANGE', from, to);
  }
  for (const server of others) {
    await server.command('CLUSTER', 'MEET', TEST_HOST, first!.port, nodes[0]!.bus);
  }
  const ids = await Promise.all(
    servers.map(async (server) => String(await server.command('CLUSTER', 'MYID'))),
  );
  for (const [index, server] of servers.entries()) {
    if (index < masters) continue;
    const master = ids[index % masters]!;
    await until('the replica knows its master', async () =>
      String(await server.command('CLUSTER', 'NODES')).includes(master),
    );
    await server.command('CLUSTER', 'REPLICATE', master);
  }
  for (const server of servers) {
    await until('the Cluster is whole', async () => {
      const replicas = ((await server.command('CLUSTER', 'SLOTS')) as unknown[][]).every(
        (range) => range.length === 2 + servers.length / masters,
      );
      return replicas && (await isOk(server));
    });
  }
  for (const replica of servers.slice(masters)) {
    await until('the replica follows', async () => (await replica.info('master_link_status')) === 'up');
  }
}

async function isOk(server: TestRedis): Promise<boolean> {
  const info = String(await server.command('CLUSTER', 'INFO'));
  return info.includes('cluster_state:ok') && info.includes(`cluster_slots_ok:${SLOTS}`);
}

function firstRunning(nodes: readonly TestRedis[]): TestRedis {
  for (const node of nodes) if (node.running) return node;
  throw new Error('no node of the Cluster is running');
}
