// Connections: to whom, with which certificates, and why not.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCa, issueClient, issueServer } from '../../../services/certs/issue.ts';
import { type CertificatePair, replaceFile } from '../../../services/certs/pem-files.ts';
import { issueExpired } from '../../support/grpc-rig.ts';
import { assertFails, assertOnce, messages, texts } from '../checks.ts';
import type { Scenario } from '../scenario.ts';
import type { ConnectOptions, Scene } from '../scene.ts';

/** One side's certificates: paths of PEM files in a folder of their own. */
interface CertificateFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

async function certificateFiles(
  scene: Scene,
  ca: CertificatePair,
  own: CertificatePair,
): Promise<CertificateFiles> {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-client-'));
  scene.use({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) });
  const files = {
    ca: join(folder, 'ca.crt'),
    cert: join(folder, 'tls.crt'),
    key: join(folder, 'tls.key'),
  };
  await replaceFiles(files, ca, own);
  return files;
}

async function replaceFiles(
  files: CertificateFiles,
  ca: CertificatePair,
  own: CertificatePair,
): Promise<void> {
  await replaceFile(files.ca, ca.cert, 0o600);
  await replaceFile(files.key, own.key, 0o600);
  await replaceFile(files.cert, own.cert, 0o600);
}

function serverArgs({ ca, cert, key }: CertificateFiles): string[] {
  return ['--tls-ca', ca, '--tls-cert', cert, '--tls-key', key];
}

