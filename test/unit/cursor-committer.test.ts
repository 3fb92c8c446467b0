// engine/log/cursor-committer against a store that fails at once, one that works again, and one that knows of
// a newer owner.
import { expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { CursorCommitter, type CursorHolder } from '../../services/broker/engine/log/cursor-committer.ts';
import { createStats } from '../../services/broker/engine/stats.ts';
import { SteadyClock } from '../../services/broker/engine/steady-clock.ts';
import { engineLimits } from '../../services/broker/limits.ts';
import type { CursorStore } from '../../services/broker/ports/cursor-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

function rig(commit: CursorStore['commit'], recentBytes = 0) {
  const clock = new VirtualClock();
  const warnings: string[] = [];
  const logger = {
    info: () => {},
    warn: (_fields: object, message: string) => void warnings.push(message),
    error: () => {},
  };
  const committer = new CursorCommitter({ commit } as CursorStore, {
    ...{ clock, steady: new SteadyClock(clock, logger), limits: engineLimits(1 << 20, recentBytes) },
    ...{ stats: createStats(), logger, tracing: undefined },
  });
  const heard = { committed: 0, lost: 0 };
  const holder: CursorHolder = {
    owner: { id: { logEpoch: 1, partition: 0 }, ownerEpoch: 1 } as CursorHolder['owner'],
    subscription: 2,
    closed: false,
    snapshot: () => new Uint8Array(),
    committed() {
      heard.committed += 1;
    },
    lost() {
      heard.lost += 1;
    },
  };
  return { clock, committer, holder, warnings, heard };
}

test('a store that fails is not asked more often because many cursors move', async () => {
  let fails = true;
  let asked = 0;
  const { clock, committer, holder, warnings, heard } = rig(async () => {
    asked += 1;
    if (fails) throw new BrokerError('UNAVAILABLE', 'the store does not answer');
    return [];
  });
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
  expect(heard.committed).toBe(1);
  committer.stop();
});

test('whose claim is stale hears so', async () => {
  const { clock, committer, holder, heard } = rig(async () => [0]);
  committer.now(holder);
  await clock.advance(100);
  expect(heard.lost).toBe(1);
  committer.stop();
});

test('a cursor that rests is committed once more, where the store may go back, and then no more', async () => {
  let asked = 0;
  const { clock, committer, holder } = rig(async () => {
    asked += 1;
    return [];
  }, 1_000);
  committer.now(holder);
  await clock.advance(1_000);
  expect(asked).toBe(1);
  await clock.advance(60_000);
  expect(asked).toBe(2);
  committer.stop();
});
