// The watcher takes up what other brokers write: by signal at once, by poll within a second, and in spite of
// a failing store.
import { expect, test } from 'vitest';
import { AssertionError, BrokerError } from '../../services/broker/core/errors.ts';
import { DefinitionWatcher } from '../../services/broker/engine/definitions/definition-watcher.ts';
import type { SignalKind } from '../../services/broker/ports/signals.ts';
import { withRejections } from '../sim/rejections.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

async function rig() {
  const clock = new VirtualClock();
  const seen: number[] = [];
  const warnings: string[] = [];
  const state = { version: 1, fails: false, refreshFails: undefined as Error | undefined };
  let heard: (kind: SignalKind, detail: string) => void = () => undefined;
  let missed = (): void => undefined;
  const watcher = new DefinitionWatcher({
    definitions: {
      refresh: async () => {
        if (state.fails) throw new BrokerError('UNAVAILABLE', 'away');
        if (seen.at(-1) !== state.version || state.refreshFails !== undefined) seen.push(state.version);
        if (state.refreshFails !== undefined) throw state.refreshFails;
      },
    },
    signals: {
      send: () => undefined,
      listen: (onHeard, onMissed) => {
        heard = onHeard;
        missed = onMissed;
        return () => undefined;
      },
    },
    clock,
    logger: { info: () => {}, error: () => {}, warn: (_fields, message) => warnings.push(message) },
  });
  watcher.start();
  await clock.advance(0);
  return {
    clock,
    seen,
    warnings,
    state,
    watcher,
    hear: (kind: SignalKind) => heard(kind, ''),
    miss: () => missed(),
  };
}

test('a signal makes it look at once, other signals do not', async () => {
  const { seen, state, hear, miss, clock } = await rig();
  expect(seen).toEqual([1]);
  state.version = 2;
  hear('released');
  await clock.advance(0);
  expect(seen).toEqual([1]);
  hear('definitions');
  hear('definitions');
  await clock.advance(0);
  expect(seen).toEqual([1, 2]);
  state.version = 3;
  miss();
  await clock.advance(0);
  expect(seen).toEqual([1, 2, 3]);
});

test('without signals a change is seen within a second', async () => {
  const { seen, state, clock } = await rig();
  await clock.advance(10_000);
  expect(seen).toEqual([1]);
  state.version = 2;
  await clock.advance(1_000);
  expect(seen).toEqual([1, 2]);
});

test('a failing store is said once, and looked at again when it answers', async () => {
  const { seen, state, warnings, clock } = await rig();
  state.fails = true;
  await clock.advance(5_000);
  expect(warnings).toHaveLength(1);
  state.fails = false;
  state.version = 2;
  await clock.advance(1_000);
  expect(seen).toEqual([1, 2]);
});

test('what could not be taken up is tried again at each poll, and said once', async () => {
  const { seen, state, warnings, clock } = await rig();
  state.version = 2;
  state.refreshFails = new BrokerError('UNAVAILABLE', 'not in effect yet');
  await clock.advance(2_000);
  expect(seen).toEqual([1, 2, 2, 2, 2, 2]);
  expect(warnings).toHaveLength(1);
  state.refreshFails = undefined;
  state.version = 3;
  await clock.advance(2_000);
  expect(seen).toEqual([1, 2, 2, 2, 2, 2, 3]);
});

test('what must not happen ends the process', async () => {
  const { state, warnings, clock } = await rig();
  const thrown: unknown[] = [];
  await withRejections(
    (error) => thrown.push(error),
    async () => {
      state.version = 2;
      state.refreshFails = new AssertionError('impossible');
      await clock.advance(500);
      // Node reports the rejection when the turn is over.
      await new Promise(setImmediate);
    },
  );
  expect(thrown).toEqual([state.refreshFails]);
  expect(warnings).toEqual([]);
});

test('after stop nothing is asked any more', async () => {
  const { seen, state, watcher, hear, clock } = await rig();
  await watcher.stop();
  state.version = 2;
  hear('definitions');
  await clock.advance(5_000);
  expect(seen).toEqual([1]);
});
