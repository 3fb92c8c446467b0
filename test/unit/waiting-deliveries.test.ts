// What a relay keeps for a stream that takes nothing: as much memory as the messages need, or little more.
import { expect, test } from 'vitest';
import { cutChunk } from '../../services/broker/core/chunk.ts';
import { parsePublish } from '../../services/broker/core/publish-batch.ts';
import { DeliveredMessages } from '../../services/broker/engine/delivery/delivered-messages.ts';
import { WaitingDeliveries } from '../../services/broker/engine/links/relay/waiting-deliveries.ts';
import { CachedChunk } from '../../services/broker/engine/log/chunk-cache.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';

const PARTITION = { logEpoch: 1, partition: 0 };

/** A chunk of 100 messages of about 100 bytes. */
function chunkOfHundred(): CachedChunk {
  const messages = Array.from({ length: 100 }, () => ({
    data: Buffer.alloc(100),
    attributes: {},
    orderingKey: '',
  }));
  const batch = parsePublish(requestBytes('projects/p/topics/t', messages), LIMITS);
  const slices = [{ batch, indexes: undefined }];
  const { bytes } = cutChunk(slices, PARTITION, 1_000, 0, Buffer.alloc);
  const at = { firstOffset: 1_000, count: 100, publishTimeMs: 0, startByte: 0 };
  return new CachedChunk({ ...at, bytes: Buffer.from(bytes) });
}

test('a few messages do not hold the chunk that they came in', () => {
  const chunk = chunkOfHundred();
  const runs = [{ first: 1_040, last: 1_042, attempt: 1 }];
  const ends = chunk.ends();
  const bytes = ends[42]! - ends[39]!;
  const few = new DeliveredMessages(PARTITION, chunk, runs, 3, bytes);
  const queue = new WaitingDeliveries<string>();
  queue.push('leg', few);
  const { messages } = queue.shift();
  expect(messages.frames).toEqual(few.frames);
  expect(messages.chunk.byteLength).toBe(bytes);
});
