// Requests of each RPC: well-formed ones, many of them with hostile values (names, numbers, counts, text),
// written by protobuf-es, and what fuzz-mutate.ts makes of them. The RPCs are taken from the descriptors that
// the broker serves, so a new one without requests here fails the test.
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  toBinary,
} from '@bufbuild/protobuf';
import {
  healthDescriptor,
  REFLECTION_SERVICES,
  reflectionDescriptor,
} from '../../services/broker/adapters/grpc/grpc-descriptors.ts';
import { MAX_PULL_WAIT_MS } from '../../services/broker/limits.ts';
import type { Random } from '../../services/broker/ports/clock.ts';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import { Publisher } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { Routing } from '../../services/gen/fanfare/v1/routing_pb.ts';
import { PullRequestSchema, Subscriber } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { between, framed, mutate, pick, randomBytes, varint } from './fuzz-mutate.ts';

/** The topic and the subscription that must exist; the requests know no others but those of ADMIN_PROJECT. */
export const TOPIC = 'projects/fuzz/topics/work';
export const SUBSCRIPTION = 'projects/fuzz/subscriptions/work';
const ADMIN_PROJECT = 'projects/fuzz-admin';

type Fields = Record<string, unknown>;

export interface FuzzedRpc {
  readonly path: string;
  readonly kind: DescMethod['methodKind'];
  readonly input: DescMessage;
  readonly output: DescMessage;
  /** A well-formed message, more often than not with something in it that is refused. */
  request(random: Random): Buffer;
}

export function fuzzedRpcs(): readonly FuzzedRpc[] {
  const reflections = REFLECTION_SERVICES.map(reflectionDescriptor);
  const services: DescService[] = [Publisher, Subscriber, Admin, Routing, healthDescriptor(), ...reflections];
  return services.flatMap(({ typeName, methods }) =>
    methods.map(({ name, methodKind: kind, input, output }) => {
      const make = REQUESTS[`${typeName.split('.').at(-1)}/${name}`];
      if (make === undefined) throw new Error(`no requests for ${typeName}/${name}: add some to REQUESTS`);
      const request = (random: Random): Buffer => Buffer.from(toBinary(input, create(input, make(random))));
      return { path: `/${typeName}/${name}`, kind, input, output, request };
    }),
  );
}

/** One request of an RPC as bytes behind gRPC's headers: sound, mutated, random, or wrong as a frame. */
export function fuzzedFrames(rpc: FuzzedRpc, random: Random): Buffer {
  const message = fuzzedMessage(rpc, random);
  if (random() < 0.92) return framed(message);
  switch (between(random, 0, 5)) {
    case 0:
      return framed(message, 0, message.length + between(random, 1, 5_000));
    case 1:
      return framed(message, 0, Math.max(0, message.length - between(random, 1, 20)));
    case 2:
      return framed(message, pick(random, [1, 2, 0x80, 0xff]));
    case 3:
      return Buffer.concat([framed(message), framed(message)]);
    case 4:
      return framed(message).subarray(0, between(random, 0, 4));
    default:
      return randomBytes(random, between(random, 0, 64));
  }
}

export function fuzzedMessage(rpc: FuzzedRpc, random: Random): Buffer {
  for (;;) {
    const chance = random();
    const message =
      chance < 0.1
        ? randomBytes(random, between(random, 0, 300))
        : chance < 0.3
          ? rpc.request(random)
          : mutate(rpc.request(random), random);
    if (!waits(rpc, message)) return message;
  }
}

/** Whether the broker is right not to answer it at once. */
function waits({ input }: FuzzedRpc, message: Buffer): boolean {
  if (input !== PullRequestSchema) return false;
  try {
    const { seconds = 0n, nanos = 0 } = fromBinary(PullRequestSchema, message).maxWait ?? {};
    const waitMs = Number(seconds) * 1000 + nanos / 1e6;
    return waitMs > 0 && waitMs <= MAX_PULL_WAIT_MS;
  } catch {
    // It is no PullRequest, so there is nothing to wait for.
    return false;
  }
}

const HOSTILE_NAMES = [
  '',
  'work',
  'projects/fuzz',
  'projects//topics/',
  'projects/fuzz/topics/nobody-has-made-this',
  'projects/fuzz/subscriptions/nobody-has-made-this',
  'projects/nowhere/topics/work',
  'projects/fuzz/topics/../../../etc/passwd',
  'projects/fuzz/topics/a\u0000b',
  'projects/fuzz/topics/‮drow',
  'projects/fuzz/topics/goog-work',
  `projects/fuzz/topics/${'w'.repeat(300)}`,
  `projects/fuzz/topics/${'é'.repeat(3_000)}`,
  `${'/'.repeat(60_000)}`,
  '__proto__',
  'constructor',
  '𝕨𝕠𝕣𝕜💥',
];
const INT32 = [0, 1, -1, 600, 601, 1_000, 1_001, 2 ** 31 - 1, -(2 ** 31)];
const UINT32 = [0, 1, 3, 1_025, 2 ** 31, 2 ** 32 - 1];
const INT64 = [0n, 1n, -1n, 1_000_001n, 2n ** 30n + 1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)];
/** Request ids that the broker can give back. */
const REQUEST_IDS = [0n, 1n, 5n, 2n ** 32n, 2n ** 53n - 1n];
const UINT64 = [0n, 1n, 5n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n];

