// Clients that the broker has no reason to listen to: no TLS, an old one, no certificate, another CA's.

import { readFile } from 'node:fs/promises';
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { createCa, issueClient } from '../../services/certs/issue.ts';
import type { BrokerProcess } from './broker.ts';
import { CHECK_CALL } from './fuzz-raw.ts';

export interface Stranger {
  readonly name: string;
  /**
   * Calls health's Check; resolves with the first frame of HTTP/2 that comes back in full, or with undefined
   * if the broker hangs up.
   */
  answer(): Promise<string | undefined>;
}

export async function strangers({ address, tls }: BrokerProcess): Promise<readonly Stranger[]> {
  const host = address.slice(0, address.lastIndexOf(':'));
  const port = Number(address.split(':').at(-1));
  const [ca, cert, key] = await Promise.all([readFile(tls.ca), readFile(tls.cert), readFile(tls.key)]);
  const foreign = await issueClient(await createCa({ name: 'Another CA' }), { principal: 'tester' });
  const secure = (name: string, options: ConnectionOptions): Stranger => ({
    name,
    answer: () => heard(connectTls({ host, port, ca, ALPNProtocols: ['h2'], ...options }), CHECK_CALL),
  });
  const plain = (name: string, bytes: Buffer): Stranger => ({
    name,
    answer: () => heard(connectTcp({ host, port }), bytes),
  });
  const hello = Buffer.from('16030100050100000100', 'hex');
  const kinds = [
    secure('no certificate', {}),
    secure("another CA's certificate", { cert: foreign.cert, key: foreign.key }),
    secure('TLS 1.2', { cert, key, maxVersion: 'TLSv1.2' }),
    secure('another protocol by ALPN', { cert, key, ALPNProtocols: ['spdy/1'] }),
    plain('plaintext HTTP/2', CHECK_CALL),
    plain(
      'plaintext HTTP/1.1',
      Buffer.from('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello'),
    ),
    plain('a hello that lies about its length', Buffer.concat([hello, Buffer.alloc(20_000, 0xff)])),
    plain('zeros', Buffer.alloc(50_000)),
  ];
  return Array.from({ length: 10 }, () => kinds).flat();
}

/**
 * Resolves with the first answer: headers or data, but neither TLS alerts nor HTTP/2's goodbye (settings,
 * GOAWAY).
 */
function heard(socket: Socket, bytes: Buffer): Promise<string | undefined> {
  return new Promise((resolve) => {
    let rest: Buffer = Buffer.alloc(0);
    const timer = setTimeout(() => resolve('nothing for 20 s, and the connection is open'), 20_000);
    const settle = (answer: string | undefined): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    // Alerts and resets mean that it hung up.
    socket.on('error', () => {});
    socket.on('close', () => settle(undefined));
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      // 0x15 is a TLS alert in plain sight.
      while (rest[0] !== 0x15 && rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
        const type = rest[3]!;
        if (type <= 1) return settle(`a frame of type ${type}`);
        rest = rest.subarray(9 + rest.readUIntBE(0, 3));
      }
    });
    socket.write(bytes);
  });
}
