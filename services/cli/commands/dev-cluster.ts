// fanfare dev-cluster: Redis and several brokers on this machine, for people who want to look at a cluster
// and kill parts of it. Everything is kept in {data folder}/dev-cluster; the context that lets other commands
// find the brokers is {data folder}'s own.
//
// dev-processes.ts runs the processes. A broker that was killed comes back by itself after
// COMES_BACK_MS; Redis does not.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { contextPath, writeContext } from '../../certs/context-file.ts';
import { type DevelopmentCertificates, ensureDevelopmentCertificates } from '../../certs/development.ts';
import { readPem, writePair } from '../../certs/pem-files.ts';
import { delay } from '../../client/backoff.ts';
import { type Client, connect } from '../../client/client.ts';
import { fanfareCommand } from '../../node/command.ts';
import { searchPath } from '../config.ts';
import { DevProcess, findInPath } from '../dev-processes.ts';
import { CliError, EXIT } from '../failure.ts';
import { notice } from '../notice.ts';

export interface DevClusterFlags {
  readonly dataDir: string;
  readonly brokers: number;
  /** The first broker's port; the others have the ports after it. */
  readonly port: number;
}

interface DevBroker {
  readonly name: string;
  /** host:port */
  readonly address: string;
  readonly args: readonly string[];
}

const MAX_BROKERS = 16;
const BROKER = join(import.meta.dirname, '../../broker/main.ts');
const START_MS = 30_000;
/** How long a broker that was killed stays away, so that people can watch the others do its work. */
const COMES_BACK_MS = 10_000;
const POLL_MS = 100;

export async function devCluster(flags: DevClusterFlags, signal: AbortSignal): Promise<void> {
  if (flags.brokers > MAX_BROKERS || flags.port + flags.brokers > 65_536) {
    throw new CliError(`give at most ${MAX_BROKERS} brokers, with ports up to 65535`, EXIT.usage);
  }
  const redisServer = findInPath('redis-server', searchPath());
  if (redisServer === undefined) {
    throw new CliError(
      `redis-server is not in PATH: install Redis 7.0 or newer (apt-get install redis-server, brew install redis); a single broker needs none: ${fanfareCommand()} serve`,
    );
  }
  const dir = join(flags.dataDir, 'dev-cluster');
  await using running = new AsyncDisposableStack();
  running.defer(await claim(dir));
  await checkPorts(flags);
  const certificates = await ensureDevelopmentCertificates(dir);
  const redisPort = await freePort();
  const redis = await startRedis(redisServer, dir, redisPort);
  running.defer(() => redis.stop());
  const brokers = await makeBrokers(flags, dir, certificates, redisPort);
  const { ca, clientCert: cert, clientKey: key } = certificates;
  const tls = { ca, cert, key };
  const address = brokers.map((broker) => broker.address).join(',');
  await using client = connect({ address, tls });

  const processes: DevProcess[] = [];
  for (const broker of brokers) {
    const process = startBroker(broker);
    processes.push(process);
    running.defer(() => process.stop());
    // The first broker makes the cluster; any other would be right to refuse an empty store.
    if (processes.length === 1) await alive(client, 1, processes, signal);
  }
  await alive(client, brokers.length, processes, signal);
  await writeContext(contextPath(flags.dataDir), { address, project: 'default', tls });
  if (signal.aborted) return;
  notice(greeting(brokers, processes));
  for (const process of processes) process.comeBack(COMES_BACK_MS, signal);
  const redisEnded = redis.ended.then(() => {
    if (!signal.aborted) notice('dev-cluster | Redis has ended: Ctrl-C, then start again');
  });
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  notice('dev-cluster | stopping: the brokers one after the other, then Redis');
  await running.disposeAsync();
  await redisEnded;
}

