// The gRPC server with admin, routing, health and reflection, asked by a real client over mutual TLS.
import { connect as connectHttp2 } from 'node:http2';
import { type DescMessage, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { status } from '@grpc/grpc-js';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  healthDescriptor,
  reflectionDescriptor,
} from '../../services/broker/adapters/grpc/grpc-descriptors.ts';
import { grpcService } from '../../services/broker/adapters/grpc/rpc.ts';
import type { BacklogReport } from '../../services/broker/core/backlog-report.ts';
import { AssertionError, BrokerError } from '../../services/broker/core/errors.ts';
import { MAX_REQUEST_BYTES } from '../../services/broker/limits.ts';
import { Admin, StartPosition } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { Durability } from '../../services/gen/fanfare/v1/message_pb.ts';
import { Routing } from '../../services/gen/fanfare/v1/routing_pb.ts';
import { type Authority, createAuthority, type GrpcRig, pathOf, startGrpcRig } from '../support/grpc-rig.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const parent = 'projects/p';
const ORDERS = 'projects/p/topics/orders';
const AUDIT = 'projects/p/subscriptions/audit';
const { method } = Admin;

let authority: Authority;
let rig: GrpcRig;

beforeAll(async () => {
  authority = await createAuthority();
});
beforeEach(async () => {
  rig = await startGrpcRig(authority);
});
afterEach(async () => {
  await rig[Symbol.asyncDispose]();
});

const failing = (code: number, details: RegExp | string = '') =>
  expect.objectContaining({
    code,
    details: typeof details === 'string' ? expect.stringContaining(details) : expect.stringMatching(details),
  });

function report(subscription: string, more: Partial<BacklogReport> = {}): BacklogReport {
  return {
    subscription,
    topic: ORDERS,
    messages: 0,
    bytes: 0,
    outstandingMessages: 0,
    consumers: 0,
    appendedTotal: 0,
    deliveredTotal: 0,
    ackedTotal: 0,
    redeliveredTotal: 0,
    expiredByRetentionTotal: 0,
    consumersWithoutCredit: 0,
    blockedMessages: 0,
    measureTimeMs: 1_700_000_000_000,
    ...more,
  };
}

