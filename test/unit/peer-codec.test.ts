// adapters/grpc/peer-requests.ts and peer-answers.ts: what a link carries arrives as it was sent, and what is
// no message of a peer is refused.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  answerBytes,
  decodeAnswers,
  encodeAnswers,
} from '../../services/broker/adapters/grpc/peer-answers.ts';
import {
  decodeRequests,
  encodeRequests,
  requestBytes,
} from '../../services/broker/adapters/grpc/peer-requests.ts';
import { PULLING } from '../../services/broker/core/consumer-client.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { PeerAnswer, PeerRequest } from '../../services/broker/ports/peer.ts';
import { cases } from '../support/property.ts';

const whole = fc.maxSafeNat();
const small = fc.nat(1_000);
const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const partition = fc.record({ logEpoch: whole, partition: fc.nat(1_023) });
const operations = fc.array(
  fc
    .record({
      kind: fc.constantFrom('ack' as const, 'nack' as const, 'extend' as const),
      logEpoch: whole,
      partition: fc.nat(1_023),
      first: small,
      more: small,
      seconds: fc.nat(600),
      attempt: fc.option(fc.integer({ min: 1, max: 2 ** 31 }), { nil: undefined }),
      settledBefore: fc.boolean(),
    })
    .map(({ more, attempt, settledBefore, ...rest }) => ({
      ...rest,
      last: rest.first + more,
      ...(attempt !== undefined && { attempt }),
      ...(settledBefore && { settledBefore: true as const }),
    })),
  { maxLength: 5 },
);
const kind = <K extends string>(name: K) => fc.constant(name);
const code = fc.constantFrom('NOT_FOUND' as const, 'UNAVAILABLE' as const, 'RESOURCE_EXHAUSTED' as const);

const request: fc.Arbitrary<PeerRequest> = fc.oneof(
  fc.record({ kind: kind('publish'), call: whole, topic: text, partition, attempt: whole, messages: bytes }),
  fc.record({
    kind: kind('attach'),
    consumer: whole,
    subscription: text,
    incarnation: whole,
    client: fc.oneof(
      fc.record({ kind: kind('stream'), id: text, hash: fc.nat(0xffff_ffff), stream: text }),
      fc.constant(PULLING),
    ),
    resumes: fc.boolean(),
    fresh: fc.boolean(),
  }),
  fc.record({
    kind: kind('credit'),
    consumer: whole,
    sequence: whole,
    maxOutstandingMessages: whole,
    maxOutstandingBytes: whole,
    ackDeadlineMs: whole,
  }),
  fc.record({
    kind: kind('credit'),
    consumer: whole,
    sequence: whole,
    maxOutstandingMessages: whole,
    maxOutstandingBytes: whole,
    ackDeadlineMs: whole,
    draining: fc.constant(true),
  }),
  fc.record({ kind: kind('taken'), consumer: whole, bytes: whole }),
  fc.record({ kind: kind('settle'), consumer: whole, operations }),
  fc.record({ kind: kind('detach'), consumer: whole, leases: fc.constantFrom('end', 'stay', 'wait') }),
  fc.record({
    kind: kind('settleUnary'),
    call: whole,
    subscription: text,
    incarnation: whole,
    operations,
  }),
  fc.record(
    {
      kind: kind('backlog'),
      call: whole,
      parent: text,
      names: fc.array(text, { maxLength: 3 }),
      question: fc.record({ consumerHash: small, beforeOffsets: fc.array(whole, { maxLength: 3 }) }),
    },
    { requiredKeys: ['kind', 'call', 'parent', 'names'] },
  ),
  fc.record({ kind: kind('watchFirstMessages') }),
  fc.record({
    kind: kind('drain'),
    call: whole,
    request: fc.record({
      subscription: text,
      clientIds: fc.array(text, { maxLength: 3 }),
      peerAddresses: fc.array(text, { maxLength: 3 }),
      ttlMs: whole,
    }),
  }),
);

const run = fc.record({ first: whole, last: whole, attempt: fc.integer({ min: 1, max: 9 }) });
const report = fc.record({
  subscription: text,
  topic: text,
  messages: whole,
  bytes: whole,
  outstandingMessages: whole,
  oldestUnackedAgeMs: fc.option(fc.double({ min: 0, max: 1e12, noNaN: true }), { nil: undefined }),
  consumers: small,
  appendedTotal: whole,
  deliveredTotal: whole,
  ackedTotal: whole,
  redeliveredTotal: whole,
  expiredByRetentionTotal: whole,
  measureTimeMs: fc.double({ min: 0, max: 1e13, noNaN: true }),
  consumersWithoutCredit: small,
  blockedMessages: whole,
  activeKeys: fc.option(small, { nil: undefined }),
  partitions: fc.option(
    fc.array(fc.record({ partition: small, endOffset: whole, messages: whole, elsewhereMessages: whole }), {
      minLength: 1,
      maxLength: 3,
    }),
    { nil: undefined },
  ),
});
const draining = fc.record({
  consumers: fc.array(
    fc.record({ clientId: text, peerAddress: text, streams: small, outstandingMessages: whole }),
    { maxLength: 3 },
  ),
  streams: small,
  outstandingMessages: whole,
});

