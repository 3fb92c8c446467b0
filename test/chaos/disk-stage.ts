// A broker on the embedded store, on a small disk of its own, which is filled while clients publish until at
// most 300 kB are left; sometimes the broker is killed and started again on the full disk. Each visit has a
// new disk and broker.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type LogLine, startBroker } from '../support/broker.ts';
import { mountSmallDisk } from '../support/small-disk.ts';
import type { ChaosClients } from './clients.ts';
import { startLoad } from './load.ts';

const DISK_MEBIBYTES = 160;
/** A load heavy enough to fill in seconds what the journal has room for. */
const LOAD = { partitions: 4, publishers: 3, each: { keys: 10, perSecond: 12, bytes: 20_000 } };
const REFUSED_TIMEOUT_MS = 60_000;

let visits = 0;

/**
 * `recovered` resolves when all that has been answered until then is delivered; `logs` gets the broker's
 * lines.
 */
export async function fillDisk(
  clients: ChaosClients,
  random: () => number,
  recovered: () => Promise<void>,
  logs: (name: string, lines: readonly LogLine[]) => void,
): Promise<string> {
  await using opened = new AsyncDisposableStack();
  const disk = await mountSmallDisk(DISK_MEBIBYTES);
  if (disk === undefined)
    throw new Error('a full disk needs one to fill: run as root on Linux, or leave it out by --only');
  opened.defer(() => disk.unmount());
  const topic = `disk-${++visits}`;
  const dataDir = join(disk.dir, 'data');
  let broker = await startBroker({ dataDir });
  opened.defer(() => broker.kill());
  const lines: LogLine[] = [];
  opened.defer(() => logs(topic, [...lines, ...broker.logLines]));
  const client = opened.use(broker.connect());
  const door = { addresses: [broker.address], tls: broker.tls };
  const subscriptions = [
    { name: `${topic}-ordered`, ordered: true, streams: 2, pulls: 0 },
    { name: `${topic}-plain`, ordered: false, streams: 1, pulls: 1, nacks: 0.01 },
  ];
  const load = await startLoad(clients, [client.admin], door, { topic, ...LOAD, subscriptions });
  await delay(2_000 + random() * 2_000);

  const leftBytes = Math.floor(random() * 2) * Math.floor(random() * 300_000);
  const refused = clients.next(
    (event) =>
      event.ev === 'error' && event.code === 'ResourceExhausted' && event.p?.startsWith(`${topic}-`) === true,
    REFUSED_TIMEOUT_MS,
  );
  await Promise.all([refused, disk.fill(leftBytes)]);
  const fullMs = 1_000 + random() * 4_000;
  const killed = random() < 0.5;
  await delay(fullMs / 2);
  if (killed) {
    await broker.kill();
    lines.push(...broker.logLines);
    broker = await startBroker({ dataDir, listen: broker.address });
  }
  await delay(fullMs / 2);
  await disk.free();
  await recovered();
  await load.stopPublishing();
  await recovered();
  await load.stop();
  await load.delete();
  const { code } = await broker.stop();
  if (code !== 0) throw new Error(`the broker on the small disk ended with code ${code}`);
  const how = killed ? ', its broker killed and started again meanwhile' : '';
  return `a disk with ${leftBytes} bytes left for ${(fullMs / 1000).toFixed(1)} s${how}`;
}
