// What an owner sends to a relay: a chunk again once the relay has let go of it.
import { expect, test } from 'vitest';
import { DeliveredMessages } from '../../services/broker/engine/delivery/delivered-messages.ts';
import { ChunkWindow } from '../../services/broker/engine/links/owner/peer-sink.ts';
import { CachedChunk } from '../../services/broker/engine/log/chunk-cache.ts';
import type { PeerAnswer } from '../../services/broker/ports/peer.ts';

const PARTITION = { logEpoch: 1, partition: 0 };

function delivery(firstOffset: number): DeliveredMessages {
  const at = { firstOffset, count: 1, publishTimeMs: 0, startByte: firstOffset * 1_000 };
  const chunk = new CachedChunk({ ...at, bytes: Buffer.alloc(1_000) });
  const runs = [{ first: firstOffset, last: firstOffset, attempt: 1 }];
  return new DeliveredMessages(PARTITION, chunk, runs, 1, 1_000);
}

test('a chunk that the relay does not keep any longer is sent again before it is named', () => {
  const sent: PeerAnswer[] = [];
  const window = new ChunkWindow({ writable: true, send: (answer) => void sent.push(answer) }, 4_000);
  const first = delivery(0);
  window.deliver(1, first);
  window.deliver(2, first);
  expect(sent.map(({ kind }) => kind)).toEqual(['chunk', 'deliver', 'deliver']);
  for (let offset = 1; offset <= 4; offset += 1) window.deliver(1, delivery(offset));
  sent.length = 0;
  window.deliver(3, first);
  const [chunk, named] = sent;
  expect(chunk).toMatchObject({ kind: 'chunk', firstOffset: 0 });
  expect(named).toMatchObject({ kind: 'deliver', consumer: 3, chunk: (chunk as { chunk: number }).chunk });
});