const answer: fc.Arbitrary<PeerAnswer> = fc.oneof(
  fc.record({ kind: kind('published'), call: whole, firstOffset: whole, count: whole }),
  fc.record({
    kind: kind('refused'),
    call: whole,
    reason: fc.oneof(code, kind('NOT_OWNER')),
    message: text,
  }),
  fc.record({
    kind: kind('chunk'),
    chunk: whole,
    keepFrom: whole,
    partition,
    firstOffset: whole,
    count: whole,
    publishTimeMs: whole,
    startByte: whole,
    bytes,
  }),
  // Values are few, so that neighbours are often alike except for their consumer.
  fc.record({
    kind: kind('deliver'),
    consumer: whole,
    chunk: fc.nat(1),
    runs: fc.oneof(
      fc.constant([{ first: 3, last: 7, attempt: 1 }]),
      fc.array(run, { minLength: 1, maxLength: 3 }),
    ),
    messages: fc.nat(1),
    bytes: fc.nat(1),
  }),
  fc.record({ kind: kind('credited'), consumer: whole, sequence: whole, outstandingMessages: whole }),
  fc.record({ kind: kind('wants'), consumer: whole, more: fc.boolean() }),
  fc.record({ kind: kind('bounced'), consumer: whole, operations }),
  fc.record({ kind: kind('ended'), consumer: whole, code, message: text }),
  fc.record({ kind: kind('settled'), call: whole, bounced: operations }),
  fc.record({ kind: kind('backlogs'), call: whole, reports: fc.array(report, { maxLength: 2 }) }),
  fc.record({ kind: kind('firstMessage'), subscription: text }),
  fc.record(
    { kind: kind('draining'), call: whole, report: draining, failed: fc.record({ code, message: text }) },
    { requiredKeys: ['kind', 'call', 'report'] },
  ),
);

test('requests arrive as they were sent', () => {
  fc.assert(
    fc.property(fc.array(request, { maxLength: 8 }), (requests) => {
      expect(decodeRequests(Buffer.concat(encodeRequests(requests)))).toEqual(requests);
    }),
    cases(500),
  );
});

test('answers arrive as they were sent, also where several consumers get the same', () => {
  fc.assert(
    fc.property(fc.array(answer, { maxLength: 12 }), (answers) => {
      expect(decodeAnswers(Buffer.concat(encodeAnswers(answers)))).toEqual(answers);
    }),
    cases(500),
  );
});

test('what 64 consumers get alike is said once', () => {
  const runs = [{ first: 100, last: 199, attempt: 1 }];
  const answers = Array.from({ length: 64 }, (_, at) => ({
    kind: 'deliver' as const,
    consumer: 1_000 + at,
    chunk: 7,
    runs,
    messages: 100,
    bytes: 30_000,
  }));
  expect(Buffer.concat(encodeAnswers(answers)).length).toBeLessThan(64 * 2 + 40);
});

test('consumers that get the same runs of different chunks are told so', () => {
  const alike = {
    kind: 'deliver' as const,
    runs: [{ first: 1, last: 2, attempt: 1 }],
    messages: 2,
    bytes: 9,
  };
  const answers = [
    { ...alike, consumer: 1, chunk: 7 },
    { ...alike, consumer: 2, chunk: 8 },
    { ...alike, consumer: 3, chunk: 8, runs: [{ first: 1, last: 2, attempt: 2 }] },
    { ...alike, consumer: 4, chunk: 8 },
  ];
  expect(decodeAnswers(Buffer.concat(encodeAnswers(answers)))).toEqual(answers);
});

test('the bytes of chunks and publishes are not copied', () => {
  const payload = Buffer.alloc(100_000, 1);
  const id = { logEpoch: 1, partition: 2 };
  const publish = {
    kind: 'publish' as const,
    call: 1,
    topic: 't',
    partition: id,
    attempt: 1,
    messages: payload,
  };
  expect(encodeRequests([publish]).at(-1)).toBe(payload);
  const position = { firstOffset: 0, count: 1, publishTimeMs: 0, startByte: 0 };
  const chunk = { kind: 'chunk' as const, chunk: 1, keepFrom: 1, partition: id, ...position, bytes: payload };
  const parts = encodeAnswers([chunk]);
  expect(parts.at(-1)).toBe(payload);
  const received = Buffer.concat(parts);
  const [decoded] = decodeAnswers(received);
  expect(decoded?.kind === 'chunk' && decoded.bytes.buffer).toBe(received.buffer);
  expect(requestBytes(publish)).toBeGreaterThan(payload.length);
  expect(answerBytes(chunk)).toBeGreaterThan(payload.length);
});

test('rubbish is INVALID_ARGUMENT, whatever it is', () => {
  fc.assert(
    fc.property(
      fc.array(request, { minLength: 1, maxLength: 3 }),
      fc.nat(),
      fc.nat(255),
      (requests, at, byte) => {
        const wire = Buffer.concat(encodeRequests(requests));
        wire[at % wire.length] = byte;
        for (const decode of [decodeRequests, decodeAnswers]) {
          try {
            decode(wire);
          } catch (error) {
            expect(error).toBeInstanceOf(BrokerError);
            expect((error as BrokerError).code).toBe('INVALID_ARGUMENT');
          }
        }
      },
    ),
    cases(1_000),
  );
  expect(() => decodeRequests(Buffer.from([0x0a, 0x00]))).toThrow('unknown request');
});
