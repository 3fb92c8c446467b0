// The lock that keeps a data folder to one process; it is taken before any data in the folder is touched.
//
// A lock must end with its process, kill -9 included, and must not be fooled by a process id that was given
// again or that belongs to another container. The kernel gives that for a listening Unix socket: it answers
// connections as long as its process lives (stopped or busy, too) and never after. So the owner is the
// process that listens on the socket named by the newest claim:
//
//   claim-<n>   a file {pid, host, socket}. It appears whole and at once (link), each number once; the
//               highest counts.
//   <id>.sock   the socket that the claim's process listened on before it made the claim.
//
// A starter looks at the highest claim. If its socket answers, the start is refused. Otherwise the starter
// makes the next claim: of several starters one gets the number, the others look again. A claim is removed
// only once there is a higher one, so numbers never go back; whoever was too slow finds a higher claim than
// its own, removes its own and looks again.
import { randomBytes } from 'node:crypto';
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BrokerError } from '../../core/errors.ts';
import { isFullCode, messageOf, refuseFolder } from './storage-errors.ts';

/** Unix socket paths have at most 104 bytes on some systems. */
const MAX_SOCKET_PATH_BYTES = 100;
const LOCK_FOLDER = 'lock';
/** A round that is lost was won by another starter. None of those lives on, or the next round refuses. */
const MAX_ROUNDS = 20;

interface Claim {
  readonly pid: number;
  readonly host: string;
  readonly socket: string;
}

export interface FolderLock {
  release(): Promise<void>;
}

/**
 * FAILED_PRECONDITION if another process has the folder (naming it), or if the folder can't be locked.
 * UNAVAILABLE if too many processes start at once. On a full disk it rejects as the disk does.
 */
export async function lockFolder(dir: string): Promise<FolderLock> {
  const lockDir = join(dir, LOCK_FOLDER);
  await mkdir(lockDir, { recursive: true, mode: 0o700 });
  const socketName = `${randomBytes(6).toString('hex')}.sock`;
  const server = await listen(lockDir, socketName).catch((error: unknown) => {
    if (isFullCode(error)) throw error;
    throw refuseFolder(
      dir,
      `it can not be locked (${messageOf(error)})`,
      'Put it on a local file system',
      error,
    );
  });
  try {
    await claim(dir, lockDir, { pid: process.pid, host: hostname(), socket: socketName });
  } catch (error) {
    await closeServer(server, lockDir, socketName);
    throw error;
  }
  return { release: () => closeServer(server, lockDir, socketName) };
}

async function claim(dir: string, lockDir: string, own: Claim): Promise<void> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const highest = Math.max(0, ...(await claimNumbers(lockDir)));
    if (highest > 0) await refuseIfAlive(dir, lockDir, highest);
    const number = highest + 1;
    if (!(await linkClaim(lockDir, number, own))) continue;
    if (Math.max(...(await claimNumbers(lockDir))) > number) {
      await rm(claimPath(lockDir, number), { force: true });
      continue;
    }
    return removeOlder(lockDir, number, own.socket);
  }
  throw new BrokerError(
    'UNAVAILABLE',
    `data folder ${dir}: too many processes start here at once; try again`,
  );
}

async function refuseIfAlive(dir: string, lockDir: string, number: number): Promise<void> {
  const holder = await readClaim(lockDir, number);
  if (!holder || !(await answers(lockDir, holder.socket))) return;
  throw new BrokerError(
    'FAILED_PRECONDITION',
    `data folder ${dir} is in use by process ${holder.pid} on ${holder.host}: stop that broker first, or choose another folder`,
  );
}

async function readClaim(lockDir: string, number: number): Promise<Claim | undefined> {
  try {
    return JSON.parse(await readFile(claimPath(lockDir, number), 'utf8')) as Claim;
  } catch (error) {
    // The claim is gone (there is a newer one, as linkClaim or the check behind it will tell), or is none of
    // ours.
    if (codeOf(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** False if somebody else has the number already. */
async function linkClaim(lockDir: string, number: number, own: Claim): Promise<boolean> {
  const draft = join(lockDir, `${own.socket}.claim`);
  try {
    await writeFile(draft, JSON.stringify(own), { mode: 0o600, flush: true });
    await link(draft, claimPath(lockDir, number));
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

async function removeOlder(lockDir: string, number: number, ownSocket: string): Promise<void> {
  for (const older of await claimNumbers(lockDir)) {
    if (older >= number) continue;
    const claim = await readClaim(lockDir, older);
    await rm(claimPath(lockDir, older), { force: true });
    if (claim && claim.socket !== ownSocket) await rm(join(lockDir, claim.socket), { force: true });
  }
}

async function claimNumbers(lockDir: string): Promise<number[]> {
  const names = await readdir(lockDir);
  return names.flatMap((name) => (/^claim-\d+$/.test(name) ? [Number(name.slice('claim-'.length))] : []));
}

function claimPath(lockDir: string, number: number): string {
  return join(lockDir, `claim-${number}`);
}

async function listen(lockDir: string, name: string): Promise<Server> {
  const server = createServer((connection) => connection.destroy());
  await withShortPath(lockDir, name, async (path) => {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  });
  return server.unref();
}

/** Only "nobody listens" counts as dead: whatever else goes wrong, the folder stays the other's. */
async function answers(lockDir: string, name: string): Promise<boolean> {
  return withShortPath(
    lockDir,
    name,
    (path) =>
      new Promise<boolean>((resolve) => {
        const socket = connect(path);
        socket.once('connect', () => {
          socket.destroy();
          resolve(true);
        });
        socket.once('error', (error) => resolve(!['ECONNREFUSED', 'ENOENT'].includes(codeOf(error) ?? '')));
      }),
  );
}

/**
 * Calls fn with a path for a socket in lockDir that is short enough: through a symbolic link if it has to be.
 */
async function withShortPath<T>(lockDir: string, name: string, fn: (path: string) => Promise<T>): Promise<T> {
  const path = join(lockDir, name);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return fn(path);
  const shortDir = await mkdtemp(join(tmpdir(), 'ff-'));
  try {
    await symlink(lockDir, join(shortDir, 'l'));
    return await fn(join(shortDir, 'l', name));
  } finally {
    await rm(shortDir, { recursive: true, force: true });
  }
}

async function closeServer(server: Server, lockDir: string, socketName: string): Promise<void> {
  await new Promise<void>((resolve) => server.close(() => resolve()));
  await rm(join(lockDir, socketName), { force: true });
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}
