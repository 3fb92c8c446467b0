// Networks that fail between brokers and Redis and between brokers, under load: three real processes over a
// real Redis, each behind fault proxies of its own. After every fault: nothing acknowledged is lost, nothing
// is out of order within its key, no client has seen an error, delivery goes on, and the log says what
// happened.
//
// The seed decides which broker a fault hits, and the order of the faults. CLUSTER_SEED=… repeats a run.
import { expect, test } from 'vitest';
import type { Client } from '../../services/client/client.ts';
import type { LogLine } from '../support/broker.ts';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { SAYS } from '../support/cluster-lines.ts';
import { ClusterLoad } from '../support/cluster-load.ts';
import type { FaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';

const SEED = Number(process.env.CLUSTER_SEED ?? Date.now() % 1_000_000);
const PARTITIONS = 12;
const ALL = [...Array(PARTITIONS).keys()];
const LOAD = { partitions: PARTITIONS, subscriptions: 8, keys: 200, rate: 300, late: true };
const RESUME_MS = 15_000;
/** How long a fault goes on after it was noticed everywhere: longer than a lease. */
const BEYOND_MS = 2_500;

const SILENT = /no answer for/;
const RELAY_SILENT = /nothing was heard of it/;

/** A message, perhaps with a pattern that its reason must match. */
type Line = readonly [message: string, why?: RegExp];

interface Fault {
  readonly name: string;
  begin(proxy: FaultProxy): void;
  /**
   * What happens while it lasts: delivery goes on; other brokers take the partitions over; or what the fault
   * concerns waits for its end.
   */
  readonly meanwhile: 'goes on' | 'others take over' | 'waits';
  /** What the broker's log says while it lasts. */
  readonly says: readonly Line[];
  /** What the log of the broker at the other end says. */
  readonly saysOther?: readonly Line[];
}

const cut = (proxy: FaultProxy): void => {
  proxy.refuse(true);
  proxy.cut();
};
const reset = (proxy: FaultProxy): void => proxy.cut();
const slow = (proxy: FaultProxy): void => proxy.set('both', { delayMs: 300 });
const holdBoth = (proxy: FaultProxy): void => proxy.set('both', { holds: true });
const holdToServer = (proxy: FaultProxy): void => proxy.set('toServer', { holds: true });
const holdToClient = (proxy: FaultProxy): void => proxy.set('toClient', { holds: true });

const STORE_CUT: Fault = {
  name: 'cut',
  begin: cut,
  meanwhile: 'others take over',
  says: [[SAYS.unreachable], [SAYS.fenced]],
};
const STORE_HALF_OPEN: Fault = {
  name: 'half-open',
  begin: holdBoth,
  meanwhile: 'others take over',
  says: [[SAYS.slow], [SAYS.fenced]],
};
const STORE_FAULTS: readonly Fault[] = [
  STORE_CUT,
  STORE_HALF_OPEN,
  { name: 'reset once', begin: reset, meanwhile: 'goes on', says: [[SAYS.unreachable]] },
  { name: '300 ms slower', begin: slow, meanwhile: 'goes on', says: [[SAYS.slow]] },
  {
    name: 'nothing to Redis',
    begin: holdToServer,
    meanwhile: 'others take over',
    says: [[SAYS.slow], [SAYS.fenced]],
  },
  // The broker's heartbeats arrive, so Redis takes it for alive; it serves nothing, since it does not know.
  { name: 'nothing from Redis', begin: holdToClient, meanwhile: 'waits', says: [[SAYS.slow], [SAYS.fenced]] },
];

/**
 * Both brokers hold their leases, so the owner keeps its partitions. `says` is the relay's log, `saysOther`
 * the owner's.
 */
const LINK_FAULTS: readonly Fault[] = [
  { name: 'cut', begin: cut, meanwhile: 'waits', says: [[SAYS.linkClosed]] },
  { name: 'reset once', begin: reset, meanwhile: 'goes on', says: [[SAYS.linkClosed], [SAYS.linked]] },
  { name: '300 ms slower', begin: slow, meanwhile: 'goes on', says: [] },
  {
    name: 'half-open',
    begin: holdBoth,
    meanwhile: 'waits',
    says: [[SAYS.linkClosed, SILENT]],
    saysOther: [[SAYS.relayEnded, RELAY_SILENT]],
  },
  {
    name: 'nothing to the owner',
    begin: holdToServer,
    meanwhile: 'waits',
    says: [[SAYS.linkClosed, SILENT]],
    saysOther: [[SAYS.relayEnded, RELAY_SILENT]],
  },
  {
    name: 'nothing from the owner',
    begin: holdToClient,
    meanwhile: 'waits',
    says: [[SAYS.linkClosed, SILENT]],
  },
];

test('between a broker and Redis: others take over, and it comes back', { timeout: 240_000 }, async () => {
  const random = seededRandom(SEED);
  await using cluster = await startCluster({ proxies: true });
  await using client = cluster.client('all');
  await using load = await startLoad(client, 'store-paths');
  /** The time, by broker, since which it must have said that its last fault is over. */
  const lastMs = new Map<number, number>();
  let victim = Math.floor(random() * 3);
  for (const fault of shuffled(STORE_FAULTS, random)) {
    // The same broker is never hit twice in a row: what it says of the last fault takes 2 s to be over.
    victim = (victim + 1 + Math.floor(random() * 2)) % 3;
    const seenBy = (victim + 1) % 3;
    const { name, storeProxy } = cluster.brokers[victim]!;
    await cluster.settled();
    if (lastMs.has(victim)) await storeWorksAgain(cluster, victim, lastMs.get(victim)!);
    const fromMs = performance.now();
    const sinceMs = Date.now();
    lastMs.set(victim, sinceMs);
    fault.begin(storeProxy!);
    if (fault.meanwhile === 'goes on') await load.resumed(ALL, fromMs, RESUME_MS);
    await said(cluster, victim, fault.says, sinceMs);
    if (fault.meanwhile === 'others take over') {
      await cluster.until(({ partitions }) => partitions.every(({ owner }) => owner !== name), seenBy);
      await cluster.logged(victim, SAYS.cutOff, sinceMs);
      // The broker's clients have gone to the others: nobody waits for the end of the fault.
      await load.resumed(ALL, performance.now(), RESUME_MS);
    }
    await goesOn(load, () => storeProxy!.heal(), `${fault.name}, ${name} and Redis`);
    if (fault.says.some(([message]) => message === SAYS.fenced))
      await cluster.logged(victim, SAYS.heartbeatsAgain, sinceMs);
  }
  await cluster.settled();
  await expectClean(load);
});

test('between all brokers and Redis for longer than a lease: all stop serving, and go on afterwards', {
  timeout: 180_000,
}, async () => {
  await using cluster = await startCluster({ proxies: true });
  await using client = cluster.client('all');
  await using load = await startLoad(client, 'all-store-paths');
  const proxies = cluster.brokers.map(({ storeProxy }) => storeProxy!);
  for (const { name, begin, says } of [STORE_CUT, STORE_HALF_OPEN]) {
    await cluster.settled();
    const sinceMs = Date.now();
    for (const proxy of proxies) begin(proxy);
    for (const i of proxies.keys()) await said(cluster, i, says, sinceMs);
    await lasts(BEYOND_MS);
    const heal = (): void => {
      for (const proxy of proxies) proxy.heal();
    };
    await goesOn(load, heal, `${name}, all brokers and Redis`);
    for (const i of proxies.keys()) {
      await cluster.logged(i, SAYS.heartbeatsAgain, sinceMs);
      await cluster.logged(i, SAYS.worksAgain, sinceMs);
    }
  }
  await cluster.settled();
  await expectClean(load);
});

test('between two brokers: what the owner has waits for the network, then goes on', {
  timeout: 240_000,
}, async () => {
  const random = seededRandom(SEED);
  await using cluster = await startCluster({ proxies: true });
  // All clients go through one broker, which reaches what the others own over its links to them.
  const relay = Math.floor(random() * 3);
  await using client = cluster.client(relay);
  await using load = await startLoad(client, 'links');
  for (const fault of shuffled(LINK_FAULTS, random)) {
    const owner = (relay + 1 + Math.floor(random() * 2)) % 3;
    const { name, peerProxy } = cluster.brokers[owner]!;
    await cluster.settled();
    const fromMs = performance.now();
    const sinceMs = Date.now();
    fault.begin(peerProxy!);
    if (fault.meanwhile === 'goes on') await load.resumed(ALL, fromMs, RESUME_MS);
    await said(cluster, relay, fault.says, sinceMs);
    await said(cluster, owner, fault.saysOther ?? [], sinceMs);
    await goesOn(load, () => peerProxy!.heal(), `${fault.name}, ${cluster.brokers[relay]!.name} and ${name}`);
    if (fault.says.length > 0) await cluster.logged(relay, SAYS.linked, sinceMs);
    else expect(messagesSince(cluster, relay, sinceMs)).not.toContain(SAYS.linkClosed);
  }
  await expectClean(load);
});

async function startLoad(client: Client, topic: string): Promise<ClusterLoad> {
  console.log(`${topic}: CLUSTER_SEED=${SEED}`);
  await using stack = new AsyncDisposableStack();
  const load = stack.use(new ClusterLoad(client, { topic, ...LOAD }));
  await load.start();
  await load.resumed(ALL, performance.now(), RESUME_MS);
  stack.move();
  return load;
}

/**
 * Ends the fault, and waits until every subscription has had from every partition what was published after
 * that.
 */
async function goesOn(load: ClusterLoad, heal: () => void, what: string): Promise<void> {
  const healedMs = performance.now();
  heal();
  const gaps = await load.resumed(ALL, healedMs, RESUME_MS);
  console.log(`${what}: everything goes on ${Math.round(Math.max(...gaps.values()))} ms after the fault`);
}

async function expectClean(load: ClusterLoad): Promise<void> {
  const report = await load.finish(60_000);
  console.log(JSON.stringify(report));
  expect(report).toMatchObject({ lost: 0, clientErrors: 0, faults: [] });
}

/** This is how long a fault lasts, not a wait for something. */
function lasts(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function said(cluster: Cluster, i: number, lines: readonly Line[], sinceMs: number): Promise<void> {
  for (const [message, why = /^/] of lines)
    await cluster.logged(i, message, sinceMs, ({ reason }) => why.test(String(reason)));
}

/**
 * Every condition of Redis that a broker has named since is over: one that is not over would not be named
 * again.
 */
async function storeWorksAgain(cluster: Cluster, i: number, sinceMs: number): Promise<void> {
  for (const line of linesSince(cluster, i, sinceMs)) {
    if (line.condition === undefined || line.msg === SAYS.worksAgain) continue;
    const begunMs = Date.parse(String(line.time));
    await cluster.logged(i, SAYS.worksAgain, begunMs, ({ condition }) => condition === line.condition);
  }
}

function linesSince(cluster: Cluster, i: number, sinceMs: number): LogLine[] {
  return cluster.logs(i).filter(({ time }) => Date.parse(String(time)) >= sinceMs);
}

function messagesSince(cluster: Cluster, i: number, sinceMs: number): string[] {
  return linesSince(cluster, i, sinceMs).map(({ msg }) => msg);
}

function shuffled<T>(list: readonly T[], random: () => number): T[] {
  return list
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