/** A listener on a free port, which accepts connections and closes them at once. */
async function listener(
  scene: Scene,
): Promise<{ address: string; accepted: () => number; close(): Promise<void> }> {
  let accepted = 0;
  const server = createServer((socket) => {
    accepted += 1;
    socket.on('error', () => {});
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const close = (): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
  scene.use({ [Symbol.asyncDispose]: close });
  return { address: `127.0.0.1:${port}`, accepted: () => accepted, close };
}

export const connecting: readonly Scenario[] = [
  {
    name: 'why a connection fails',
    rule: 'A broker that can’t be reached is UNAVAILABLE, and the error says why: nobody listens, TLS against plaintext, or whose certificate is wrong, and how.',
    needs: ['reasons'],
    async play(scene) {
      const [ca, foreignCa] = await Promise.all([createCa(), createCa({ name: 'Foreign CA' })]);
      const [client, foreign, server, expired] = await Promise.all([
        issueClient(ca, { principal: 'tester' }),
        issueClient(foreignCa, { principal: 'stranger' }),
        issueServer(ca),
        issueExpired(ca),
      ]);
      // The broker listens at an address that its certificate does not name; the certificate does name the
      // proxy's.
      const args = serverArgs(await certificateFiles(scene, ca, server));
      await scene.ownBroker({ listen: '127.0.0.2:0', args });
      const { address } = await scene.proxy();
      const good = await certificateFiles(scene, ca, client);
      const nobody = await listener(scene);
      await nobody.close();
      const plain = await listener(scene);
      const cases: [what: string, options: ConnectOptions, words: RegExp][] = [
        ['nobody', { address: nobody.address, tls: good }, /refused|nobody listens/i],
        ['insecure', { address, tls: 'none' }, /TLS|certificate/i],
        ['plaintext', { address: plain.address, tls: good }, /TLS|reset|closed|hang up|disconnected/i],
        [
          'foreignCa',
          { address, tls: await certificateFiles(scene, foreignCa, client) },
          /CA\b|issuer|trust/,
        ],
        ['stranger', { address, tls: await certificateFiles(scene, ca, foreign) }, /certificate/i],
        ['expired', { address, tls: await certificateFiles(scene, ca, expired) }, /expired/i],
        ['otherName', { address: scene.broker.address, tls: good }, /127\.0\.0\.2|\bname/],
      ];
      for (const [what, options, words] of cases) {
        await scene.connect({ client: what, ...options });
        await assertFails(scene.reach(what), 'UNAVAILABLE', words);
      }
      await scene.connect({ address, tls: good });
      await scene.reach();
    },
  },
  {
    name: 'loopback is not proxied',
    rule: 'A broker on loopback is connected to directly, whatever the environment says of proxies.',
    needs: ['proxies'],
    async play(scene) {
      const trap = await listener(scene);
      const proxy = `http://${trap.address}`;
      const driver = await scene.anotherDriver({
        ...{ http_proxy: proxy, https_proxy: proxy, grpc_proxy: proxy, all_proxy: proxy },
        ...{ HTTP_PROXY: proxy, HTTPS_PROXY: proxy, GRPC_PROXY: proxy, ALL_PROXY: proxy },
      });
      await scene.connect({}, driver);
      await driver.ask('reach', { client: 'main', timeoutMs: 10_000 });
      assert.equal(trap.accepted(), 0, 'it has asked the proxy');
    },
  },
  {
    name: 'a proxy can be excluded',
    rule: 'NO_PROXY and no_proxy exclude hosts from proxies, in whichever case they are written.',
    needs: ['proxies'],
    async play(scene) {
      const trap = await listener(scene);
      const proxy = `http://${trap.address}`;
      const port = scene.broker.address.split(':').at(-1);
      for (const name of ['NO_PROXY', 'no_proxy']) {
        const driver = await scene.anotherDriver({
          https_proxy: proxy,
          http_proxy: proxy,
          [name]: 'localhost',
        });
        await scene.connect({ address: `localhost:${port}` }, driver);
        await driver.ask('reach', { client: 'main', timeoutMs: 10_000 });
      }
      assert.equal(trap.accepted(), 0, 'it has asked the proxy');
    },
  },
  {
    name: 'renewed certificates',
    rule: 'A client that was given the paths of its certificates connects again with what is in the files then.',
    needs: ['certificateFiles', 'reconnect'],
    async play(scene) {
      const [ca, newCa] = await Promise.all([createCa({ name: 'old' }), createCa({ name: 'new' })]);
      const server = await certificateFiles(scene, ca, await issueServer(ca));
      const files = await certificateFiles(scene, ca, await issueClient(ca, { principal: 'tester' }));
      const first = await scene.ownBroker({ args: serverArgs(server) });
      const administer = first.connect({ tls: files, project: scene.project });
      await administer.admin.createTopic('orders', { partitions: 1 });
      await administer.admin.createSubscription('audit', { topic: 'orders' });
      await administer.close();
      await scene.connect({ tls: files });
      await scene.publisher();
      const consumer = await scene.consume();
      await scene.publish(messages(1, 'before'));
      await consumer.hasAcked(['before0']);
      // From here on the old CA is worth nothing on either side.
      await first.stop();
      await replaceFiles(server, newCa, await issueServer(newCa));
      await replaceFiles(files, newCa, await issueClient(newCa, { principal: 'tester' }));
      await scene.restartBroker({ args: serverArgs(server) });
      await scene.publish(messages(1, 'after'));
      await consumer.hasAcked(['after0']);
      assertOnce(consumer, ['before0', 'after0']);
    },
  },
  {
    name: 'several addresses',
    rule: 'Of several addresses one that does not answer is left for the next, when connecting and later.',
    needs: ['reconnect'],
    async play(scene) {
      await scene.createTopic();
      await scene.createSubscription();
      const proxies = [await scene.proxy(), await scene.proxy()];
      // One of the proxies answers nothing: connections to it are made, and stay silent.
      proxies[0]!.set('both', { holds: true });
      await scene.connect({ address: proxies.map(({ address }) => address).join(','), keepaliveMs: 500 });
      await scene.publisher();
      const consumer = await scene.consume();
      await scene.publish(messages(1, 'first'));
      await consumer.hasAcked(['first0']);
      // Now the other proxy goes silent. The leases of the old stream end only once the broker learns that it
      // is gone.
      const retries = consumer.retries;
      proxies[0]!.heal();
      proxies[1]!.set('both', { holds: true });
      await consumer.retried(retries + 1);
      proxies[1]!.refuse(true);
      proxies[1]!.cut();
      await scene.publish(messages(1, 'second'));
      await consumer.hasAcked(['second0']);
    },
  },
  {
    name: 'many consumers',
    rule: 'A client has as many consumers as it is asked for, also more than the 1,000 streams of a connection, and still publishes and calls.',
    needs: ['manyConsumers'],
    async play(scene) {
      const COUNT = 1_050;
      await scene.createTopic(1);
      const names = texts(COUNT, 'audit-');
      for (let from = 0; from < COUNT; from += 50) {
        await Promise.all(names.slice(from, from + 50).map((name) => scene.createSubscription(name)));
      }
      await scene.connect();
      await scene.publisher();
      const consumers = await Promise.all(names.map((subscription) => scene.consume({ subscription })));
      await scene.publish([{ data: 'to all' }]);
      await scene.reach();
      for (const consumer of consumers) await consumer.hasAcked(['to all']);
    },
  },
];
