// The process behind scale-pod.ts. Its standard output says "ready", then each message as it was processed,
// one line of JSON each.
import { connect as connectTcp, createServer } from 'node:net';
import { connect } from '../../services/client/client.ts';
import type { ScalePodOptions } from './scale-pod.ts';

/**
 * The address of a forwarder that reaches the broker from the given IP address, which gRPC itself can't
 * choose.
 */
function reachedFrom(ip: string, address: string): Promise<string> {
  const [host = '', port = ''] = address.split(':');
  const server = createServer((inner) => {
    const outer = connectTcp({ host, port: Number(port), localAddress: ip });
    inner.pipe(outer).pipe(inner);
    inner.on('error', () => outer.destroy());
    outer.on('error', () => inner.destroy());
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${(server.address() as { port: number }).port}`));
  });
}

const options = JSON.parse(process.argv[2] ?? '{}') as ScalePodOptions;
// It must not outlive the test, however that ends.
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL')).resume();
process.on('SIGTERM', () => process.exit(0));

const { subscription, concurrency, maxOutstandingMessages, workMs, tls, project } = options;
const client = connect({ address: await reachedFrom(options.ip, options.address), tls, project });
await client.reach();
client.subscriber(
  subscription,
  async (message) => {
    const atMs = performance.timeOrigin + performance.now();
    // This wait stands for the work.
    await new Promise((resolve) => setTimeout(resolve, workMs));
    const data = Buffer.from(message.data).toString();
    const { orderingKey: key, deliveryAttempt: attempt } = message;
    process.stdout.write(`${JSON.stringify({ data, key, attempt, atMs })}\n`);
  },
  { concurrency, maxOutstandingMessages },
);
process.stdout.write('ready\n');
