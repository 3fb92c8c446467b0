// The quality of an assignment, as properties: balance within the factor, few moves and none without a
// reason, the same result whoever computes it. The last test prints how partitions are spread.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Assignment,
  assign,
  decodeAssignment,
  EMPTY_ASSIGNMENT,
  encodeAssignment,
  LOAD_FACTOR,
  loadsOf,
  movesBetween,
  partitionsOf,
  type TopicPartitions,
  targetOf,
} from '../../services/broker/core/assignment.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';

const names = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, i) => `broker-${from + i}`);

function topicsOf(sizes: readonly number[]): TopicPartitions[] {
  return sizes.map((partitions, index) => ({ logEpoch: index * 3 + 1, partitions }));
}

const next = (
  previous: Assignment,
  members: readonly string[],
  topics: readonly TopicPartitions[],
): Assignment => assign({ members, topics, previous, version: previous.version + 1 });

const countOf = (topics: readonly TopicPartitions[]): number =>
  topics.reduce((sum, { partitions }) => sum + partitions, 0);

/**
 * Checks that everything is placed, on members only, within the factor, and that the versions tell what
 * moved.
 */
function check(
  before: Assignment,
  after: Assignment,
  members: readonly string[],
  topics: readonly TopicPartitions[],
): void {
  const total = countOf(topics);
  const mean = total / members.length;
  const loads = loadsOf(after);
  expect([...loads.keys()]).toEqual([...members].sort());
  expect([...loads.values()].reduce((a, b) => a + b, 0)).toBe(total);
  expect(Math.max(...loads.values())).toBeLessThanOrEqual(Math.ceil(mean * LOAD_FACTOR));
  expect(Math.min(...loads.values())).toBeGreaterThanOrEqual(Math.floor(mean / LOAD_FACTOR));
  for (const { logEpoch, partitions } of topics) {
    for (let partition = 0; partition < partitions; partition += 1) {
      const former = targetOf(before, { logEpoch, partition });
      const target = targetOf(after, { logEpoch, partition })!;
      expect(target.version).toBe(former?.name === target.name ? former.version : after.version);
    }
  }
}

const moved = (before: Assignment, after: Assignment): number => [...movesBetween(before, after)].length;

const arbitrarySizes = fc.array(fc.integer({ min: 1, max: 32 }), { minLength: 1, maxLength: 120 });
const arbitraryMembers = fc.integer({ min: 1, max: 50 });

