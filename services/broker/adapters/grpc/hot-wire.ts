// The hot path's messages that are not read or written in core: publish results, byte by byte, and Pull
// requests. Publish and settle requests are read by core (publish-batch, settle-request); deliveries are
// frames already.

import { BrokerError } from '../../core/errors.ts';
import { LENGTH, VARINT, varintLength, WireReader, writeVarint } from '../../core/wire.ts';
import type { PublishedRun } from '../../engine/routed-batch.ts';

/** PublishResponse: message_ids = 1, durability = 16. */
export function encodePublishResponse(
  logEpoch: number,
  runs: readonly PublishedRun[],
  durability: number,
): Buffer {
  const ids: string[] = [];
  let bytes = 3;
  for (const { partition, firstOffset, count } of runs) {
    for (let i = 0; i < count; i += 1) {
      const id = `${logEpoch}.${partition}-${firstOffset + i}`;
      ids.push(id);
      bytes += 2 + id.length;
    }
  }
  const response = Buffer.allocUnsafe(bytes);
  let to = 0;
  for (const id of ids) {
    response[to] = 0x0a;
    response[to + 1] = id.length;
    to += 2 + response.write(id, to + 2, 'latin1');
  }
  // Tag 16 takes two bytes.
  response[to] = 0x80;
  response[to + 1] = 0x01;
  response[to + 2] = durability;
  return response;
}

/**
 * PublishStreamResponse: request_id = 1, runs = 2 {partition = 1, first_offset = 2, count = 3},
 * log_epoch = 3, durability = 4.
 */
export function encodePublishStreamResponse(
  requestId: number,
  logEpoch: number,
  runs: readonly PublishedRun[],
  durability: number,
): Buffer {
  let bytes = 1 + varintLength(requestId) + 1 + varintLength(logEpoch) + 2;
  for (const run of runs) bytes += 2 + runLength(run);
  const response = Buffer.allocUnsafe(bytes);
  response[0] = 0x08;
  let to = writeVarint(response, 1, requestId);
  for (const run of runs) {
    response[to] = 0x12;
    response[to + 1] = runLength(run);
    response[to + 2] = 0x08;
    to = writeVarint(response, to + 3, run.partition);
    response[to] = 0x10;
    to = writeVarint(response, to + 1, run.firstOffset);
    response[to] = 0x18;
    to = writeVarint(response, to + 1, run.count);
  }
  response[to] = 0x18;
  to = writeVarint(response, to + 1, logEpoch);
  response[to] = 0x20;
  response[to + 1] = durability;
  return response;
}

/** A run's length; below 128: three tags, and varints of at most 3, 8 and 2 bytes. */
function runLength({ partition, firstOffset, count }: PublishedRun): number {
  return 3 + varintLength(partition) + varintLength(firstOffset) + varintLength(count);
}

/** PublishStreamResponse: request_id = 1, error = 5 {code = 1, message = 2, message_index = 3}. */
export function encodePublishStreamError(
  requestId: number,
  code: number,
  message: string,
  messageIndex?: number,
): Buffer {
  const text = Buffer.from(message);
  const index = messageIndex === undefined ? 0 : 1 + varintLength(messageIndex);
  const error = 2 + 1 + varintLength(text.length) + text.length + index;
  const response = Buffer.allocUnsafe(1 + varintLength(requestId) + 1 + varintLength(error) + error);
  response[0] = 0x08;
  let to = writeVarint(response, 1, requestId);
  response[to] = 0x2a;
  to = writeVarint(response, to + 1, error);
  response[to] = 0x08;
  response[to + 1] = code;
  response[to + 2] = 0x12;
  to = writeVarint(response, to + 3, text.length);
  to += text.copy(response, to);
  if (messageIndex !== undefined) {
    response[to] = 0x18;
    writeVarint(response, to + 1, messageIndex);
  }
  return response;
}

export interface PullMessage {
  readonly subscription: string;
  readonly maxMessages: number;
  readonly maxWaitMs: number;
}

/**
 * PullRequest: subscription = 1, max_messages = 3, max_wait = 16 {seconds = 1, nanos = 2}. Limits are not
 * checked here.
 */
export function parsePull(bytes: Uint8Array): PullMessage {
  const reader = new WireReader(bytes);
  let subscription = '';
  let maxMessages = 0;
  let maxWaitMs = 0;
  while (reader.tag()) {
    if (reader.field === 1) {
      reader.expect(LENGTH, 'subscription');
      subscription = reader.string('subscription');
    } else if (reader.field === 3) {
      reader.expect(VARINT, 'max_messages');
      maxMessages = reader.int();
    } else if (reader.field === 16) {
      reader.expect(LENGTH, 'max_wait');
      const end = reader.block();
      maxWaitMs = parseDurationMs(new WireReader(bytes, reader.at, end));
      reader.at = end;
    } else reader.skip();
  }
  return { subscription, maxMessages, maxWaitMs };
}

function parseDurationMs(reader: WireReader): number {
  let ms = 0;
  while (reader.tag()) {
    if (reader.field > 2) {
      reader.skip();
      continue;
    }
    reader.expect(VARINT, 'max_wait');
    const value = reader.int();
    if (value < 0) throw new BrokerError('INVALID_ARGUMENT', 'max_wait must not be negative');
    ms += reader.field === 1 ? value * 1000 : value / 1_000_000;
  }
  return ms;
}
