// The judge of `npm run chaos` can find each kind of fault: small journals, each with one thing wrong, and
// the same without it.
import { expect, test } from 'vitest';
import type { JournalEvent } from '../chaos/events.ts';
import { GRACE_MS, Judge } from '../chaos/judge.ts';
import { describe as inWords, reasonsOf, type Verdict } from '../chaos/verdict.ts';

type Event = { readonly ev: string; readonly t?: number; readonly [field: string]: unknown };

/** Events without a time come a millisecond after the one before. */
function judge(events: readonly Event[]): Verdict {
  const judge = new Judge();
  let t = 0;
  for (const event of events) {
    t = event.t ?? t + 1;
    judge.hear({ ...event, t } as unknown as JournalEvent);
  }
  return judge.verdict();
}

const topic = (name = 'orders'): Event => ({ ev: 'topic', topic: name });
const subscription = (s = 'audit', ordered = true, of = 'orders'): Event => ({
  ev: 'subscription',
  s,
  topic: of,
  ordered,
});
const sent = (...m: [number, string][]): Event => ({ ev: 'sent', p: 'p1', topic: 'orders', m });
const answered = (...m: [number, string][]): Event => ({ ev: 'answered', p: 'p1', m });
const handled = (number: number, id = `1.0-${number}`, attempt = 1, s = 'audit', c = 'c1'): Event => ({
  ev: 'handled',
  s,
  c,
  m: [['p1', number, id, attempt]],
});
const confirmed = (...ids: string[]): Event => ({ ev: 'confirmed', s: 'audit', c: 'c1', ids });

/** A good journal: two requests under one key, delivered and acknowledged. */
const GOOD: readonly Event[] = [
  topic(),
  subscription(),
  sent([0, 'k'], [1, 'k'], [2, '']),
  answered([0, '1.0-0'], [1, '1.0-1'], [2, '1.1-0']),
  handled(0),
  handled(1),
  handled(2, '1.1-0'),
  sent([3, 'k']),
  handled(3, '1.0-2'),
  answered([3, '1.0-2']),
  confirmed('1.0-0', '1.0-1', '1.1-0', '1.0-2'),
];

const without = (wrong: (event: Event) => boolean) => GOOD.filter((event) => !wrong(event));
const isHandled = (event: Event, number: number) =>
  event.ev === 'handled' && (event as { m?: unknown[][] }).m?.[0]?.[1] === number;

/** The findings that make a verdict bad, without those that are zero. */
function faults(verdict: Verdict): Record<string, number> {
  const { lost, misordered, strangers, doubleIds, late, undefined: gone, unexplained, wrong } = verdict;
  const all = { lost, misordered, strangers, doubleIds, late, gone, unexplained, wrong };
  return Object.fromEntries(
    Object.entries(all)
      .filter(([, { count }]) => count > 0)
      .map(([name, { count }]) => [name, count]),
  );
}

test('a good journal is good', () => {
  const verdict = judge(GOOD);
  expect(faults(verdict)).toEqual({});
  expect(reasonsOf(verdict)).toEqual([]);
  expect(verdict).toMatchObject({ published: 4, handled: 4, unanswered: 0, storedAgain: 0 });
  expect(verdict.redelivered.all).toBe(0);
});

test('one line of a delivery removed: the message is lost, and named', () => {
  for (const number of [0, 1, 2, 3]) {
    const verdict = judge(without((event) => isHandled(event, number)));
    expect(faults(verdict)).toEqual({ lost: 1 });
    expect(reasonsOf(verdict).join()).toContain(`audit has not got p1/${number}`);
  }
});

test('what was not answered may be missing, and what was sent before a subscription was there', () => {
  const unanswered = without(
    (event) => isHandled(event, 3) || (event.ev === 'answered' && event === GOOD[9]),
  );
  expect(faults(judge(unanswered))).toEqual({});
  expect(judge(unanswered).unanswered).toBe(1);
  expect(faults(judge([...GOOD, subscription('late')]))).toEqual({});
  expect(faults(judge([topic(), subscription(), subscription('early'), ...GOOD.slice(2)]))).toEqual({
    lost: 4,
  });
});

test('a subscription that is deleted has nothing to get any more', () => {
  const more: Event[] = [sent([4, 'k']), answered([4, '1.0-3'])];
  expect(faults(judge([...GOOD, ...more]))).toEqual({ lost: 1 });
  expect(faults(judge([...GOOD, ...more, { ev: 'deleting', s: 'audit' }]))).toEqual({});
  expect(faults(judge([...GOOD, ...more, { ev: 'deleting', topic: 'orders' }]))).toEqual({});
});

test('a later message of a key before an earlier one is out of order, in one request and over two', () => {
  const swap = (a: number, b: number) => {
    const events = [...GOOD];
    const [i, j] = [a, b].map((number) => events.findIndex((event) => isHandled(event, number)));
    [events[i!], events[j!]] = [events[j!]!, events[i!]!];
    return events;
  };
  expect(faults(judge(swap(0, 1)))).toEqual({ misordered: 1 });
  // 3 cannot be handled before it is sent, but 1 can be handled after it.
  const late = [...without((event) => isHandled(event, 1)), handled(1)];
  expect(faults(judge(late))).toEqual({ misordered: 1 });
  expect(reasonsOf(judge(late)).join()).toContain('p1/3 of key k');
  // Without a key, or without ordering, there is no order.
  expect(faults(judge(swap(1, 2)))).toEqual({});
  const unordered = [topic(), subscription('audit', false), ...swap(0, 1).slice(2)];
  expect(faults(judge(unordered))).toEqual({});
});

