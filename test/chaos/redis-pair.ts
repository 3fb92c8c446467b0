// A Redis with a replica, over and over: the replica can be left behind and then take the master's place,
// which comes back empty as the new replica. The pair promotes by itself, without a Sentinel, so that a
// failover takes as long as a fault asks for, and nothing fails over that was only slow.
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { startRedis, TEST_HOST, type TestRedis, until } from '../support/redis.ts';

const FOLLOW_TIMEOUT_MS = 60_000;

export async function startRedisPair(): Promise<RedisPair> {
  await using opened = new AsyncDisposableStack();
  const [master, replica] = [opened.use(await startRedis()), opened.use(await startRedis())];
  const replication = opened.use(await startFaultProxy(master.address));
  const pair = new RedisPair(master, replica, replication);
  await pair.follow();
  pair.own(opened.move());
  return pair;
}

export class RedisPair implements AsyncDisposable {
  /** The present master; roles change with each failover. */
  master: TestRedis;
  #replica: TestRedis;
  /** The proxy between the two. */
  readonly #replication: FaultProxy;
  #opened: AsyncDisposableStack | undefined;

  constructor(master: TestRedis, replica: TestRedis, replication: FaultProxy) {
    this.master = master;
    this.#replica = replica;
    this.#replication = replication;
  }

  /** Leaves writes from now on to the master alone. */
  fallBehind(): void {
    this.#replication.set('toClient', { holds: true });
  }

  /**
   * Kills the master with SIGKILL, runs `meanwhile`, lets the replica take over and tells `moved` its
   * address.
   */
  async failOver(meanwhile: () => Promise<void>, moved: (address: string) => void): Promise<void> {
    await this.master.kill();
    await meanwhile();
    this.#replication.cut();
    await this.#replica.promote();
    [this.master, this.#replica] = [this.#replica, this.master];
    moved(this.master.address);
    // The former master comes back with nothing: it has kept nothing on its disk.
    await this.#replica.restart();
    this.#replication.target = this.master.address;
    this.#replication.heal();
    await this.follow();
  }

  /** Resolves when the replica has what the master has. */
  async follow(): Promise<void> {
    await this.#replica.command('REPLICAOF', TEST_HOST, this.#replication.port);
    const follows = async () => (await this.#replica.info('master_link_status')) === 'up';
    await until('the replica follows', follows, FOLLOW_TIMEOUT_MS);
  }

  own(opened: AsyncDisposableStack): void {
    this.#opened = opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened?.disposeAsync();
  }
}
