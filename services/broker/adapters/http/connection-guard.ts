// The connections of a small HTTP port, which strangers may reach: bounded, in all and for each address, and
// none of them may stay silent. Invariant: a new connection is always let in, and another closed for it, so
// that neither silence nor slow reading keeps anybody out.
//
// The oldest silent connection of the address that has most has to go; where none is silent, the oldest.
// Strangers with few addresses so close their own connections, not those of the kubelet or of Prometheus.
// Nobody has to go before what a new one has sent already is read: of many that come at once and ask, all
// would seem to be silent.
import type { Server, Socket } from 'node:net';
import { Counts } from '../../core/counts.ts';

export interface GuardOptions {
  readonly maxConnections: number;
  /** Absent: as many as in all. */
  readonly maxPerAddress?: number;
  /** How long a connection may take to ask. */
  readonly maxSilentMs: number;
  /** How long an answer may take to be read. */
  readonly maxAnswerMs: number;
}

export interface ConnectionGuard {
  /** The connection has asked: it is no longer silent, and is closed when the answer takes too long. */
  onAsked(socket: Socket): void;
  closeAll(): void;
}

interface Guarded {
  readonly address: string;
  isSilent: boolean;
  /** Whether what it had sent already has been read. */
  hadTurn: boolean;
  timer: NodeJS.Timeout;
}

export function guardConnections(server: Server, options: GuardOptions): ConnectionGuard {
  const { maxConnections, maxPerAddress = maxConnections, maxSilentMs, maxAnswerMs } = options;
  /** The oldest first. */
  const guarded = new Map<Socket, Guarded>();
  const counts = new Counts();

  const remove = (socket: Socket): void => {
    const entry = guarded.get(socket);
    if (entry === undefined) return;
    clearTimeout(entry.timer);
    guarded.delete(socket);
    counts.add(entry.address, -1);
  };
  const close = (socket: Socket): void => {
    remove(socket);
    socket.destroy();
  };
  const oldestOf = (addresses: readonly string[], which: (entry: Guarded) => boolean): Socket | undefined => {
    for (const address of addresses) {
      for (const [socket, entry] of guarded) if (entry.address === address && which(entry)) return socket;
    }
    return undefined;
  };
  const closeOne = (addresses: readonly string[]): void => {
    const victim =
      oldestOf(addresses, ({ isSilent, hadTurn }) => isSilent && hadTurn) ??
      oldestOf(addresses, ({ hadTurn }) => hadTurn);
    if (victim !== undefined) close(victim);
  };
  const byCount = (): string[] => [...counts].sort(([, a], [, b]) => b - a).map(([address]) => address);

  server.on('connection', (socket: Socket) => {
    socket.on('error', () => close(socket));
    socket.once('close', () => remove(socket));
    const address = socket.remoteAddress ?? '';
    const timer = setTimeout(() => close(socket), maxSilentMs).unref();
    const entry = { address, isSilent: true, hadTurn: false, timer };
    guarded.set(socket, entry);
    counts.add(address, 1);
    // What it has sent already is read between the two.
    setImmediate(() =>
      setImmediate(() => {
        entry.hadTurn = true;
        if (counts.of(address) > maxPerAddress) closeOne([address]);
        else if (guarded.size > maxConnections) closeOne(byCount());
      }),
    );
  });

  return {
    onAsked(socket) {
      const entry = guarded.get(socket);
      if (entry === undefined) return;
      clearTimeout(entry.timer);
      entry.isSilent = false;
      entry.timer = setTimeout(() => close(socket), maxAnswerMs).unref();
    },
    closeAll() {
      for (const socket of [...guarded.keys()]) close(socket);
    },
  };
}
