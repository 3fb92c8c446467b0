// engine/log/cursor-committer against a store that fails at once, and one that works again.
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { CursorCommitter, type CursorHolder } from '../../services/broker/engine/log/cursor-committer.ts';
import { createStats } from '../../services/broker/engine/stats.ts';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import { engineLimits } from '../../services/broker/limits.ts';
import type { CursorStore } from '../../services/broker/ports/cursor-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

test('a store that fails is not asked more often because many cursors move', async () => {
  const clock = new VirtualClock();
  const warnings: string[] = [];
  const logger = {
    info: () => {},
    warn: (_fields: object, message: string) => void warnings.push(message),
    error: () => {},
  };
  let fails = true;
  let asked = 0;
  const store: Pick<CursorStore, 'commit'> = {
    async commit() {
      asked += 1;
      if (fails) throw new BrokerError('UNAVAILABLE', 'the store does not answer');
      return [];
    },
  };
  const committer = new CursorCommitter(store as CursorStore, {
    ...{ clock, steady: new SteadyClock(clock, logger), limits: engineLimits(1 << 20) },
    ...{ stats: createStats(), logger, tracing: undefined },
  });
  let committed = 0;
  const holder: CursorHolder = {
    owner: { id: { logEpoch: 1, partition: 0 }, ownerEpoch: 1 } as CursorHolder['owner'],
    subscription: 2,
    closed: false,
    snapshot: () => new Uint8Array(),
    committed() {
      committed += 1;
    },
    lost: () => {},
  };
  for (let ms = 0; ms < 1_000; ms += 1) {
    committer.now(holder);
    await clock.advance(1);
  }
  expect(asked).toBeGreaterThan(2);
  expect(asked).toBeLessThan(7);
  expect(warnings).toHaveLength(asked);
  fails = false;
  const flushed = committer.flushed();
  await clock.advance(300);
  await flushed;
  expect(committed).toBe(1);
  committer.stop();
});
