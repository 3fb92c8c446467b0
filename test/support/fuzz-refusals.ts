// Bad requests one by one, each with the status and the words that its sender is to be told: the field, and
// the limit. They are for a broker with the topic and the subscription of fuzz-requests.ts.
import { create, type DescMethod, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Admin } from '../../services/gen/fanfare/v1/admin_pb.ts';
import type { Durability } from '../../services/gen/fanfare/v1/message_pb.ts';
import { Publisher } from '../../services/gen/fanfare/v1/publisher_pb.ts';
import { Routing } from '../../services/gen/fanfare/v1/routing_pb.ts';
import { Subscriber } from '../../services/gen/fanfare/v1/subscriber_pb.ts';
import { framed, varint } from './fuzz-mutate.ts';
import { SUBSCRIPTION, TOPIC } from './fuzz-requests.ts';

export interface Refusal {
  readonly path: string;
  readonly frames: Buffer;
  readonly code: string;
  readonly details: RegExp;
}

const MAX_UINT64 = 2n ** 64n - 1n;

export function refusals(): readonly Refusal[] {
  const { publish } = Publisher.method;
  const { subscribe, pull, acknowledge, modifyAckDeadline } = Subscriber.method;
  const { createTopic, updateTopic, createSubscription, listTopics, getBacklog, watchBacklog } = Admin.method;
  const data = Buffer.from('x');
  const times = <T>(count: number, value: T): T[] => Array<T>(count).fill(value);
  const message = (fields: object) => ({ topic: TOPIC, messages: [{ data }, { data, ...fields }] });
  const attributes = (count: number, key = 'k', value = '') =>
    message({ attributes: Object.fromEntries(times(count, 0).map((_, at) => [`${key}${at || ''}`, value])) });
  const ranges = times(3_001, { logEpoch: 1n, firstOffset: 5n, lastOffset: 5n });
  const ids = times(3_001, '1.0-5');
  const subscription = SUBSCRIPTION;
  const topic = { name: 'projects/fuzz-admin/topics/refused' };
  const sub = { name: 'projects/fuzz-admin/subscriptions/refused', topic: TOPIC };

  return [
    bad(publish, { topic: TOPIC }, /^messages is empty: a request needs at least one message$/),
    bad(publish, { topic: TOPIC, messages: times(1_001, { data }) }, /at most 1000 messages: send several/),
    bad(
      publish,
      message({ data: Buffer.alloc(0) }),
      /^messages\[1\] is empty: it needs data or at least one attr/,
    ),
    bad(
      publish,
      message({ data: Buffer.alloc(2 ** 21 + 1) }),
      /^messages\[1\] has 20971\d\d bytes of data and attributes; at most 2097152 /,
    ),
    bad(publish, attributes(101), /^messages\[1\] has more than 100 attributes$/),
    bad(publish, attributes(1, 'k'.repeat(257)), /an attribute key of 257 bytes; at most 256 are allowed/),
    bad(publish, attributes(1, 'k', 'v'.repeat(1_025)), /an attribute value of 1025 bytes; at most 1024 /),
    bad(publish, attributes(1, 'google'), /an attribute key that begins with "goog": such keys are reserved/),
    bad(publish, attributes(1, ''), /^messages\[1\] has an attribute with an empty key$/),
    bad(
      publish,
      message({ orderingKey: 'é'.repeat(513) }),
      /ordering_key has 1026 bytes; at most 1024 are allowed/,
    ),
    raw(publish, [1, TOPIC], [2, '0a01782a02c328'], /^messages\[0\]\.ordering_key is not UTF-8$/),
    raw(
      publish,
      [1, TOPIC],
      [2, '0a01781206 0a01ff 120161'],
      /^messages\[0\] has an attribute key that is not UTF-8$/,
    ),
    raw(publish, [1, TOPIC], [2, '0a7f78'], /not valid protobuf: a length points past the end$/),
    raw(publish, [1, TOPIC], [2, '0801'], /not valid protobuf: data has wire type 0, not 2$/),
    raw(publish, [1, TOPIC], [2, '0b0c'], /not valid protobuf: data has wire type 3, not 2$/),
    other(
      'NOT_FOUND',
      publish,
      { ...message({}), topic: `${TOPIC}-2` },
      /^there is no topic projects\/fuzz\/topics\/work-2/,
    ),
    bad(
      publish,
      { ...message({}), topic: 'work' },
      /^topic: "work" must be projects\/\{project\}\/topics\/\{id\}/,
    ),

    bad(subscribe, {}, /subscription/),
    other('NOT_FOUND', subscribe, { subscription: `${SUBSCRIPTION}-2` }, /^there is no subscription/),
    bad(
      subscribe,
      { subscription, maxOutstandingMessages: -1n },
      /^max_outstanding_messages must be from 1 to 1000000$/,
    ),
    bad(
      subscribe,
      { subscription, maxOutstandingMessages: 1_000_001n },
      /^max_outstanding_messages must be from 1 to/,
    ),
    bad(
      subscribe,
      { subscription, maxOutstandingBytes: -1n },
      /^max_outstanding_bytes must be from 1 to 1073741824$/,
    ),
    bad(
      subscribe,
      { subscription, maxOutstandingBytes: 2n ** 63n - 1n },
      /^max_outstanding_bytes must be from 1 to/,
    ),
    bad(
      subscribe,
      { subscription, streamAckDeadlineSeconds: 601 },
      /^stream_ack_deadline_seconds must be from 0 to 600/,
    ),
    bad(
      subscribe,
      { subscription, clientId: 'c'.repeat(257) },
      /^client_id has 257 .*; at most 256 are allowed$/,
    ),
    bad(
      subscribe,
      { subscription, clientId: 'é'.repeat(129) },
      /^client_id has 258 bytes; at most 256 are allowed$/,
    ),
    bad(
      subscribe,
      { subscription, ackIds: ids },
      /^ack_ids has more than 3000 entries: send several requests$/,
    ),
    bad(
      subscribe,
      { subscription, ackIds: ['1.0-x'] },
      /^ack_ids has an entry that is not an ack id: give back what/,
    ),
    bad(
      subscribe,
      { subscription, ackIds: ['9'.repeat(165)] },
      /^ack_ids has an entry of 165 bytes; at most 164 /,
    ),
    bad(subscribe, { subscription, ackRanges: ranges }, /^ack_ranges has more than 3000 entries/),
    bad(subscribe, { subscription, nackRanges: ranges }, /^nack_ranges has more than 3000 entries/),
    bad(
      subscribe,
      { subscription, nackRanges: [{ firstOffset: 5n, lastOffset: 4n }] },
      /^nack_ranges has a range from 5 to 4: last_offset must be at least first_offset$/,
    ),
    bad(
      subscribe,
      { subscription, ackRanges: [{ firstOffset: MAX_UINT64, lastOffset: MAX_UINT64 }] },
      /^ack_ranges has a range from an offset above 9007199254740991: no message has one$/,
    ),
    bad(
      subscribe,
      { subscription, extendRanges: ranges.slice(0, 1) },
      /^extend_seconds must be from 1 to 600 with extend_ranges$/,
    ),
    bad(subscribe, { subscription, extendSeconds: 601 }, /^extend_seconds must be from 0 to 600 seconds$/),
    bad(
      subscribe,
      { subscription, modifyDeadlineAckIds: ['1.0-5'] },
      /^modify_deadline_seconds has 0 entries for 1 modify_deadline_ack_ids/,
    ),
    bad(
      subscribe,
      { subscription, modifyDeadlineAckIds: ['1.0-5'], modifyDeadlineSeconds: [-1] },
      /^modify_deadline_seconds\[0\] must be from 0 to 600/,
    ),
    twice(
      subscribe,
      { subscription },
      { subscription },
      /^subscription is for the first request of a stream only$/,
    ),
    twice(
      subscribe,
      { subscription },
      { subscription: `${SUBSCRIPTION}-2` },
      /^subscription is for the first request/,
    ),
    twice(
      subscribe,
      { subscription, clientId: 'a' },
      { clientId: 'b' },
      /^client_id is for the first request of a stream only$/,
    ),
    twice(
      subscribe,
      { subscription },
      { maxOutstandingMessages: -5n },
      /^max_outstanding_messages must be from 1 to 1000000$/,
    ),

    bad(pull, { subscription }, /^max_messages must be from 1 to 1000$/),
    bad(pull, { subscription, maxMessages: -1 }, /^max_messages must be from 1 to 1000$/),
    bad(pull, { subscription, maxMessages: 1_001 }, /^max_messages must be from 1 to 1000$/),
    bad(pull, { subscription, maxMessages: 1, maxWait: { seconds: 61n } }, /^max_wait must be at most 60 s$/),
    bad(pull, { subscription, maxMessages: 1, maxWait: { seconds: -1n } }, /^max_wait must not be negative$/),
    bad(acknowledge, { subscription, ackIds: ids }, /^ack_ids has more than 3000 entries/),
    bad(acknowledge, { subscription, ackRanges: ranges }, /^ack_ranges has more than 3000 entries/),
    other(
      'NOT_FOUND',
      acknowledge,
      { subscription: `${SUBSCRIPTION}-2`, ackIds: ['1.0-5'] },
      /^there is no subscription/,
    ),
    bad(
      modifyAckDeadline,
      { subscription, ackDeadlineSeconds: 601 },
      /^ack_deadline_seconds must be from 0 to 600/,
    ),
    bad(
      modifyAckDeadline,
      { subscription, ackDeadlineSeconds: -1 },
      /^ack_deadline_seconds must be from 0 to 600/,
    ),

    bad(createTopic, {}, /^topic is missing$/),
    bad(createTopic, { topic: { ...topic, partitions: 1_025 } }, /partitions is 1025: must be 1 to 1024/),
    bad(createTopic, { topic: { ...topic, retention: { seconds: 59n } } }, /retention/),
    bad(
      createTopic,
      { topic: { ...topic, retentionBytesPerPartition: 1n } },
      /retention_bytes_per_partition/,
    ),
    bad(
      createTopic,
      { topic: { ...topic, durability: 77 as Durability } },
      /durability is 77: must be one of 1 \(memory\)/,
    ),
    bad(createTopic, { topic: { name: `projects/p/topics/${'t'.repeat(256)}` } }, /topic\.name: .*255/),
    bad(updateTopic, { topic: { name: TOPIC } }, /update_mask/),
    bad(
      createSubscription,
      { subscription: { ...sub, ackDeadlineSeconds: 601 } },
      /ack_deadline_seconds is 601: must be/,
    ),
    bad(
      createSubscription,
      { subscription: { ...sub, ackDeadlineSeconds: -1 } },
      /ack_deadline_seconds is -1: must be/,
    ),
    bad(
      listTopics,
      { parent: 'projects/fuzz', pageSize: 1_001 },
      /^page_size is 1001: must be 0 \(100\) to 1000$/,
    ),
    bad(
      listTopics,
      { parent: 'projects/fuzz', pageToken: 'x' },
      /^page_token is "x": must be one that a former answer/,
    ),
    bad(listTopics, { parent: 'fuzz' }, /parent/),
    bad(
      getBacklog,
      { parent: 'projects/fuzz', subscriptions: times(1_001, SUBSCRIPTION) },
      /1001 names: at most 1000/,
    ),
    bad(
      watchBacklog,
      { parent: 'projects/fuzz', interval: { nanos: 99_000_000 } },
      /^interval is 99 ms: must be 100 to 60000 ms$/,
    ),
    other('NOT_FOUND', Routing.method.getRoutes, { topic: `${TOPIC}-2` }, /^there is no topic/),
    raw(
      Admin.method.getTopic,
      [1, '\xff'],
      /^the request is not a valid fanfare\.v1\.GetTopicRequest in protobuf$/,
    ),
  ];
}