describe('topics and subscriptions', () => {
  test('are created, described, listed, updated and deleted', async () => {
    const client = rig.connect();
    const { topic } = await client.call(method.createTopic, {
      topic: { name: ORDERS, labels: { team: 'shop' }, retention: { seconds: 90n, nanos: 5_000_000 } },
    });
    expect(topic).toMatchObject({
      name: ORDERS,
      partitions: 4,
      retention: { seconds: 90n, nanos: 5_000_000 },
      durability: Durability.FSYNC,
      labels: { team: 'shop' },
    });
    expect(topic?.logEpoch).toBeGreaterThan(0n);
    expect((await client.call(method.getTopic, { name: ORDERS })).topic).toEqual(topic);

    const { subscription } = await client.call(method.createSubscription, {
      subscription: { name: AUDIT, topic: ORDERS, enableMessageOrdering: true },
    });
    expect(subscription).toMatchObject({
      ackDeadlineSeconds: 10,
      enableMessageOrdering: true,
      start: StartPosition.LATEST,
    });
    expect((await client.call(method.listTopics, { parent })).topics).toEqual([topic]);
    expect((await client.call(method.listSubscriptions, { parent, topic: ORDERS })).subscriptions).toEqual([
      subscription,
    ]);

    const updated = await client.call(method.updateTopic, {
      topic: { name: ORDERS, partitions: 8 },
      updateMask: { paths: ['partitions'] },
    });
    expect(updated.topic).toMatchObject({ partitions: 8, labels: { team: 'shop' } });
    const changed = await client.call(method.updateSubscription, {
      subscription: { name: AUDIT, ackDeadlineSeconds: 600 },
      updateMask: { paths: ['ack_deadline_seconds'] },
    });
    expect(changed.subscription).toMatchObject({ ackDeadlineSeconds: 600, topic: ORDERS });
    expect((await client.call(method.getSubscription, { name: AUDIT })).subscription).toEqual(
      changed.subscription,
    );

    const remove = client.call(method.deleteTopic, { name: ORDERS });
    await expect(remove).rejects.toEqual(failing(status.FAILED_PRECONDITION, 'set force'));
    await client.call(method.deleteSubscription, { name: AUDIT });
    await client.call(method.deleteTopic, { name: ORDERS });
    const gone = client.call(method.getTopic, { name: ORDERS });
    await expect(gone).rejects.toEqual(failing(status.NOT_FOUND, `there is no topic ${ORDERS}`));

    expect(rig.audit[0]).toEqual({
      principal: 'spiffe://fanfare/tester',
      verb: 'create',
      resource: ORDERS,
      result: 'OK',
    });
    expect(rig.audit.map(({ verb, result }) => `${verb} ${result}`)).toEqual([
      'create OK',
      'create OK',
      'update OK',
      'update OK',
      'delete FAILED_PRECONDITION',
      'delete OK',
      'delete OK',
    ]);
  });

  test('a bad request is INVALID_ARGUMENT with the field and the limit, and changes nothing', async () => {
    const client = rig.connect();
    const requests: [keyof typeof method, object, RegExp][] = [
      ['createTopic', {}, /^topic is missing$/],
      ['createTopic', { topic: { name: 'orders' } }, /^topic.name: "orders" must be projects/],
      ['createTopic', { topic: { name: ORDERS, partitions: 2000 } }, /partitions is 2000: must be 1 to 1024/],
      [
        'createTopic',
        { topic: { name: ORDERS, durability: 77 } },
        /durability is 77: must be one of 1 \(memory\)/,
      ],
      [
        'createTopic',
        { topic: { name: ORDERS, retention: { seconds: -1n } } },
        /retention is -1000: must be/,
      ],
      ['createTopic', { topic: { name: ORDERS, retention: { nanos: 2_000_000_000 } } }, /no valid duration/],
      [
        'createTopic',
        { topic: { name: ORDERS, retention: { seconds: 2n ** 62n } } },
        /retention is .*: must be/,
      ],
      ['createSubscription', { subscription: { name: AUDIT, topic: ORDERS, ackDeadlineSeconds: -5 } }, /-5/],
      ['createSubscription', { subscription: { name: AUDIT, topic: ORDERS, start: 9 } }, /start is 9/],
      ['updateTopic', { topic: { name: ORDERS, partitions: 9 } }, /there is no topic|update_mask/],
      ['listTopics', { parent: 'nonsense' }, /^parent is "nonsense"/],
      ['listTopics', { parent, pageSize: 1001 }, /page_size is 1001: must be/],
      ['getBacklog', { parent, subscriptions: ['audit'] }, /^subscriptions\[0\]: "audit" must be/],
      ['getBacklog', { parent, subscriptions: ['projects/q/subscriptions/abc'] }, /must be in projects\/p/],
      ['getPartitionBacklog', { subscription: 'audit' }, /"audit" must be/],
      [
        'getPartitionBacklog',
        { subscription: AUDIT, clientId: 'x'.repeat(257) },
        /^client_id has 257 bytes: at most 256/,
      ],
      [
        'getPartitionBacklog',
        { subscription: AUDIT, beforeOffsets: Array(1025).fill(1n) },
        /1025 offsets: at most 1024/,
      ],
      ['getBacklog', { parent, subscriptions: Array(1001).fill(AUDIT) }, /1001 names: at most 1000/],
    ];
    for (const [name, request, message] of requests) {
      const code = name === 'updateTopic' ? status.NOT_FOUND : status.INVALID_ARGUMENT;
      await expect(client.call(method[name], request), name).rejects.toEqual(failing(code, message));
    }
    expect([...rig.definitions.topics()]).toEqual([]);
    expect(rig.unexpected).toEqual([]);
  });

  test('an unsupported durability is FAILED_PRECONDITION', async () => {
    const topic = { name: ORDERS, durability: Durability.REPLICATED };
    await expect(rig.connect().call(method.createTopic, { topic })).rejects.toEqual(
      failing(status.FAILED_PRECONDITION, "can't give replicated"),
    );
  });
});

