// The history checker of test/integration/debian-fan-out.test.ts fails on what a broker must not do, and
// accepts what it may do after a kill, a freeze or an expired lease. Each case is a small history, right
// except for one thing.
import { describe, expect, it } from 'vitest';
import {
  checkHistory,
  type Faults,
  type PublishedMessage,
  type SubscriberEvent,
} from '../support/history-checker.ts';

const KEYS = ['libs', 'games'];
const PER_KEY = 5;
const ACK_DEADLINE_MS = 2_000;
const NO_FAULTS: Faults = { brokerKillsMs: [], consumerKills: [], freezes: [] };

const fingerprint = (index: number) => `payload-${index}`;
/** Message `index` belongs to key index % 2, which has the partition of that number to itself. */
const idOf = (index: number) => `7.${index % 2}-${Math.floor(index / 2)}`;

const PUBLISHED: readonly PublishedMessage[] = Array.from({ length: KEYS.length * PER_KEY }, (_, index) => ({
  key: KEYS[index % 2]!,
  fingerprint: fingerprint(index),
  toldId: idOf(index),
  retried: false,
}));

const handed = (
  atMs: number,
  index: number,
  more: Partial<SubscriberEvent & { kind: 'handed' }> = {},
): SubscriberEvent => ({
  kind: 'handed',
  atMs,
  consumer: 'a',
  stream: 1,
  messageId: idOf(index),
  attempt: 1,
  fingerprint: fingerprint(index),
  key: KEYS[index % 2]!,
  ...more,
});
const acked = (atMs: number, index: number, consumer = 'a'): SubscriberEvent => ({
  kind: 'acked',
  atMs,
  consumer,
  messageId: idOf(index),
});

/** Message i is handed out at 100 * i and acknowledged 10 ms later, except for those left out. */
function undisturbed({ without = [] as number[], onlyHanded = [] as number[] } = {}): SubscriberEvent[] {
  return PUBLISHED.flatMap((_, index) => {
    if (without.includes(index)) return [];
    if (onlyHanded.includes(index)) return [handed(100 * index, index)];
    return [handed(100 * index, index), acked(100 * index + 10, index)];
  });
}

function verdict(
  events: readonly SubscriberEvent[],
  { published = PUBLISHED, faults = {} as Partial<Faults>, ordering = true, alone = false } = {},
) {
  const inTime = events.toSorted((a, b) => a.atMs - b.atMs);
  const history = { ackDeadlineMs: ACK_DEADLINE_MS, ordering };
  return checkHistory({
    published,
    faults: { ...NO_FAULTS, ...faults },
    subscriptions: [
      ...(alone ? [] : [{ ...history, subscription: 'good', events: undisturbed() }]),
      { ...history, subscription: 'tried', events: inTime },
    ],
  });
}