function bad<M extends DescMethod>(
  method: M,
  request: MessageInitShape<M['input']>,
  details: RegExp,
): Refusal {
  return other('INVALID_ARGUMENT', method, request, details);
}

function other<M extends DescMethod>(
  code: string,
  method: M,
  request: MessageInitShape<M['input']>,
  details: RegExp,
): Refusal {
  return { path: pathOf(method), frames: encode(method, request), code, details };
}

function twice<M extends DescMethod>(
  method: M,
  first: MessageInitShape<M['input']>,
  second: MessageInitShape<M['input']>,
  details: RegExp,
): Refusal {
  const frames = Buffer.concat([encode(method, first), encode(method, second)]);
  return { path: pathOf(method), frames, code: 'INVALID_ARGUMENT', details };
}

/** A request of fields whose values are bytes: as text (latin1) or, for field 2, in hex. */
function raw(method: DescMethod, ...rest: [...fields: [number, string][], details: RegExp]): Refusal {
  const fields = rest.slice(0, -1) as [number, string][];
  const bytes = fields.flatMap(([number, value]) => {
    const content = Buffer.from(value.replaceAll(' ', ''), number === 2 ? 'hex' : 'latin1');
    return [varint(number * 8 + 2), varint(content.length), content];
  });
  const details = rest.at(-1) as RegExp;
  return { path: pathOf(method), frames: framed(Buffer.concat(bytes)), code: 'INVALID_ARGUMENT', details };
}

function encode<M extends DescMethod>({ input }: M, request: MessageInitShape<M['input']>): Buffer {
  return framed(toBinary(input, create(input, request)));
}

function pathOf({ parent, name }: DescMethod): string {
  return `/${parent.typeName}/${name}`;
}