describe('properties', { timeout: TIMEOUT_MS }, () => {
  test('balanced, deterministic, and nothing changes without a reason', () => {
    fc.assert(
      fc.property(arbitraryMembers, arbitrarySizes, fc.integer(), (count, sizes, seed) => {
        const topics = topicsOf(sizes);
        const members = names(count);
        const first = next(EMPTY_ASSIGNMENT, members, topics);
        check(EMPTY_ASSIGNMENT, first, members, topics);
        const shuffle = <T>(list: readonly T[]): T[] =>
          [...list].sort(
            (a, b) =>
              Math.sin(seed + JSON.stringify(a).length) - Math.sin(seed * 2 + JSON.stringify(b).length),
          );
        const again = next(EMPTY_ASSIGNMENT, shuffle(members).reverse(), shuffle(topics).reverse());
        expect(encodeAssignment(again)).toBe(encodeAssignment(first));
        // A restarted coordinator starts from the stored text and finds nothing to do.
        const stored = decodeAssignment(encodeAssignment(first));
        expect(next(stored, [...members].reverse(), [...topics].reverse())).toBe(stored);
      }),
      cases(200),
    );
  });

  test('one of n joins: about 1/n moves, and only to it, beyond what the bound forces', () => {
    fc.assert(
      fc.property(arbitraryMembers, arbitrarySizes, fc.nat(), (count, sizes, pick) => {
        const topics = topicsOf(sizes);
        const all = names(count + 1);
        const joins = all[pick % all.length]!;
        const before = next(
          EMPTY_ASSIGNMENT,
          all.filter((name) => name !== joins),
          topics,
        );
        const after = next(before, all, topics);
        check(before, after, all, topics);
        const most = Math.ceil((countOf(topics) / all.length) * LOAD_FACTOR);
        const moves = [...movesBetween(before, after)];
        const elsewhere = moves.filter(({ to }) => to !== joins);
        expect(moves.length - elsewhere.length).toBeLessThanOrEqual(most);
        // Moves between others had to leave a member that was above the new bound.
        for (const { from } of elsewhere) {
          expect(from).toBeDefined();
          expect(loadsOf(before).get(from!)).toBeGreaterThan(most);
        }
      }),
      cases(300),
    );
  });

  test('one of n leaves: only what it had moves, beyond what the bound forces', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 50 }), arbitrarySizes, fc.nat(), (count, sizes, pick) => {
        const topics = topicsOf(sizes);
        const all = names(count);
        const leaves = all[pick % count]!;
        const before = next(EMPTY_ASSIGNMENT, all, topics);
        const rest = all.filter((name) => name !== leaves);
        const after = next(before, rest, topics);
        check(before, after, rest, topics);
        const moves = [...movesBetween(before, after)];
        const forced = moves.filter(({ from }) => from !== leaves);
        expect(moves.length - forced.length).toBe(loadsOf(before).get(leaves));
        const least = Math.floor(countOf(topics) / rest.length / LOAD_FACTOR);
        for (const { to } of forced) expect(loadsOf(before).get(to!)).toBeLessThan(least);
      }),
      cases(300),
    );
  });

  test('a topic is created: only its partitions are placed', () => {
    fc.assert(
      fc.property(arbitraryMembers, arbitrarySizes, fc.integer({ min: 1, max: 32 }), (count, sizes, size) => {
        const topics = topicsOf(sizes);
        const before = next(EMPTY_ASSIGNMENT, names(count), topics);
        const created = { logEpoch: 10_000, partitions: size };
        const after = next(before, names(count), [...topics, created]);
        check(before, after, names(count), [...topics, created]);
        const others = [...movesBetween(before, after)].filter(
          ({ partition }) => partition.logEpoch !== 10_000,
        );
        const least = Math.floor(countOf([...topics, created]) / count / LOAD_FACTOR);
        for (const { to } of others) expect(loadsOf(before).get(to!)).toBeLessThan(least);
      }),
      cases(200),
    );
  });

  test('any history of members and topics ends balanced, with true versions', () => {
    const change = fc.oneof(
      fc.record({ kind: fc.constant('join' as const), name: fc.integer({ min: 0, max: 11 }) }),
      fc.record({ kind: fc.constant('leave' as const), name: fc.integer({ min: 0, max: 11 }) }),
      fc.record({ kind: fc.constant('create' as const), size: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ kind: fc.constant('grow' as const), topic: fc.nat(), by: fc.integer({ min: 1, max: 9 }) }),
      fc.record({ kind: fc.constant('delete' as const), topic: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
        const members = new Set(['broker-0']);
        let topics = topicsOf([8]);
        let current = next(EMPTY_ASSIGNMENT, [...members], topics);
        let lastEpoch = 1_000;
        for (const each of changes) {
          const index = 'topic' in each && topics.length > 0 ? each.topic % topics.length : -1;
          if (each.kind === 'join') members.add(`broker-${each.name}`);
          else if (each.kind === 'leave' && members.size > 1) members.delete(`broker-${each.name}`);
          else if (each.kind === 'create')
            topics = [...topics, { logEpoch: ++lastEpoch, partitions: each.size }];
          else if (each.kind === 'grow')
            topics = topics.map((topic, i) =>
              i === index ? { ...topic, partitions: topic.partitions + each.by } : topic,
            );
          else if (each.kind === 'delete') topics = topics.filter((_, i) => i !== index);
          const after = next(current, [...members], topics);
          check(current, after, [...members], topics);
          current = decodeAssignment(encodeAssignment(after));
        }
      }),
      cases(200),
    );
  });
});