describe('guarantee 5: hostile bytes', () => {
  const path = (name: keyof typeof method) => pathOf(method[name]);

  test.each([
    ['a wrong wire type', Buffer.from([0x08, 0x01, 0x0f])],
    ['a length beyond the end', Buffer.from([0x0a, 0x7f, 0x01])],
    ['an endless varint', Buffer.alloc(40, 0xff)],
    ['a group without end', Buffer.from([0x0b])],
    ['field number 0', Buffer.from([0x02, 0x00])],
    ['bad UTF-8', Buffer.from([0x0a, 0x04, 0x0a, 0x02, 0xc3, 0x28])],
  ])('with %s are INVALID_ARGUMENT on every method', async (_what, bytes) => {
    const client = rig.connect();
    for (const { name, methodKind } of Admin.methods) {
      if (methodKind !== 'unary') continue;
      await expect(client.callRaw(`/fanfare.v1.Admin/${name}`, bytes), name).rejects.toEqual(
        failing(status.INVALID_ARGUMENT),
      );
    }
    const watch = client.makeServerStreamRequest(path('watchBacklog'), Buffer.from, Buffer.from, bytes);
    watch.on('error', () => {}).resume();
    expect((await new Promise<{ code: number }>((resolve) => watch.on('status', resolve))).code).toBe(
      status.INVALID_ARGUMENT,
    );
    expect(rig.unexpected).toEqual([]);
  });

  test('that are too many are INVALID_ARGUMENT, of an unknown method UNIMPLEMENTED', async () => {
    const client = rig.connect();
    await expect(client.callRaw(path('getTopic'), Buffer.alloc(MAX_REQUEST_BYTES + 1))).rejects.toEqual(
      failing(
        status.INVALID_ARGUMENT,
        new RegExp(`^the request has ${MAX_REQUEST_BYTES + 1} bytes; at most ${MAX_REQUEST_BYTES} are read`),
      ),
    );
    await expect(client.callRaw('/fanfare.v1.Admin/Nothing', Buffer.alloc(0))).rejects.toEqual(
      failing(status.UNIMPLEMENTED),
    );
  });

  test('100,000 labels get an answer, and the next caller too', async () => {
    const client = rig.connect();
    const labels = Object.fromEntries(Array.from({ length: 100_000 }, (_, at) => [`k${at}`, 'v']));
    await expect(client.call(method.createTopic, { topic: { name: ORDERS, labels } })).rejects.toEqual(
      failing(status.INVALID_ARGUMENT, 'has 100000 entries: at most 64'),
    );
    await client.call(method.createTopic, { topic: { name: ORDERS } });
  });
});

describe('errors that nobody expected', () => {
  test.each([
    ['an error', () => new TypeError('secret')],
    ['a failed assertion', () => new AssertionError('secret')],
    ['half a character', () => new BrokerError('INTERNAL', 'secret \ud800'.slice(7))],
  ])('%s is a bare INTERNAL', async (_what, make) => {
    const descriptor = Admin;
    await using failingRig = await startGrpcRig(authority, {
      services: (border) => {
        const handler = border.unary(method.getTopic, () => {
          throw make();
        });
        // The service has a name of its own, so that the real one stays.
        const service = grpcService({ ...descriptor, methods: [method.getTopic], typeName: 'test.Failing' }, {
          getTopic: handler,
        } as never);
        return [{ ...service, descriptor }];
      },
    });
    const call = failingRig.connect().callRaw('/test.Failing/GetTopic', Buffer.alloc(0));
    const error = await call.catch((caught: { code: number; details: string }) => caught);
    expect(error).toMatchObject({ code: status.INTERNAL });
    expect(JSON.stringify(error)).not.toContain('secret');
  });
});