/** Claims the folder, since two Redis servers on it would ruin its data. Resolves to what gives it back. */
async function claim(dir: string): Promise<() => Promise<void>> {
  await mkdir(dir, { recursive: true });
  const file = join(dir, 'pid');
  const pid = Number(await readFile(file, 'utf8').catch(() => '0'));
  if (pid > 0 && pid !== process.pid && isAlive(pid)) {
    throw new CliError(
      `another dev-cluster (pid ${pid}) uses ${dir}: stop it, or give another --data-dir and --port`,
    );
  }
  await writeFile(file, String(process.pid));
  return () => rm(file, { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: the process is alive, and somebody else's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Comes before anything is started: else one broker among several would end, and say why in its lines. */
async function checkPorts({ brokers, port }: DevClusterFlags): Promise<void> {
  for (let each = port; each < port + brokers; each += 1) {
    await freePort(each).catch((cause: NodeJS.ErrnoException) => {
      throw new CliError(
        cause.code === 'EADDRINUSE'
          ? `127.0.0.1:${each} is taken, perhaps by another broker: stop it, or choose other ports with --port`
          : `can't listen on 127.0.0.1:${each}: ${cause.message}`,
      );
    });
  }
}

async function makeBrokers(
  { brokers, port }: DevClusterFlags,
  dir: string,
  certificates: DevelopmentCertificates,
  redisPort: number,
): Promise<DevBroker[]> {
  const { issueServer } = await import('../../certs/issue.ts');
  const caKey = await readPem(join(dir, 'certs', 'ca.key'));
  const ca = { cert: (await readPem(certificates.ca))!, key: caKey ?? '' };
  const made: DevBroker[] = [];
  for (let i = 0; i < brokers; i++) {
    const name = `broker-${i + 1}`;
    const address = `127.0.0.1:${port + i}`;
    const files = { cert: join(dir, name, 'tls.crt'), key: join(dir, name, 'tls.key') };
    await writePair(files.cert, files.key, await issueServer(ca, { broker: name }));
    const args = [
      ...['--listen', address, '--name', name, '--data-dir', join(dir, name)],
      ...['--store', `redis://127.0.0.1:${redisPort}`],
      ...['--tls-cert', files.cert, '--tls-key', files.key, '--tls-ca', certificates.ca],
      ...['--log-format', 'json'],
      ...(i === 0 ? ['--init-cluster'] : []),
    ];
    made.push({ name, address, args });
  }
  return made;
}

function startBroker({ name, args }: DevBroker): DevProcess {
  return DevProcess.start({ name, command: process.execPath, args: [BROKER, ...args] });
}

async function startRedis(command: string, dir: string, port: number): Promise<DevProcess> {
  const folder = join(dir, 'redis');
  await mkdir(folder, { recursive: true });
  const args = [
    '--bind',
    '127.0.0.1',
    '--port',
    String(port),
    '--dir',
    folder,
    '--save',
    '',
    '--appendonly',
    'yes',
  ];
  return DevProcess.start({ name: 'redis', command, args, quiet: true });
}

/** Resolves when so many brokers know of each other. Rejects when a process ends, or after 30 s. */
async function alive(
  client: Client,
  count: number,
  processes: readonly DevProcess[],
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = Date.now() + START_MS;
  while (!signal.aborted) {
    const ended = processes.find((process) => process.hasEnded);
    if (ended !== undefined) throw new CliError(`${ended.name} did not start: see its lines above`);
    if (Date.now() > deadlineMs)
      throw new CliError('the brokers did not find each other within 30 s', EXIT.timeout);
    try {
      const { brokers } = await client.cluster.get({ timeoutMs: 2_000, signal });
      if (brokers.length >= count) return;
    } catch {
      // The brokers are not there yet; if something is wrong it stands in their own lines.
    }
    await delay(POLL_MS, signal).catch(() => {
      // Interrupted: the loop ends.
    });
  }
}

function greeting(brokers: readonly DevBroker[], processes: readonly DevProcess[]): string {
  const fanfare = fanfareCommand();
  const list = brokers.map(({ name, address }, i) => `    ${name}  ${address}  pid ${processes[i]!.pid}`);
  const [first, last] = [brokers[0]!.name, processes.at(-1)!];
  const experiments = [
    [`seq 100000 | ${fanfare} pub orders --key-match '.$'`, ''],
    [
      `kill -9 ${last.pid}`,
      `${last.name}: the others take over; it comes back after ${COMES_BACK_MS / 1000} s`,
    ],
    [`${fanfare} cluster drain ${first} --wait`, 'gives everything to the others, without a gap'],
    [`${fanfare} cluster drain ${first} --revoke`, 'takes its part again'],
  ] as const;
  const width = Math.max(...experiments.map(([command]) => command.length));
  return [
    '',
    `  A cluster of ${brokers.length} over Redis is ready (mutual TLS):`,
    ...list,
    '',
    '  In a second terminal, in this folder:',
    `    ${fanfare} topic create orders --partitions 12`,
    `    ${fanfare} subscription create audit --topic orders --ordering`,
    `    ${fanfare} sub audit`,
    '  In a third:',
    `    ${fanfare} cluster --watch`,
    '  And in a fourth:',
    ...experiments.map(([command, what]) =>
      what === '' ? `    ${command}` : `    ${command.padEnd(width)}  # ${what}`,
    ),
    '',
    '  Ctrl-C stops all.',
    '',
  ].join('\n');
}

/** Resolves to the port, for 0 to a free one. Rejects if the port is taken. */
function freePort(port = 0): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === 'object' && bound !== null ? bound.port : port));
    });
  });
}
