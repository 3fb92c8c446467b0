// How many deletions a broker remembers: as many as services/CLUSTER.md says, the newest.
import { expect, test } from 'vitest';
import { RemovalMemory } from '../../services/broker/engine/definitions/removal-memory.ts';

test('the newest 20,000 deletions are remembered', () => {
  const memory = new RemovalMemory();
  for (let incarnation = 1; incarnation <= 20_000; incarnation += 1) memory.add(incarnation);
  expect(memory.has(1)).toBe(true);
  memory.add(20_001);
  expect([1, 2, 20_001].map((incarnation) => memory.has(incarnation))).toEqual([false, true, true]);
  // What is told of again is new.
  memory.add(2);
  memory.add(20_002);
  expect([2, 3].map((incarnation) => memory.has(incarnation))).toEqual([true, false]);
});
