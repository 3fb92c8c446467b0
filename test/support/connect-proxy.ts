// An HTTP proxy that takes CONNECT, writes down who wanted where, and leads all of them to one place.
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

export class ConnectProxy implements AsyncDisposable {
  /** The proxy as a variable of the environment gives it: http://127.0.0.1:port */
  readonly url: string;
  /** host:port of every CONNECT, in order. */
  readonly wanted: string[] = [];
  /** Connections ever accepted, whatever came on them. */
  accepted = 0;
  /** The status line of its answer; anything but 200 refuses. */
  answer = '200 Connection established';
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(server: Server, target: string) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const keep = (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    };
    server.on('connection', (socket) => {
      this.accepted += 1;
      keep(socket);
    });
    server.on('connect', (request, client: Socket, head) => {
      this.wanted.push(request.url ?? '');
      client.write(`HTTP/1.1 ${this.answer}\r\n\r\n`);
      if (!this.answer.startsWith('200')) return client.end();
      const [host, port] = target.split(':');
      const broker = connect(Number(port), host);
      keep(broker);
      broker.write(head);
      client.pipe(broker).pipe(client);
      return undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** `target` is the host:port to which everybody is led. */
export async function startConnectProxy(target: string): Promise<ConnectProxy> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return new ConnectProxy(server, target);
}