describe('backlog', () => {
  test('is reported in full', async () => {
    const full = report(AUDIT, {
      messages: 2 ** 40,
      bytes: 12.5,
      outstandingMessages: 3,
      oldestUnackedAgeMs: 1_250,
      consumers: 2,
      appendedTotal: 4,
      deliveredTotal: 5,
      ackedTotal: 6,
      redeliveredTotal: 7,
      expiredByRetentionTotal: 8,
    });
    rig.backlog.reports = [
      full,
      report('projects/p/subscriptions/billing'),
      report('projects/q/subscriptions/abc'),
    ];
    const client = rig.connect();
    const { backlogs } = await client.call(method.getBacklog, { parent });
    expect(backlogs).toHaveLength(2);
    expect(backlogs[0]).toMatchObject({
      subscription: AUDIT,
      topic: ORDERS,
      messages: 2n ** 40n,
      bytes: 13n,
      outstandingMessages: 3n,
      oldestUnackedAge: { seconds: 1n, nanos: 250_000_000 },
      consumers: 2,
      appendedTotal: 4n,
      deliveredTotal: 5n,
      ackedTotal: 6n,
      redeliveredTotal: 7n,
      expiredByRetentionTotal: 8n,
      measureTime: { seconds: 1_700_000_000n, nanos: 0 },
    });
    expect(backlogs[1]?.oldestUnackedAge).toBeUndefined();
    const some = await client.call(method.getBacklog, { parent, subscriptions: [AUDIT] });
    expect(some.backlogs.map(({ subscription }) => subscription)).toEqual([AUDIT]);
  });

  test('of each partition, in order; a part does not pass for the whole', async () => {
    const partition = (number: number) => ({
      partition: number,
      endOffset: 2 ** 40,
      messages: 3,
      elsewhereMessages: 1,
    });
    const client = rig.connect();
    await client.call(method.createTopic, { topic: { name: ORDERS, partitions: 4 } });
    await client.call(method.createSubscription, { subscription: { name: AUDIT, topic: ORDERS } });
    const ask = (subscription = AUDIT) =>
      client.call(method.getPartitionBacklog, { subscription, clientId: 'c', beforeOffsets: [7n] });
    rig.backlog.reports = [report(AUDIT, { partitions: [3, 0, 2, 1].map(partition) })];
    const { partitions } = await ask();
    expect(partitions.map(({ partition: number }) => number)).toEqual([0, 1, 2, 3]);
    expect(partitions[0]).toMatchObject({ endOffset: 2n ** 40n, messages: 3n, elsewhereMessages: 1n });
    rig.backlog.reports = [report(AUDIT, { partitions: [3, 0, 2].map(partition) })];
    await expect(ask()).rejects.toEqual(failing(status.UNAVAILABLE, 'partition 1'));
    await expect(ask('projects/p/subscriptions/nothing')).rejects.toEqual(failing(status.NOT_FOUND));
  });

  test('that would be too large an answer says how to ask', async () => {
    const name = `projects/p/subscriptions/${'s'.repeat(255)}`;
    rig.backlog.reports = Array.from({ length: 8_000 }, () => report(name));
    await expect(rig.connect().call(method.getBacklog, { parent })).rejects.toEqual(
      failing(status.RESOURCE_EXHAUSTED, 'at most 1000 at a time'),
    );
  });

  test('is watched: at once, at the interval, and soon after a first message', async () => {
    rig.backlog.reports = [report(AUDIT)];
    const stream = rig.connect().stream(method.watchBacklog, { parent, interval: { nanos: 100_000_000 } });
    expect((await stream.next()).backlogs[0]?.messages).toBe(0n);
    expect((await stream.next()).backlogs[0]?.messages).toBe(0n);
    stream.call.cancel();

    const slow = rig.connect().stream(method.watchBacklog, { parent, interval: { seconds: 60n } });
    await slow.next();
    rig.backlog.reports = [report(AUDIT, { messages: 1 })];
    const before = performance.now();
    for (const listener of rig.backlog.listeners) listener('projects/q/subscriptions/other');
    for (const listener of rig.backlog.listeners) listener(AUDIT);
    expect((await slow.next()).backlogs[0]?.messages).toBe(1n);
    expect(performance.now() - before).toBeLessThan(1_000);
    slow.call.cancel();
    await slow.status;
    await expect.poll(() => rig.backlog.listeners.size).toBe(0);
  });

  test('a watcher that does not read is skipped, and gets the last', async () => {
    const clock = new VirtualClock();
    await using paced = await startGrpcRig(authority, { clock });
    const long = `projects/p/subscriptions/${'s'.repeat(240)}`;
    const large = (messages: number) =>
      Array.from({ length: 1_000 }, (_, at) => report(`${long}${at}`, { messages }));
    paced.backlog.reports = large(1);
    const stream = paced.connect().stream(method.watchBacklog, { parent });
    await stream.next();
    stream.call.pause();
    const intervals = 300;
    for (let at = 0; at < intervals; at++) await clock.advance(1_000);
    // The server cannot bound what the transport and the client's own stream hold.
    expect(paced.backlog.calls).toBeLessThan(intervals / 4);

    paced.backlog.reports = large(2);
    stream.call.resume();
    let last = 0n;
    while (last !== 2n) {
      const [answer] = await Promise.all([stream.next(), clock.advance(1_000)]);
      last = answer.backlogs[0]?.messages ?? 0n;
    }
  });

  test.each([{ nanos: 99_000_000 }, { seconds: 61n }, { seconds: -1n }, { seconds: 1n, nanos: -1 }])(
    'refuses the interval %o',
    async (interval) => {
      const stream = rig.connect().stream(method.watchBacklog, { parent, interval });
      expect(await stream.status).toEqual(failing(status.INVALID_ARGUMENT, 'interval is'));
    },
  );

  test('watchers are bounded, and a place is given back', async () => {
    await using small = await startGrpcRig(authority, {
      watches: { max: 1, maxPerPrincipal: 1, reserved: 0 },
    });
    const client = small.connect();
    const first = client.stream(method.watchBacklog, { parent });
    await first.next();
    const second = client.stream(method.watchBacklog, { parent });
    expect(await second.status).toEqual(failing(status.RESOURCE_EXHAUSTED, '1 streams'));
    first.call.cancel();
    await expect.poll(() => small.backlog.listeners.size).toBe(0);
    await client.stream(method.watchBacklog, { parent }).next();
  });
});

