// Listens on an address, and gives away each connection that comes. Invariant: it listens on every address
// of this machine that the host's name has, on the same port, or on none.
import { lookup } from 'node:dns/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { BrokerError } from '../../core/errors.ts';

export interface Listen {
  readonly host: string;
  readonly port: number;
}

export interface Listener {
  readonly port: number;
  /** Takes no more connections; those that came stay. */
  close(): void;
}

/** FAILED_PRECONDITION if the address can't be had. */
export async function listen(
  at: Listen,
  onConnection: (socket: Socket) => void,
  /** A connection could not be taken: there are no descriptors left. */
  onProblem: (error: Error) => void,
): Promise<Listener> {
  const servers: Server[] = [];
  const close = (): void => {
    for (const server of servers) server.close();
  };
  try {
    let { port } = at;
    let missing: unknown;
    for (const host of await addressesOf(at.host)) {
      // Nagle's algorithm would hold small answers back.
      const server = createServer({ noDelay: true }, onConnection);
      try {
        port = await bind(server, host, port);
      } catch (error) {
        // "localhost" is ::1, too, also where there is no IPv6.
        if ((error as NodeJS.ErrnoException).code !== 'EADDRNOTAVAIL') throw error;
        missing = error;
        continue;
      }
      server.on('error', onProblem);
      servers.push(server);
    }
    if (servers.length === 0) throw missing;
    return { port, close };
  } catch (error) {
    close();
    throw bindError(at, error as NodeJS.ErrnoException);
  }
}

async function addressesOf(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true });
  return [...new Set(found.map(({ address }) => address))];
}

function bind(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve((server.address() as { port: number }).port);
    });
  });
}

function bindError({ host, port }: Listen, cause: NodeJS.ErrnoException): BrokerError {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const reason =
    cause.code === 'EADDRINUSE'
      ? 'another process listens there: stop it, or choose another address with --listen'
      : cause.code === 'EACCES'
        ? 'not allowed: ports below 1024 need privileges; choose another with --listen'
        : cause.message;
  return new BrokerError('FAILED_PRECONDITION', `can't listen on ${address}: ${reason}`, { cause });
}
