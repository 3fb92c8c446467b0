// A broker whose lease is in doubt gives nothing out of what it still has.
import { expect, test } from 'vitest';
import { startEngine } from '../support/engine-rig.ts';

test('what is published is delivered when there is a lease again, and not before', async () => {
  let mayServe = true;
  const { clock, publish, consume, broker } = await startEngine({ mayServe: () => mayServe });
  const received = consume();
  await clock.finish(publish('a'));
  await clock.advance(100);
  expect(received).toEqual(['a']);
  mayServe = false;
  await clock.finish(publish('b'));
  await clock.advance(1_000);
  expect(received).toEqual(['a']);
  mayServe = true;
  await clock.finish(publish('c'));
  await clock.advance(100);
  expect(received).toEqual(['a', 'b', 'c']);
  await clock.finish(broker.stop());
});