test('who leaves and comes back under its name gets most of what it had', () => {
  const topics = topicsOf(Array.from({ length: 100 }, () => 10));
  const before = next(EMPTY_ASSIGNMENT, names(5), topics);
  const without = next(before, names(4), topics);
  const after = next(without, names(5), topics);
  const had = new Set([...partitionsOf(before, 'broker-4')].map((id) => JSON.stringify(id)));
  const has = [...partitionsOf(after, 'broker-4')].map((id) => JSON.stringify(id));
  expect(has.filter((id) => had.has(id)).length).toBeGreaterThan(0.8 * had.size);
  expect(moved(without, after)).toBe(has.length);
});

test('without members nothing has a target, and everything is placed when one comes', () => {
  const topics = topicsOf([3]);
  const none = next(EMPTY_ASSIGNMENT, [], topics);
  expect(targetOf(none, { logEpoch: 1, partition: 0 })).toBeUndefined();
  expect(next(none, [], topics)).toBe(none);
  expect(loadsOf(next(none, ['a'], topics))).toEqual(new Map([['a', 3]]));
});

test('three brokers and a few partitions: nobody stands idle', () => {
  for (let partitions = 4; partitions <= 64; partitions += 4) {
    const loads = loadsOf(next(EMPTY_ASSIGNMENT, names(3), [{ logEpoch: 1, partitions }]));
    expect(Math.min(...loads.values())).toBeGreaterThanOrEqual(1);
  }
});

test('10,000 partitions: the text is small, and the spread is printed', () => {
  const lines: string[] = [
    'members  partitions  least  most  (bounds)   joins: moved, of 1/n   leaves: moved, of 1/n    ms',
  ];
  for (const [count, size] of [
    [2, 100],
    [3, 12],
    [3, 1_000],
    [10, 1_000],
    [10, 10_000],
    [25, 10_000],
    [50, 10_000],
  ] as const) {
    const topics = topicsOf(Array.from({ length: size / 4 }, () => 4));
    const startMs = performance.now();
    const before = next(EMPTY_ASSIGNMENT, names(count), topics);
    const ms = performance.now() - startMs;
    const joined = next(before, names(count + 1), topics);
    const left = next(before, names(count - 1), topics);
    const text = encodeAssignment(joined);
    expect(text.length).toBeLessThan(256 * 1024);
    expect(decodeAssignment(text)).toEqual(joined);
    const byJoin = moved(before, joined) / (size / (count + 1));
    const byLeave = moved(before, left) / (size / count);
    expect(Math.max(byJoin, byLeave)).toBeLessThanOrEqual(1.5);
    const loads = [...loadsOf(before).values()];
    const bounds = `(${Math.floor(size / count / LOAD_FACTOR)} to ${Math.ceil((size / count) * LOAD_FACTOR)})`;
    lines.push(
      `${String(count).padStart(7)}  ${String(size).padStart(10)}  ${String(Math.min(...loads)).padStart(5)}  ${String(Math.max(...loads)).padStart(4)}  ${bounds.padEnd(14)} ` +
        `${moved(before, joined)}, ${byJoin.toFixed(2)}  ${moved(before, left)}, ${byLeave.toFixed(2)}  ${ms.toFixed(1)} ms, ${text.length} bytes`,
    );
  }
  console.log(lines.join('\n'));
});

test('an assignment that cannot be read is said to be so, whatever it is', () => {
  for (const text of ['no JSON', '{}', '{"format":2,"version":1,"members":[],"topics":[]}', '[]'])
    expect(() => decodeAssignment(text)).toThrow(
      expect.objectContaining({
        code: 'FAILED_PRECONDITION',
        message: expect.stringContaining('newer version'),
      }),
    );
  // As 0.1.0 wrote it.
  expect(decodeAssignment('{"version":3,"members":["a"],"topics":[]}')).toMatchObject({ version: 3 });
});