describe('routes', () => {
  test('name this broker for every partition, again after a change, and end with the topic', async () => {
    const client = rig.connect();
    await client.call(method.createTopic, { topic: { name: ORDERS, partitions: 2 } });
    const route = (partition: number) => ({ partition, address: 'broker.example:7443', ownerEpoch: 3n });
    const { routes } = await client.call(Routing.method.getRoutes, { topic: ORDERS });
    expect(routes).toMatchObject([route(0), route(1)]);

    const stream = client.stream(Routing.method.watchRoutes, { topic: ORDERS });
    expect((await stream.next()).routes).toHaveLength(2);
    await client.call(method.updateTopic, {
      topic: { name: ORDERS, partitions: 3 },
      updateMask: { paths: ['partitions'] },
    });
    expect((await stream.next()).routes).toHaveLength(3);
    await client.call(method.deleteTopic, { name: ORDERS });
    expect(await stream.status).toEqual(failing(status.NOT_FOUND));
    await expect(client.call(Routing.method.getRoutes, { topic: ORDERS })).rejects.toEqual(
      failing(status.NOT_FOUND),
    );
  });
});

describe('health', () => {
  const { methods } = healthDescriptor();
  const [check, list, watch] = methods as [(typeof methods)[0], (typeof methods)[0], (typeof methods)[0]];
  const asked = (service: string) => ({ service }) as never;

  test('knows the server and its services', async () => {
    const client = rig.connect();
    for (const service of ['', 'fanfare.v1.Admin', 'fanfare.v1.Routing']) {
      expect(await client.call(check, asked(service))).toMatchObject({ status: 1 });
    }
    await expect(client.call(check, asked('nothing'))).rejects.toEqual(failing(status.NOT_FOUND));
    expect(await client.call(list, {})).toMatchObject({
      statuses: { '': { status: 1 }, 'fanfare.v1.Admin': { status: 1 } },
    });
    expect(await client.stream(watch, asked('nothing')).next()).toMatchObject({ status: 3 });
  });

  test('is told to watchers before the server goes', async () => {
    const stream = rig.connect().stream(watch, asked(''));
    expect(await stream.next()).toMatchObject({ status: 1 });
    const drained = rig.server.drain({ timeoutMs: 5_000, before: () => {}, after: () => {} });
    expect(await stream.next()).toMatchObject({ status: 2 });
    expect(await stream.status).toEqual(failing(status.UNAVAILABLE));
    expect(await drained).toBe('drained');
  });
});

