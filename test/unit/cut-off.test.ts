// engine/membership/cut-off.ts: when a broker without a lease sends its clients away.
import { expect, test } from 'vitest';
import { CutOffWatch } from '../../services/broker/engine/membership/cut-off.ts';
import type { MembershipListener } from '../../services/broker/engine/membership/membership-keeper.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

function watch() {
  const clock = new VirtualClock();
  const listeners = new Set<MembershipListener>();
  const said: boolean[] = [];
  const cutOff = new CutOffWatch({
    membership: {
      listen(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    clock,
    afterMs: 2_000,
    onChange: (isCutOff) => said.push(isCutOff),
  });
  const [{ fenced, regained }] = [...listeners] as [Required<MembershipListener>];
  return { clock, cutOff, said, fenced: () => fenced('no answer'), regained, listeners };
}

test('a broker is cut off a lease after its lease was lost, until it has one again', async () => {
  const { clock, said, fenced, regained } = watch();
  fenced();
  await clock.advance(1_999);
  expect(said).toEqual([]);
  await clock.advance(1);
  expect(said).toEqual([true]);
  regained();
  expect(said).toEqual([true, false]);
});

test('a lease that comes back soon sends nobody away', async () => {
  const { clock, said, fenced, regained } = watch();
  fenced();
  await clock.advance(1_000);
  regained();
  await clock.advance(10_000);
  expect(said).toEqual([]);
});

test('after stop nothing is said and no timer is left', async () => {
  const { clock, cutOff, said, fenced, listeners } = watch();
  fenced();
  cutOff.stop();
  await clock.advance(10_000);
  expect(said).toEqual([]);
  expect(listeners.size).toBe(0);
  expect(clock.timerCount).toBe(0);
});
