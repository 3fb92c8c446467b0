// What a broker tells the new owners of partitions of the cursors that it remembers.
import { expect, test } from 'vitest';
import { encodeCursor } from '../../services/broker/core/cursor.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import type { EngineContext } from '../../services/broker/engine/context.ts';
import { CursorTeller } from '../../services/broker/engine/links/relay/cursor-teller.ts';
import { RememberedCursors } from '../../services/broker/engine/log/remembered-cursors.ts';
import type { Route, Routes } from '../../services/broker/engine/membership/routes.ts';
import { createMemoryStore } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const ID = { logEpoch: 3, partition: 1 };

/** A teller whose broker had the first ten messages of a log, and remembers a cursor up to the 15th. */
async function started(settle: (operations: readonly SettleOperation[]) => Promise<void>) {
  const clock = new VirtualClock();
  const { log } = createMemoryStore();
  const bytes = Buffer.alloc(100);
  const chunk = { firstOffset: 0, count: 10, publishTimeMs: 1, startByte: 0, bytes };
  const other = { firstOffset: 10, count: 10, publishTimeMs: 2, startByte: 100, bytes };
  await log.append(ID, 0, 0, [chunk, other], { level: 'stored', minReplicas: 0 });
  const remembered = new RememberedCursors(log);
  const mark = { firstOffset: 0, count: 10, publishTimeMs: 1, startByte: 0, byteLength: 100 };
  remembered.keep(
    {
      id: ID,
      subscription: { name: 'projects/p/subscriptions/s', incarnation: 7 },
      record: encodeCursor({ floor: 15, settled: [{ first: 17, last: 18 }], attempts: [] }),
      isHandedOver: false,
      marks: [mark],
    },
    0,
  );
  const logger = { info: () => {}, warn: () => {}, error: () => {} };
  const routes = {
    selfId: 'me',
    targetOf: () => ({ memberId: 'other' }) as Route,
    onChange: () => () => undefined,
  };
  const teller = new CursorTeller({
    remembered,
    routes: routes as unknown as Routes,
    remote: { settle: (_subscription, operations) => settle(operations) },
    context: { clock, logger } as unknown as EngineContext,
  });
  teller.start();
  return { clock, teller };
}

test('as far as the log is the same, and once', async () => {
  const told: SettleOperation[] = [];
  const { clock, teller } = await started(async (operations) => void told.push(...operations));
  await clock.advance(5_000);
  expect(told).toMatchObject([{ kind: 'ack', ...ID, first: 0, last: 9, settledBefore: true }]);
  await teller.stop();
});

test('again and again, until the owner has heard it', async () => {
  let asked = 0;
  const { clock, teller } = await started(async () => {
    asked += 1;
    if (asked < 4) throw new BrokerError('UNAVAILABLE', 'no owner just now');
  });
  await clock.advance(10_000);
  expect(asked).toBe(4);
  await teller.stop();
});
