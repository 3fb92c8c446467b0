// core/link-life.ts: when a link is up, and after how many beats without a word it is given up.
import { expect, test } from 'vitest';
import { LinkLife } from '../../services/broker/core/link-life.ts';

test('a link is up with the first answer, and closes once', () => {
  const life = new LinkLife('connecting', 3);
  expect([life.state, life.heard(), life.state, life.heard()]).toEqual(['connecting', true, 'up', false]);
  expect([life.close(), life.state, life.close(), life.heard(), life.state]).toEqual([
    true,
    'closed',
    false,
    false,
    'closed',
  ]);
});

test('it bears so many beats in a row without a word', () => {
  const life = new LinkLife('up', 2);
  expect([life.beat(), life.beat()]).toEqual([true, true]);
  life.heard();
  expect([life.beat(), life.beat(), life.beat()]).toEqual([true, true, false]);
});