describe('reflection', () => {
  test.each(['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'] as const)(
    '%s describes every service',
    async (name) => {
      const info = reflectionDescriptor(name).methods[0]!;
      const ask = (request: object) =>
        toBinary(info.input as DescMessage, { $typeName: info.input.typeName, ...request } as never);
      const call = rig.connect().bidi(info);
      const answers = call[Symbol.asyncIterator]();
      // biome-ignore lint/suspicious/noExplicitAny: these messages have no generated types
      const answer = async (request: object): Promise<any> => {
        call.write(ask({ host: 'h', messageRequest: request }));
        const { value } = await answers.next();
        return fromBinary(info.output, value);
      };

      const listed = await answer({ case: 'listServices', value: '*' });
      expect(listed.messageResponse.value.service.map((each: { name: string }) => each.name)).toEqual([
        'fanfare.v1.Admin',
        'fanfare.v1.Routing',
        'grpc.health.v1.Health',
        'grpc.reflection.v1.ServerReflection',
        'grpc.reflection.v1alpha.ServerReflection',
      ]);
      expect(listed.originalRequest.host).toBe('h');

      for (const symbol of ['fanfare.v1.Admin', 'fanfare.v1.Admin.GetTopic', 'fanfare.v1.Topic']) {
        const { messageResponse } = await answer({ case: 'fileContainingSymbol', value: symbol });
        const files = messageResponse.value.fileDescriptorProto.map((bytes: Uint8Array) =>
          fromBinary(FileDescriptorProtoSchema, bytes),
        );
        const names = files.map((file: { name: string }) => file.name);
        expect(names[0]).toBe('fanfare/v1/admin.proto');
        expect(names).toContain('google/protobuf/duration.proto');
      }
      const file = await answer({ case: 'fileByFilename', value: 'fanfare/v1/message.proto' });
      expect(file.messageResponse.case).toBe('fileDescriptorResponse');
      const none = await answer({ case: 'fileContainingSymbol', value: 'x.Y' });
      expect(none.messageResponse).toMatchObject({ case: 'errorResponse', value: { errorCode: 5 } });
      const empty = await answer({ case: undefined });
      expect(empty.messageResponse).toMatchObject({ case: 'errorResponse', value: { errorCode: 3 } });
      call.end();
      expect((await answers.next()).done).toBe(true);
    },
  );
});

describe('stopping', () => {
  test('ends streams with UNAVAILABLE, lets calls finish, and refuses new ones', async () => {
    const client = rig.connect();
    const stream = client.stream(method.watchBacklog, { parent });
    await stream.next();
    const { promise: mayFinish, resolve: finish } = Promise.withResolvers<void>();
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    rig.definitions.onChange(() => {
      begin();
      return mayFinish;
    });
    const slowCall = client.call(method.createTopic, { topic: { name: ORDERS } });
    await begun;
    const { promise: ending, resolve: endingNow } = Promise.withResolvers<void>();
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
    const drained = rig.server.drain({
      timeoutMs: 5_000,
      before: () => {
        endingNow();
        return mayGoOn;
      },
      after: () => {},
    });
    await ending;
    await expect(client.call(method.getTopic, { name: ORDERS })).rejects.toEqual(
      failing(status.UNAVAILABLE, 'stopping'),
    );
    goOn();
    expect(await stream.status).toEqual(failing(status.UNAVAILABLE, 'the broker is stopping'));
    finish();
    expect((await slowCall).topic?.name).toBe(ORDERS);
    expect(await drained).toBe('drained');
  });

  test('cuts off what does not end in time', async () => {
    rig.definitions.onChange(() => new Promise(() => {}));
    const stuck = rig.connect().call(method.createTopic, { topic: { name: ORDERS } });
    await expect.poll(() => rig.definitions.topic(ORDERS)).toBeDefined();
    const how = await rig.server.drain({ timeoutMs: 50, before: () => {}, after: () => {} });
    expect(how).toBe('cut off');
    await expect(stuck).rejects.toThrow();
  });

  test('streams end with UNAVAILABLE at their maximum age', async () => {
    await using young = await startGrpcRig(authority, { maxStreamAgeMs: 50 });
    const stream = young.connect().stream(method.watchBacklog, { parent, interval: { seconds: 60n } });
    expect(await stream.status).toEqual(failing(status.UNAVAILABLE, 'maximum age'));
    await expect.poll(() => young.backlog.listeners.size).toBe(0);
  });

  test('an address that is taken is named', async () => {
    await using other = await startGrpcRig(authority);
    const port = Number(rig.address.split(':')[1]);
    await expect(other.server.bind({ host: '127.0.0.1', port })).rejects.toThrow(
      `can't listen on 127.0.0.1:${port}: another process listens there`,
    );
  });
});

test('plaintext does not get through a TLS port', async () => {
  const session = connectHttp2(`http://${rig.address}`);
  await new Promise((resolve) => session.on('error', resolve).on('close', resolve));
  session.destroy();
  await rig.connect().call(method.listTopics, { parent });
});
