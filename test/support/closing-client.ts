// A program that leaves publishers in every state in which they wait for something, closes its client, and
// then has to end by itself. Its broker must accept what is called "good", refuse "full" and answer nothing
// else.
//
//   node closing-client.ts ADDRESS CA CERT KEY
import { connect } from '../../services/client/client.ts';

const [address = '', ca = '', cert = '', key = ''] = process.argv.slice(2);
const HOUR_MS = 3_600_000;
const client = connect({ address, tls: { ca, cert, key } });
await client.publisher('orders').publish({ data: 'good' });

const lingering = client.publisher('orders', { batch: { lingerMs: 60_000 } });
const ignored = client.publisher('orders', { batch: { maxMessages: 1 } });
const { promise: refused, resolve } = Promise.withResolvers<unknown>();
const backingOff = client.publisher('orders', {
  backoff: { initialMs: HOUR_MS, maxMs: HOUR_MS },
  retryDeadlineMs: 4 * HOUR_MS,
  onRetry: resolve,
});
const aborter = new AbortController();
const aborted = client.publisher('orders', { batch: { lingerMs: 60_000 }, signal: aborter.signal });
const outcomes = [
  lingering.publish({ data: 'x' }),
  aborted.publish({ data: 'x' }),
  ...['x', 'y', 'z'].map((data) => ignored.publish({ data, orderingKey: 'k' })),
  backingOff.publish({ data: 'full' }),
].map((outcome) =>
  outcome.then(
    () => 'stored',
    (error) => error.code,
  ),
);
await refused;
aborter.abort();
await Promise.all([lingering, ignored, backingOff].map((publisher) => publisher.close({ timeoutMs: 0 })));
await client.close();
console.log((await Promise.all(outcomes)).join(' '));
