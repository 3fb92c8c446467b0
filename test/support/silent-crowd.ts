// Connections that say nothing, as many as somebody without a certificate can open.
import { once } from 'node:events';
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';

/** Silent connections to one port, each opened again as soon as it is closed. */
export class SilentCrowd implements AsyncDisposable {
  opened = 0;
  readonly #sockets = new Set<Socket>();
  #isOver = false;

  static open(url: string, size: number, localAddress = '127.0.0.1'): SilentCrowd {
    const crowd = new SilentCrowd();
    for (let i = 0; i < size; i += 1)
      crowd.#add({ port: Number(new URL(url).port), host: '127.0.0.1', localAddress });
    return crowd;
  }

  #add(to: TcpNetConnectOpts): void {
    const socket = connect(to);
    this.opened += 1;
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.resume();
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (!this.#isOver) this.#add(to);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** A connection to a port of this machine, from 127.0.0.1 unless said otherwise. */
export async function opened(port: number, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket.resume();
}
