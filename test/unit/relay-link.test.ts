// A link to an owner that breaks: what waits on it hears what is known, which is not that nothing was stored.
import { expect, test } from 'vitest';
import type { EngineContext } from '../../services/broker/engine/context.ts';
import { type PublishOutcome, RelayLink } from '../../services/broker/engine/links/relay/relay-link.ts';
import type { PeerLinkEvents, PeerRequest } from '../../services/broker/ports/peer.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

test('publishes that are not answered when it closes may have been stored', () => {
  const sent: PeerRequest[] = [];
  let events: PeerLinkEvents | undefined;
  const connector = {
    connect: (_address: string, _memberId: string, heard: PeerLinkEvents) => {
      events = heard;
      return {
        send: (request: PeerRequest) => {
          sent.push(request);
          return true;
        },
        close: () => undefined,
      };
    },
  };
  const clock = new VirtualClock();
  const logger = { info: () => {}, warn: () => {}, error: () => {} };
  const route = { memberId: 'other', name: 'other', address: 'other:1', version: 1 };
  const host = { up() {}, closed() {}, writableAgain() {}, firstMessage() {} };
  const link = new RelayLink(connector, route, { clock, logger } as unknown as EngineContext, host);
  const outcomes: PublishOutcome[] = [];
  const partition = { logEpoch: 1, partition: 0 };
  for (let nth = 0; nth < 2; nth += 1)
    link.publish('topic', partition, 1, Buffer.alloc(1), (outcome) => outcomes.push(outcome));
  const first = sent.find(({ kind }) => kind === 'publish') as PeerRequest & { kind: 'publish' };
  events!.answer({ kind: 'published', call: first.call, firstOffset: 5, count: 1 });
  events!.closed('broken');
  expect(outcomes).toEqual([{ kind: 'published', firstOffset: 5 }, { kind: 'unknown' }]);
  expect(clock.timerCount).toBe(0);
});
