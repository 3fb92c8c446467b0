// How much one side of a link gathers for a transport that takes nothing.
import { expect, test } from 'vitest';
import { PeerWriter } from '../../services/broker/adapters/grpc/peer-writer.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

test('says when more waits than the transport will take soon, and when it may go on', async () => {
  const taken: (() => void)[] = [];
  let drained = 0;
  const writer = new PeerWriter<Buffer>({
    clock: new VirtualClock(),
    encode: (objects) => [...objects],
    bytesOf: (object) => object.length,
    write: (_parts, _bytes, onTaken) => void taken.push(onTaken),
    writableAgain: () => {
      drained += 1;
    },
  });
  const piece = Buffer.alloc(600 * 1024);
  let sent = 0;
  while (sent < 100 && writer.send(piece)) sent += 1;
  expect(sent).toBeLessThan(5);
  expect(drained).toBe(0);
  for (const each of taken) each();
  expect(drained).toBe(1);
  expect(writer.send(piece)).toBe(true);
});