describe('a broken history is found', () => {
  it('an acknowledged message that one subscription never got', () => {
    const { problems } = verdict(undisturbed({ without: [9] }));
    expect(problems).toEqual([expect.stringMatching(/^tried: 7\.1-4 .*never handed out/)]);
  });

  it('an acknowledged message that nobody got', () => {
    const published = [
      ...PUBLISHED,
      { key: 'libs', fingerprint: fingerprint(10), toldId: idOf(10), retried: false },
    ];
    expect(verdict(undisturbed(), { published }).problems).toEqual([
      expect.stringMatching(/^good: 7\.0-5 .*never handed out/),
      expect.stringMatching(/^tried: 7\.0-5 .*never handed out/),
    ]);
  });

  it('an offset that nobody saw', () => {
    const published = PUBLISHED.map((message, index) =>
      index === 8 ? { ...message, toldId: '7.0-5' } : message,
    );
    const events = undisturbed({ without: [8] }).concat(handed(800, 8, { messageId: '7.0-5' }), {
      kind: 'acked',
      atMs: 810,
      consumer: 'a',
      messageId: '7.0-5',
    });
    expect(verdict(events, { published, alone: true }).problems).toEqual([
      expect.stringMatching(/partition 7\.0 ends at 6, but only 5/),
    ]);
  });

  it('a message that was handed out and never settled', () => {
    const { problems } = verdict(undisturbed({ onlyHanded: [9] }));
    expect(problems).toEqual([expect.stringMatching(/7\.1-4 was handed out, but never acknowledged/)]);
  });

  it('a message that the publisher was never told of', () => {
    const published = PUBLISHED.map((message, index) =>
      index === 9 ? { ...message, toldId: undefined } : message,
    );
    expect(verdict(undisturbed(), { published }).problems).toEqual([
      expect.stringMatching(/message 9 was never/),
    ]);
  });

  it('two messages of a key that changed places', () => {
    const events = undisturbed({ without: [2, 4] });
    events.push(handed(200, 4), acked(210, 4), handed(400, 2), acked(410, 2));
    expect(verdict(events).problems).toEqual([
      expect.stringMatching(/^tried: 7\.0-2 .*while 7\.0-1, before it in the key, was not acknowledged/),
    ]);
    expect(verdict(events, { ordering: false }).problems).toEqual([]);
  });

  it('a key that goes on with a later message after a lease ended', () => {
    const events = undisturbed({ without: [4, 6, 8] });
    // 4 and 6 were outstanding when the stream broke; 6 comes before 4.
    events.push(handed(400, 4), handed(401, 6), { kind: 'broken', atMs: 450, consumer: 'a', stream: 1 });
    events.push(handed(500, 6, { stream: 2 }), acked(501, 6), handed(510, 4, { stream: 2 }), acked(511, 4));
    events.push(handed(520, 8, { stream: 2 }), acked(521, 8));
    expect(verdict(events).problems).toEqual([expect.stringMatching(/7\.0-3 .* while 7\.0-2/)]);
  });

  it('a key outstanding at two consumers', () => {
    const events = undisturbed({ without: [4, 6] });
    events.push(handed(400, 4), handed(405, 6, { consumer: 'b' }), acked(410, 4), acked(411, 6, 'b'));
    expect(verdict(events).problems).toEqual([expect.stringMatching(/7\.0-3 .*handed to b #1 while 7\.0-2/)]);
  });

  it('a message that comes again after it was acknowledged', () => {
    const events = undisturbed().concat(handed(2_000, 5));
    expect(verdict(events).problems).toEqual([
      expect.stringMatching(/7\.1-2 .*after a #1 had acknowledged it/),
    ]);
  });

  it('a message that comes again although it was acknowledged long before the kill', () => {
    const events = undisturbed().concat(
      { kind: 'broken', atMs: 1_600, consumer: 'a', stream: 1 },
      handed(2_000, 5, { stream: 2 }),
    );
    // 5 was acknowledged at 510.
    const { problems } = verdict(events, { faults: { brokerKillsMs: [1_590] } });
    expect(problems).toEqual([expect.stringMatching(/7\.1-2 .*had acknowledged it/)]);
  });

  it('a message that comes again while its lease is open', () => {
    const events = undisturbed({ onlyHanded: [5] }).concat(
      handed(600, 5, { consumer: 'b', attempt: 2 }),
      acked(610, 5, 'b'),
    );
    expect(verdict(events).problems).toContainEqual(expect.stringMatching(/7\.1-2 .*lease was still open/));
  });

  it('a payload and a key that were not published so', () => {
    const events = undisturbed({ without: [5, 6] });
    events.push(handed(500, 5, { fingerprint: 'else' }), acked(510, 5));
    events.push(handed(600, 6, { key: 'else' }), acked(610, 6));
    expect(verdict(events).problems).toEqual([
      expect.stringMatching(/tried: 7\.1-2 .* a payload/),
      expect.stringMatching(/tried: 7\.0-3 .* a key/),
    ]);
  });

  it('another message in the place of the one that was told', () => {
    const events = undisturbed({ without: [5] });
    events.push(handed(500, 5, { fingerprint: fingerprint(6) }), acked(510, 5));
    expect(verdict(events).problems).toEqual([expect.stringMatching(/tried: 7\.1-2 .* a payload/)]);
  });

  it('a log that is not in the order of publishing', () => {
    const published = PUBLISHED.map((message, index) => {
      const other = { 2: 4, 4: 2 }[index];
      return other === undefined ? message : { ...message, toldId: idOf(other) };
    });
    expect(verdict(undisturbed(), { published }).problems).toContainEqual(
      expect.stringMatching(/^log: 7\.0-1 is message 2 of libs, expected 1/),
    );
  });

  it('a message that is stored twice, but was sent once', () => {
    const again = { messageId: '7.0-5' };
    const events = undisturbed().concat(handed(900, 8, again), {
      kind: 'acked',
      atMs: 910,
      consumer: 'a',
      messageId: '7.0-5',
    });
    const { problems } = verdict(events);
    expect(problems).toContainEqual(expect.stringMatching(/^log: message 8 is stored 2 times/));
    // The other subscription should have had it, too.
    expect(problems).toContainEqual(expect.stringMatching(/^good: 7\.0-5 .*never handed out/));
  });
});

describe('what a broker may do is accepted', () => {
  it('nothing special', () => {
    const { problems, handed: count, storedAgain } = verdict(undisturbed());
    expect({ problems, count, storedAgain }).toEqual({ problems: [], count: 20, storedAgain: 0 });
  });

  it('a redelivery from the last message that was not acknowledged, after the broker was killed', () => {
    const events = undisturbed({ without: [6, 8] });
    events.push(handed(600, 6), handed(601, 8), { kind: 'broken', atMs: 955, consumer: 'a', stream: 1 });
    for (const [nth, index] of [4, 6, 8].entries()) {
      events.push(handed(1_100 + nth, index, { stream: 2 }), acked(1_110 + nth, index));
    }
    const { problems, duplicates } = verdict(events, { faults: { brokerKillsMs: [950] } });
    expect(problems).toEqual([]);
    expect(duplicates).toMatchObject({ 'ack lost in a kill': 1, 'lease ended with its stream': 2 });
  });

  it('the leases of a killed process', () => {
    const events = undisturbed({ onlyHanded: [9] }).concat(
      handed(1_000, 9, { consumer: 'b', attempt: 2 }),
      acked(1_010, 9, 'b'),
    );
    const { problems, duplicates } = verdict(events, {
      faults: { consumerKills: [{ consumer: 'a', atMs: 950 }] },
    });
    expect(problems).toEqual([]);
    expect(duplicates).toMatchObject({ 'lease ended with its stream': 1 });
  });

  it('an expired lease', () => {
    const events = undisturbed({ onlyHanded: [9] }).concat(
      handed(900 + ACK_DEADLINE_MS, 9, { attempt: 2 }),
      acked(900 + ACK_DEADLINE_MS, 9),
    );
    const { problems, duplicates } = verdict(events);
    expect(problems).toEqual([]);
    expect(duplicates).toMatchObject({ 'lease expired': 1 });
  });

  it('a frozen process that goes on with what others have had meanwhile', () => {
    const events = undisturbed({ without: [7, 9] });
    const b = { consumer: 'b', attempt: 2 };
    events.push(handed(3_000, 7, b), acked(3_010, 7, 'b'), handed(3_020, 9, b), acked(3_030, 9, 'b'));
    events.push(handed(3_600, 7), acked(3_600, 7), handed(3_601, 9), acked(3_602, 9));
    const { problems, duplicates } = verdict(events, {
      faults: { freezes: [{ consumer: 'a', fromMs: 950, toMs: 3_500 }] },
    });
    expect(problems).toEqual([]);
    expect(duplicates).toMatchObject({ 'consumer was frozen': 2 });
  });

  it('a second copy, in order, of what was sent again', () => {
    const published = PUBLISHED.map((message, index) => {
      // 6 and 8 were stored at 3 and 4, not answered, and stored again at 5 and 6.
      const toldId = { 6: '7.0-5', 8: '7.0-6' }[index];
      return toldId === undefined ? message : { ...message, toldId, retried: true };
    });
    const second: SubscriberEvent[] = [
      handed(1_000, 6, { messageId: '7.0-5' }),
      { kind: 'acked', atMs: 1_010, consumer: 'a', messageId: '7.0-5' },
      handed(1_020, 8, { messageId: '7.0-6' }),
      { kind: 'acked', atMs: 1_030, consumer: 'a', messageId: '7.0-6' },
    ];
    const events = undisturbed().concat(second);
    const { problems, storedAgain } = verdict(events, { published, alone: true });
    expect({ problems, storedAgain }).toEqual({ problems: [], storedAgain: 2 });
  });
});

describe('where faults and retries happened unseen', () => {
  const unseen = (events: readonly SubscriberEvent[], more: { grew?: boolean } = {}) =>
    checkHistory({
      published: PUBLISHED.map((message) => ({ ...message, retried: true })),
      faults: undefined,
      subscriptions: [{ subscription: 'tried', ordering: true, ackDeadlineMs: ACK_DEADLINE_MS, events }],
      ...more,
    }).problems;

  it('a duplicate needs no reason', () => {
    expect(unseen([...undisturbed(), handed(2_000, 9), acked(2_001, 9)])).toEqual([]);
  });

  it('losses and broken order are found all the same', () => {
    expect(unseen(undisturbed({ without: [9] }))).toEqual([expect.stringMatching(/never handed out/)]);
    const swapped = undisturbed({ without: [0] }).concat(handed(2_000, 0), acked(2_001, 0));
    expect(unseen(swapped)[0]).toMatch(/was handed to a #1 while 7\.0-0, before it in the key, was not/);
  });

  it('a copy that is not where its publisher was told to be may be missing', () => {
    const copies = [handed(1, 0, { messageId: '7.0-9' }), handed(2, 2, { messageId: '7.0-12' })];
    expect(unseen([...undisturbed(), ...copies].toSorted((a, b) => a.atMs - b.atMs))).not.toContainEqual(
      expect.stringMatching(/never handed out|never acknowledged|were seen/),
    );
  });

  it('a copy may be late, and what was published since goes on behind it, in order', () => {
    // Stored are 0 2 4, then 0 and 2 once more, then 6 8.
    const check = (last: Readonly<Record<number, string>>) => {
      const at = (index: number) => last[index] ?? idOf(index);
      const inLog = PUBLISHED.map((message, index) => ({
        ...message,
        toldId: at(index),
        retried: index < 3,
      }));
      const events = undisturbed({ without: [6, 8] });
      for (const [nth, [index, messageId]] of (
        [
          [0, '7.0-3'],
          [2, '7.0-4'],
          [6, at(6)],
          [8, at(8)],
        ] as const
      ).entries()) {
        const atMs = 2_000 + 10 * nth;
        events.push(handed(atMs, index, { messageId }), { ...acked(atMs + 1, index), messageId } as never);
      }
      return checkHistory({
        published: inLog,
        faults: undefined,
        subscriptions: [{ subscription: 'tried', ordering: true, ackDeadlineMs: ACK_DEADLINE_MS, events }],
      }).problems;
    };
    expect(check({ 6: '7.0-5', 8: '7.0-6' })).toEqual([]);
    expect(check({ 6: '7.0-6', 8: '7.0-5' })).toContainEqual(
      expect.stringMatching(/^log: 7\.0-5 is message 4 of libs, expected 2/),
    );
  });

  it('a key lies in several partitions only if the topic grew, in order over them', () => {
    const moved = new Map([4, 6, 8].map((index, nth) => [idOf(index), `7.5-${nth}`]));
    const events = undisturbed().map((event) =>
      'messageId' in event ? { ...event, messageId: moved.get(event.messageId) ?? event.messageId } : event,
    );
    const check = (order: readonly SubscriberEvent[], grew: boolean) =>
      checkHistory({
        published: PUBLISHED.map((message) => ({
          ...message,
          toldId: moved.get(message.toldId!) ?? message.toldId,
        })),
        faults: undefined,
        subscriptions: [
          { subscription: 'tried', ordering: true, ackDeadlineMs: ACK_DEADLINE_MS, events: order },
        ],
        grew,
      }).problems;
    expect(check(events, true)).toEqual([]);
    expect(check(events, false)).toEqual([expect.stringMatching(/libs lie in partitions 7\.0, 7\.5/)]);
    const early = [...events].toSorted((a, b) => Number(b.atMs >= 400) - Number(a.atMs >= 400));
    expect(check(early, true)[0]).toMatch(/7\.5-0 .* while 7\.0-0, before it in the key/);
  });
});
