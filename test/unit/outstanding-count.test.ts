// What owners say is outstanding, each for the question that it was asked.
import { expect, test } from 'vitest';
import { OutstandingCount } from '../../services/broker/engine/links/relay/outstanding-count.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

test('an answer to an earlier order does not count', async () => {
  const clock = new VirtualClock();
  const orders = [
    { owner: 'a', sequence: 5 },
    { owner: 'b', sequence: 2 },
  ];
  const count = new OutstandingCount(orders, clock);
  count.answered('a', 4, 0);
  count.answered('b', 2, 7);
  count.answered('a', 5, 30);
  expect(await clock.finish(count.messages)).toBe(37);
  expect(clock.timerCount).toBe(0);
});

test('who does not answer in time makes the count unknown; who has gone holds nothing', async () => {
  const clock = new VirtualClock();
  const silent = new OutstandingCount([{ owner: 'a', sequence: 1 }], clock);
  const refused = expect(silent.messages).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await clock.advance(2_000);
  await refused;
  const gone = new OutstandingCount([{ owner: 'a', sequence: 1 }], clock);
  gone.gone('a');
  expect(await gone.messages).toBe(0);
});
