// A stop while the store takes nothing: it has an end all the same.
import { expect, test } from 'vitest';
import { type Outcome, startEngine } from '../support/engine-rig.ts';

const PATIENCE_MS = 3_000;

test('a store that is away: what waits for it hears so, and the broker stops when its patience ends', async () => {
  const { stores, broker, clock, publish, consume, said } = await startEngine();
  const received = consume();
  const first = publish('a');
  await clock.advance(100);
  expect(await first).toMatchObject([{ count: 1 }]);
  expect(received).toEqual(['a']);

  stores.faults.down = true;
  consume({ keep: true });
  const outcomes: Outcome[] = [];
  void publish('b').then((outcome) => outcomes.push(outcome));
  await clock.advance(10);
  let stopped = false;
  void broker.stop(PATIENCE_MS).then(() => {
    stopped = true;
  });
  await clock.advance(PATIENCE_MS - 1);
  expect(stopped).toBe(false);
  await clock.advance(1);
  expect(stopped).toBe(true);
  await clock.advance(2_000);
  expect(outcomes).toMatchObject([{ code: 'UNAVAILABLE' }]);
  expect(said).toContain('warn: stopped although the store has not taken everything');
  await clock.advance(60_000);
  expect(clock.timerCount).toBe(0);
});

test('a store that takes everything is not waited for', async () => {
  const { broker, clock, publish, consume } = await startEngine();
  consume();
  void publish('a');
  let stopped = false;
  void broker.stop(PATIENCE_MS).then(() => {
    stopped = true;
  });
  await clock.settle();
  expect(stopped).toBe(true);
  expect(clock.timerCount).toBe(0);
});
