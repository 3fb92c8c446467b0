// `fanfare cluster` and `dev-cluster` on a fake broker: what they show, ask and refuse.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { contextPath, writeContext } from '../../services/certs/context-file.ts';
import { readable } from '../../services/cli/dev-processes.ts';
import { GetClusterResponseSchema } from '../../services/gen/fanfare/v1/cluster_pb.ts';
import { runCli, startCli } from '../support/cli.ts';
import { FakeBroker } from '../support/fake-broker.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

let broker: FakeBroker;
let cwd: string;

beforeAll(async () => {
  broker = await FakeBroker.start();
  const { ca, clientCert, clientKey } = broker.certificates;
  cwd = join(broker.directory, 'work');
  await mkdir(cwd);
  await writeContext(contextPath(join(cwd, '.fanfare')), {
    // The second broker is not there.
    address: `${broker.address},127.0.0.1:1`,
    project: 'default',
    tls: { ca, cert: clientCert, key: clientKey },
  });
});

afterAll(() => broker.stop());

beforeEach(() => {
  broker.drainRequests.length = 0;
  broker.cluster = clusterOf(2);
});

function clusterOf(partitionsOfSecond: number) {
  const topic = 'projects/default/topics/orders';
  const names = ['b-1', 'b-2'];
  return create(GetClusterResponseSchema, {
    clusterId: 'c-1',
    brokers: names.map((name, i) => ({ name, id: `${i}`, address: `${name}:7443`, version: '0.1.0' })),
    coordinator: 'b-1',
    coordinatorTerm: 3n,
    assignmentVersion: 12n,
    partitions: [0, 1, 2].map((partition) => {
      const owner = names[partition < partitionsOfSecond ? 1 : 0]!;
      return { topic, partition, assigned: owner, owner, ownerEpoch: BigInt(partition + 5) };
    }),
    recentMoves: [
      { topic, partition: 1, from: 'b-1', to: 'b-2', time: timestampFromMs(0), reason: 'joined' },
      { topic: 'projects/other/topics/x', partition: 0, to: 'b-1', reason: 'created' },
    ],
  });
}

const run = (args: string) => runCli(args.split(' '), { cwd });

test('cluster shows brokers and moves, and partitions when asked', async () => {
  expect(await run('cluster')).toMatchObject({
    code: 0,
    stdout: Buffer.from(
      [
        'cluster c-1, coordinator b-1 (term 3), assignment 12',
        '',
        'BROKER  ADDRESS   STATE    VERSION  ASSIGNED  OWNED  CONSUMERS  PUBLISH/S  DELIVER/S',
        'b-1     b-1:7443  serving  0.1.0           0      0          0  0          0',
        'b-2     b-2:7443  serving  0.1.0           0      0          0  0          0',
        '',
        'recent moves:',
        'TIME                      TOPIC    PARTITION  FROM  TO   REASON',
        '1970-01-01T00:00:00.000Z  orders           1  b-1   b-2  joined',
        '-                         other/x          0  -     b-1  created',
        '',
      ].join('\n'),
    ),
  });
  const { stdout } = await run('cluster --partitions');
  expect(stdout.toString()).toMatch(/^TOPIC +PARTITION +OWNER +ASSIGNED +EPOCH\norders +0 +b-2 +b-2 +5$/m);
  const json = JSON.parse((await run('cluster -o json --partitions')).stdout.toString());
  expect(json).toMatchObject({ clusterId: 'c-1', partitions: [{ owner: 'b-2', ownerEpoch: 5 }, {}, {}] });
  broker.cluster = create(GetClusterResponseSchema);
  expect((await run('cluster')).stdout.toString()).toContain('one broker on an embedded store, no cluster');
});

test('cluster drain asks, revokes, waits, and knows who there is', async () => {
  expect(await run('cluster drain b-2')).toMatchObject({ code: 0, stderr: '' });
  expect(await run('cluster drain b-2 --revoke --wait')).toMatchObject({ code: 0 });
  expect(broker.drainRequests).toMatchObject([{ name: 'b-2', revoke: false }, { revoke: true }]);
  expect(await run('cluster drain b-3')).toMatchObject({
    code: 3,
    stderr: 'fanfare: no living broker is named "b-3"\n',
  });
  const { child, finished } = startCli(['cluster', 'drain', 'b-2', '--wait'], { cwd });
  child.stderr.once('data', () => {
    broker.cluster = clusterOf(1);
    child.stderr.once('data', () => {
      broker.cluster = clusterOf(0);
    });
  });
  expect(await finished).toMatchObject({
    code: 0,
    stderr: 'b-2 has 2 partitions left\nb-2 has 1 partition left\n',
  });
});

test('cluster --watch goes on until Ctrl-C', async () => {
  const { child, finished } = startCli(['cluster', '--watch', '-o', 'json'], { cwd });
  let lines = 0;
  child.stdout.on('data', (bytes: Buffer) => {
    lines += bytes.toString().split('\n').length - 1;
    if (lines === 2) child.kill('SIGINT');
  });
  expect((await finished).code).toBe(130);
});

test('a topic with replicas', async () => {
  const created = await run('topic create safe --durability replicated --min-replicas 2 -o json');
  expect(JSON.parse(created.stdout.toString())).toMatchObject({ durability: 'replicated', minReplicas: 2 });
  expect((await run('topic describe safe')).stdout.toString()).toContain('replicated(2)');
  expect(await run('topic create unsafe --min-replicas 2')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--durability replicated'),
  });
});

test('dev-cluster without Redis says what to install', async () => {
  // With this PATH nothing is found.
  const { code, stderr } = await runCli(['dev-cluster'], { cwd, env: { PATH: '/nowhere' } });
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('apt-get install redis-server'),
  });
});

test('lines of a JSON log are made readable, others are left alone', () => {
  expect(readable('{"level":"info","time":"x","msg":"listening","port":1,"on":"a"}')).toBe(
    'listening port=1 on=a',
  );
  expect(readable('{"level":"warn","msg":"slow","what":["a"]}')).toBe('WARN slow what=["a"]');
  expect(readable('{"level":"info","msg":"audit","audit":{"verb":"create"}}')).toBe('audit verb=create');
  expect(readable('# Redis')).toBe('# Redis');
});