/** Mostly the right name, so that other fields are looked at too. */
const orHostile = (random: Random, name: string): string =>
  random() < 0.6 ? name : pick(random, HOSTILE_NAMES);
const parent = (random: Random) => orHostile(random, ADMIN_PROJECT);
const adminTopic = (random: Random) => `${ADMIN_PROJECT}/topics/t-${between(random, 0, 20)}`;
const adminSubscription = (random: Random) => `${ADMIN_PROJECT}/subscriptions/s-${between(random, 0, 40)}`;
const duration = (random: Random) => ({ seconds: pick(random, INT64), nanos: pick(random, INT32) });

function times<T>(count: number, make: (at: number) => T): T[] {
  return Array.from({ length: count }, (_, at) => make(at));
}

function labels(random: Random): Record<string, string> {
  const count = pick(random, [0, 1, 2, 65]);
  return Object.fromEntries(times(count, (at) => [`l${at}`, 'x'.repeat(pick(random, [0, 3, 255, 256]))]));
}

function message(random: Random): Fields {
  const attributes = times(random() < 0.02 ? 101 : between(random, 0, 2), (at): [string, string] => [
    pick(random, [`a${at}`, `${at}${'k'.repeat(256)}`, 'googclient', '', `é${at}`]),
    'v'.repeat(pick(random, [0, 1, 10, 1_025])),
  ]);
  return {
    data: randomBytes(random, pick(random, [0, 0, 1, 20, 300])),
    attributes: Object.fromEntries(attributes),
    messageId: pick(random, ['', '1.2-3']),
    orderingKey: pick(random, ['', '', 'k', 'é'.repeat(20), 'k'.repeat(1_025)]),
  };
}

function publish(random: Random): Fields {
  const count = random() < 0.02 ? 1_001 : pick(random, [0, 1, 1, 2, 5]);
  return { topic: orHostile(random, TOPIC), messages: times(count, () => message(random)) };
}

function range(random: Random): Fields {
  const first = pick(random, UINT64);
  return {
    logEpoch: pick(random, UINT64),
    partition: pick(random, UINT32),
    firstOffset: first,
    lastOffset: random() < 0.5 ? first : pick(random, UINT64),
  };
}

const ACK_IDS = [
  '1.0-0',
  '1.0-1-2',
  '2.1-77',
  '',
  '.',
  '-',
  '1.0',
  '1.0-',
  '9'.repeat(163),
  '9'.repeat(165),
  'x',
  '1.0--1',
];

const many = (random: Random): number => (random() < 0.02 ? 3_001 : between(random, 0, 3));
const ackIds = (random: Random) => times(many(random), () => pick(random, ACK_IDS));
const ranges = (random: Random) => times(many(random), () => range(random));

function topic(random: Random): Fields {
  return {
    name: orHostile(random, adminTopic(random)),
    partitions: pick(random, UINT32),
    ...(random() < 0.5 && { retention: duration(random) }),
    retentionBytesPerPartition: pick(random, UINT64),
    durability: pick(random, [0, 0, 1, 2, 3, 4, 77, -1]),
    labels: labels(random),
  };
}

function subscription(random: Random): Fields {
  return {
    name: orHostile(random, adminSubscription(random)),
    topic: orHostile(random, adminTopic(random)),
    ackDeadlineSeconds: pick(random, INT32),
    enableMessageOrdering: random() < 0.5,
    start: pick(random, [0, 1, 2, 3, -7]),
    labels: labels(random),
  };
}

const list = (random: Random) => ({
  parent: parent(random),
  pageSize: pick(random, INT32),
  pageToken: pick(random, ['', 'x', 'AAAA', '💥', '='.repeat(5_000)]),
  topic: orHostile(random, ''),
});
const updateMask = (random: Random, paths: readonly string[]) => ({
  paths: times(pick(random, [0, 1, 1, 2, 200]), () =>
    pick(random, [...paths, 'name', '', '*', '__proto__', 'a.b']),
  ),
});
const backlog = (random: Random) => ({
  parent: parent(random),
  subscriptions: times(random() < 0.02 ? 1_001 : between(random, 0, 2), () =>
    orHostile(random, adminSubscription(random)),
  ),
});
const health = (random: Random) => ({ service: orHostile(random, pick(random, ['', 'fanfare.v1.Admin'])) });