test('what comes again is not out of order, stored once or twice', () => {
  const again = judge([...GOOD, handled(0, '1.0-0', 2), handled(1, '1.0-1', 2)]);
  expect(faults(again)).toEqual({});
  expect(again.redelivered).toMatchObject({ all: 2, afterConfirmed: 2, saidFirst: 0 });
  const twice = judge([...GOOD, handled(0, '1.0-7')]);
  expect(faults(twice)).toEqual({});
  expect(twice).toMatchObject({ storedAgain: 1, redelivered: { all: 0 } });
});

test('a redelivery long after a confirmed acknowledgement is late, by stream or by call', () => {
  const confirmedAt = 11;
  const soon = judge([...GOOD, { ...handled(0, '1.0-0', 2), t: confirmedAt + GRACE_MS }]);
  expect(faults(soon)).toEqual({});
  expect(soon.redelivered).toMatchObject({ afterConfirmed: 1, longestMs: GRACE_MS });
  const late = judge([...GOOD, { ...handled(0, '1.0-0', 1), t: confirmedAt + GRACE_MS + 1 }]);
  expect(faults(late)).toEqual({ late: 1 });
  expect(late.redelivered).toMatchObject({ saidFirst: 1 });
  const told = GOOD.map((event) => (event.ev === 'confirmed' ? { ...event, ev: 'told' } : event));
  const afterTold = judge([...told, { ...handled(0, '1.0-0', 2), t: confirmedAt + GRACE_MS + 1 }]);
  expect(faults(afterTold)).toEqual({});
  expect(afterTold.redelivered).toMatchObject({ afterTold: 1, afterConfirmed: 0 });
});

test('what nobody has published to that topic is a stranger', () => {
  expect(faults(judge([...GOOD, handled(9)]))).toEqual({ strangers: 1 });
  const other = [topic('other'), subscription('else', true, 'other'), handled(0, '2.0-0', 1, 'else')];
  expect(faults(judge([...GOOD, ...other]))).toEqual({ strangers: 1 });
  // The topic was deleted and created again: what its predecessor had is not its own.
  const again = [{ ev: 'deleting', topic: 'orders' }, topic(), subscription(), handled(0, '2.0-0')];
  expect(faults(judge([...GOOD, ...again]))).toEqual({ strangers: 1 });
});

test('one id for two messages is seen, at the publisher and at a consumer', () => {
  expect(faults(judge([...GOOD, sent([4, 'k']), answered([4, '1.0-0']), handled(4)]))).toMatchObject({
    doubleIds: 1,
  });
  expect(faults(judge([...GOOD, handled(1, '1.0-0')]))).toMatchObject({ doubleIds: 1 });
});

test('definitions that are gone, or back, are named', () => {
  const listed = (...names: string[]): Event => ({ ev: 'listed', names });
  expect(faults(judge([...GOOD, listed('orders', 'audit')]))).toEqual({});
  expect(faults(judge([...GOOD, listed('orders')]))).toEqual({ gone: 1 });
  const deleted = [...GOOD, { ev: 'deleting', topic: 'orders' }];
  expect(faults(judge([...deleted, listed()]))).toEqual({});
  expect(faults(judge([...deleted, listed('orders', 'audit')]))).toEqual({ gone: 2 });
});

test('errors are counted by kind; those that no fault explains, and what the runner saw, are bad', () => {
  const error = (code: string): Event => ({ ev: 'error', p: 'p1', op: 'Publish', code, text: 'why' });
  const verdict = judge([...GOOD, error('Unavailable'), error('Unavailable'), error('ResourceExhausted')]);
  expect(faults(verdict)).toEqual({});
  expect(Object.fromEntries(verdict.errors)).toEqual({
    'Publish Unavailable': 2,
    'Publish ResourceExhausted': 1,
  });
  expect(faults(judge([...GOOD, error('Internal')]))).toEqual({ unexplained: 1 });
  expect(reasonsOf(judge([...GOOD, { ev: 'wrong', what: 'broker-1 has ended by itself' }])).join()).toContain(
    'broker-1 has ended by itself',
  );
});

test('a run in which nothing happened is not a good one', () => {
  expect(reasonsOf(judge([topic(), subscription()]))).toEqual(['nothing was published and delivered']);
});

test('the longest stalls are said with the fault they belong to', () => {
  const events: Event[] = [
    ...GOOD,
    { ev: 'fault', kind: 'kill', t: 1_000 },
    { ...sent([4, 'k']), t: 1_010 },
    { ...answered([4, '1.0-3']), t: 3_010 },
    { ...handled(4, '1.0-3'), t: 4_010 },
  ];
  const verdict = judge(events);
  expect(verdict.stalls.get('kill')).toEqual({
    publish: { ms: 2_000, what: 'p1/4 answered' },
    delivery: { ms: 1_000, what: 'p1/4 handled by audit' },
  });
  expect(inWords(verdict)).toContain('kill             2.0 s (p1/4 answered), 1.0 s (p1/4 handled by audit)');
});