function reflection(random: Random): Fields {
  const value = orHostile(random, 'fanfare.v1.Publisher.Publish');
  const choices = ['fileByFilename', 'fileContainingSymbol', 'allExtensionNumbersOfType', 'listServices'];
  const host = pick(random, ['', 'h', '💥'.repeat(100)]);
  return { host, ...(random() < 0.9 && { messageRequest: { case: pick(random, choices), value } }) };
}

/** The fields of a request, by service and method. */
const REQUESTS: Readonly<Record<string, (random: Random) => Fields>> = {
  'Publisher/Publish': publish,
  'Publisher/PublishStream': (random) => ({ ...publish(random), requestId: pick(random, REQUEST_IDS) }),
  'Subscriber/Subscribe': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    ackIds: ackIds(random),
    modifyDeadlineSeconds: times(many(random), () => pick(random, INT32)),
    modifyDeadlineAckIds: ackIds(random),
    streamAckDeadlineSeconds: random() < 0.7 ? 0 : pick(random, INT32),
    clientId: pick(random, ['', '', 'c', 'é'.repeat(300)]),
    maxOutstandingMessages: random() < 0.7 ? 1n : pick(random, INT64),
    maxOutstandingBytes: random() < 0.7 ? 0n : pick(random, INT64),
    ackRanges: ranges(random),
    nackRanges: ranges(random),
    ...(random() < 0.5 && { extendRanges: ranges(random), extendSeconds: pick(random, INT32) }),
  }),
  'Subscriber/Pull': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    maxMessages: pick(random, INT32),
    ...(random() < 0.3 && { maxWait: duration(random) }),
  }),
  'Subscriber/Acknowledge': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    ackIds: ackIds(random),
    ackRanges: ranges(random),
  }),
  'Subscriber/ModifyAckDeadline': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    ackDeadlineSeconds: pick(random, INT32),
    ackIds: ackIds(random),
  }),
  'Admin/CreateTopic': (random) => ({ topic: topic(random) }),
  'Admin/GetTopic': (random) => ({ name: orHostile(random, adminTopic(random)) }),
  'Admin/ListTopics': list,
  'Admin/UpdateTopic': (random) => ({
    topic: topic(random),
    updateMask: updateMask(random, ['partitions', 'retention', 'labels']),
  }),
  'Admin/DeleteTopic': (random) => ({ name: orHostile(random, adminTopic(random)), force: random() < 0.5 }),
  'Admin/CreateSubscription': (random) => ({ subscription: subscription(random) }),
  'Admin/GetSubscription': (random) => ({ name: orHostile(random, adminSubscription(random)) }),
  'Admin/ListSubscriptions': list,
  'Admin/UpdateSubscription': (random) => ({
    subscription: subscription(random),
    updateMask: updateMask(random, ['ack_deadline_seconds', 'labels']),
  }),
  'Admin/DeleteSubscription': (random) => ({ name: orHostile(random, adminSubscription(random)) }),
  'Admin/GetBacklog': backlog,
  'Admin/GetPartitionBacklog': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    clientId: pick(random, ['', 'c', 'c'.repeat(257)]),
    beforeOffsets: times(pick(random, [0, 1, 4, 1_024, 1_025]), () => pick(random, UINT64)),
  }),
  'Admin/WatchBacklog': (random) => ({
    ...backlog(random),
    ...(random() < 0.5 && { interval: duration(random) }),
  }),
  'Admin/DrainConsumers': (random) => ({
    subscription: orHostile(random, SUBSCRIPTION),
    clientIds: Array.from({ length: Math.floor(random() * 4) }, () => orHostile(random, 'client')),
    peerAddresses: Array.from({ length: Math.floor(random() * 4) }, () => orHostile(random, '127.0.0.2')),
    ...(random() < 0.8 && { ttl: duration(random) }),
  }),
  'Admin/CheckStorage': (random) => ({
    parent: orHostile(random, 'projects/fuzz'),
    topics: times(pick(random, [0, 1, 3]), () => orHostile(random, TOPIC)),
  }),
  'Admin/SkipDamage': (random) => ({
    topic: orHostile(random, TOPIC),
    partition: pick(random, [0, 1, 70_000]),
    offset: pick(random, UINT64),
  }),
  'Routing/GetRoutes': (random) => ({ topic: orHostile(random, TOPIC) }),
  'Routing/WatchRoutes': (random) => ({ topic: orHostile(random, TOPIC) }),
  'Health/Check': health,
  'Health/List': () => ({}),
  'Health/Watch': health,
  'ServerReflection/ServerReflectionInfo': reflection,
};

/** A message of `length` bytes in all, whose one field no request knows. */
export function padding(length: number): Buffer {
  const head = Buffer.concat([varint(1_000 * 8 + 2), varint(length)]);
  const bytes = Buffer.alloc(length);
  Buffer.concat([varint(1_000 * 8 + 2), varint(length - head.length)]).copy(bytes);
  return bytes;
}
