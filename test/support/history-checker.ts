// Judges what publishers were told against what subscribers were handed, across kills and freezes. It knows
// nothing of the broker's inner life: only what was observed outside, with times of one clock.
//
// It holds the broker to this:
//   log            a message that was told to be stored is there once; one that was sent again may be there
//                  more often; the copies of a key lie in one partition in the order of publishing, going
//                  back only to what was sent again
//   nothing lost   every subscription is handed, and acknowledges, every message that was told, and any other
//                  that one of them was handed
//   intact         payload and key are those that were published
//   ordered        a message is handed out only when every earlier one of its key was acknowledged, or was
//                  handed to the same stream just before it (history-order.ts)
//   duplicates     only where a lease was open or an acknowledgement could not be recorded in time
//                  (history-duplicates.ts)
//
// Where faults and retries happened unseen, a duplicate needs no reason, and a copy of a message that was
// told may be missing. A broker that stood still may go on, and store a batch that its publisher has sent to
// another one since: such a copy may come after what was published later, which goes on behind it.
import { DuplicateJudge, type DuplicateReason } from './history-duplicates.ts';
import { OrderJudge } from './history-order.ts';

export interface PublishedMessage {
  /** Empty: it has none, so that no order is promised, and copies may lie in any partition. */
  readonly key: string;
  readonly fingerprint: string;
  /** The id the publisher was told; undefined if it was told nothing or that it failed. */
  readonly toldId: string | undefined;
  /** Whether it was sent again, so that it may be stored more than once. */
  readonly retried: boolean;
}

export type SubscriberEvent =
  | {
      readonly kind: 'handed';
      readonly atMs: number;
      /** The consumer's process. */
      readonly consumer: string;
      /** Which of its streams, from 1. */
      readonly stream: number;
      readonly messageId: string;
      readonly attempt: number;
      readonly fingerprint: string;
      readonly key: string;
    }
  /** Noted just before the acknowledgement is given to the client. */
  | {
      readonly kind: 'acked';
      readonly atMs: number;
      readonly consumer: string;
      readonly messageId: string;
    }
  /** Noted when the process learned that the stream is gone. */
  | {
      readonly kind: 'broken';
      readonly atMs: number;
      readonly consumer: string;
      readonly stream: number;
    };

export type HandedEvent = SubscriberEvent & { readonly kind: 'handed' };

export interface SubscriptionHistory {
  readonly subscription: string;
  readonly ordering: boolean;
  readonly ackDeadlineMs: number;
  /** Events of all its consumers, in the order of their times. */
  readonly events: readonly SubscriberEvent[];
}

export interface Faults {
  /** When the broker was killed. */
  readonly brokerKillsMs: readonly number[];
  /** When a subscriber process was killed. */
  readonly consumerKills: readonly { readonly consumer: string; readonly atMs: number }[];
  readonly freezes: readonly { readonly consumer: string; readonly fromMs: number; readonly toMs: number }[];
}

export interface History {
  /** Messages in the order of publishing. */
  readonly published: readonly PublishedMessage[];
  readonly subscriptions: readonly SubscriptionHistory[];
  /** Undefined: they happened unseen. */
  readonly faults: Faults | undefined;
  /** The topic has got more partitions meanwhile: a key may have moved to another one. */
  readonly grew?: boolean;
}

export interface Verdict {
  /** What is wrong, in sentences; the first of each kind are enough to see it. */
  readonly problems: readonly string[];
  readonly handed: number;
  /** How many messages are in the log more than once. */
  readonly storedAgain: number;
  /** How many duplicates were allowed, by what allows them. */
  readonly duplicates: Readonly<Record<DuplicateReason, number>>;
}

/** A message in the log, as far as it can be seen from outside. */
interface LogEntry {
  readonly messageId: string;
  readonly partition: string;
  readonly offset: number;
  readonly key: string;
  /** The message's index in the input. */
  readonly index: number;
  /** Whether this is the place that its publisher was told. */
  readonly isTold: boolean;
}

/** Most problems told of one subscription, or of the log: more say nothing new. */
const MAX_PROBLEMS = 20;

export function checkHistory(history: History): Verdict {
  const problems: string[] = [];
  const duplicates: Record<DuplicateReason, number> = {
    'lease ended with its stream': 0,
    'lease expired': 0,
    'consumer was frozen': 0,
    'ack lost in a kill': 0,
  };
  const log = readLog(history, problems);
  const keys = checkLog(log, history, problems);
  let handed = 0;
  for (const subscription of history.subscriptions) {
    handed += checkSubscription(subscription, log, keys, history.faults, duplicates, problems);
  }
  const storedAgain = log.size - new Set([...log.values()].map(({ index }) => index)).size;
  return { problems, handed, storedAgain, duplicates };
}

/** Everything that is known to be in the log, by message id. */
function readLog({ published, subscriptions }: History, problems: string[]): Map<string, LogEntry> {
  const log = new Map<string, LogEntry>();
  const indexOf = new Map<string, number>();
  const found: string[] = [];
  for (const [index, { key, fingerprint, toldId }] of published.entries()) {
    indexOf.set(fingerprint, index);
    if (toldId === undefined) found.push(`message ${index} was never acknowledged to the publisher`);
    else if (log.has(toldId)) found.push(`${toldId} was told for two messages, the second is ${index}`);
    else log.set(toldId, { ...placeOf(toldId), key, index, isTold: true });
  }
  addProblems(problems, 'publisher', found);
  for (const { subscription, events } of subscriptions) {
    const wrong: string[] = [];
    for (const event of events) {
      if (event.kind !== 'handed') continue;
      const { messageId, fingerprint } = event;
      const known = log.get(messageId);
      const index = known?.index ?? indexOf.get(fingerprint);
      const original = index === undefined ? undefined : published[index]!;
      if (original?.fingerprint === fingerprint && original.key === event.key) {
        if (known === undefined)
          log.set(messageId, { ...placeOf(messageId), key: event.key, index: index!, isTold: false });
        continue;
      }
      const what = original?.fingerprint === fingerprint ? 'key' : 'payload';
      wrong.push(`${messageId} was handed out with a ${what} that was not published so`);
    }
    addProblems(problems, subscription, wrong);
  }
  return log;
}

/** Checks the log itself; returns the message ids of each key, in its order. */
function checkLog(
  log: ReadonlyMap<string, LogEntry>,
  { published, faults, grew = false }: History,
  problems: string[],
): Map<string, string[]> {
  const keyed = [...log.values()].filter(({ key }) => key !== '');
  const byKey = Map.groupBy(keyed, ({ key }) => key);
  const copies = new Map<number, number>();
  const found: string[] = [];
  for (const [key, entries] of byKey) {
    const firsts = new Map<string, number>();
    for (const { partition, index } of entries)
      firsts.set(partition, Math.min(index, firsts.get(partition) ?? index));
    if (firsts.size > 1 && !grew)
      found.push(`the messages of ${key} lie in partitions ${[...firsts.keys()].join(', ')}`);
    entries.sort((a, b) => firsts.get(a.partition)! - firsts.get(b.partition)! || a.offset - b.offset);
    checkKeyOrder(key, entries, published, faults === undefined, found);
  }
  for (const { index } of log.values()) copies.set(index, (copies.get(index) ?? 0) + 1);
  for (const [index, count] of copies) {
    if (count > 1 && !published[index]!.retried) {
      found.push(`message ${index} is stored ${count} times, but was sent once`);
    }
  }
  const byPartition = Map.groupBy(log.values(), (entry) => entry.partition);
  for (const [partition, entries] of faults === undefined ? [] : byPartition) {
    const end = Math.max(...entries.map(({ offset }) => offset)) + 1;
    if (end !== entries.length) {
      found.push(
        `partition ${partition} ends at ${end}, but only ${entries.length} of its messages were seen`,
      );
    }
  }
  addProblems(problems, 'log', found);
  return new Map([...byKey].map(([key, entries]) => [key, entries.map(({ messageId }) => messageId)]));
}

/**
 * Checks that a key lies in the order of publishing. It may go back only to a message that was sent again,
 * and goes on in order from there; after a late copy, from where the key had got to.
 */
function checkKeyOrder(
  key: string,
  entries: readonly LogEntry[],
  published: readonly PublishedMessage[],
  copiesMayBeLate: boolean,
  found: string[],
): void {
  const inputOrder = published.flatMap((message, index) => (message.key === key ? [index] : []));
  const placeInKey = new Map(inputOrder.map((index, place) => [index, place]));
  let expected = 0;
  /** The first that is nowhere before in the log. */
  let next = 0;
  for (const { index, messageId } of entries) {
    const place = placeInKey.get(index)!;
    const isAgain = place < (copiesMayBeLate ? next : expected) && published[index]!.retried;
    const goesOn = place === expected || (copiesMayBeLate && place === next);
    if (!goesOn && !isAgain) {
      found.push(
        `${messageId} is message ${place} of ${key}, expected ${expected}: ${place > expected ? 'something is missing before it' : 'it was not sent again'}`,
      );
    }
    expected = place + 1;
    next = Math.max(next, expected);
  }
}

/** Checks one subscription; returns how many deliveries it saw. */
function checkSubscription(
  history: SubscriptionHistory,
  log: ReadonlyMap<string, LogEntry>,
  keys: ReadonlyMap<string, readonly string[]>,
  faults: Faults | undefined,
  duplicates: Record<DuplicateReason, number>,
  problems: string[],
): number {
  const order = history.ordering ? new OrderJudge(keys) : undefined;
  const duplicateJudge = faults && new DuplicateJudge(history, faults);
  const handedIds = new Set<string>();
  const ackedIds = new Set<string>();
  const misorders: string[] = [];
  const repeats: string[] = [];
  const losses: string[] = [];
  let handed = 0;
  for (const event of history.events) {
    if (event.kind === 'acked') {
      ackedIds.add(event.messageId);
      order?.acked(event.messageId);
      duplicateJudge?.acked(event);
    } else if (event.kind === 'handed') {
      handed += 1;
      const misordered = order?.handed(event);
      if (misordered !== undefined) misorders.push(misordered);
      const verdict = duplicateJudge?.handed(event);
      if (verdict !== undefined && 'problem' in verdict) repeats.push(verdict.problem);
      else if (verdict !== undefined) duplicates[verdict.reason] += 1;
      handedIds.add(event.messageId);
    }
  }
  for (const [messageId, { key, index, isTold }] of log) {
    if (faults === undefined && !isTold) continue;
    if (!handedIds.has(messageId))
      losses.push(`${messageId} (message ${index}, ${key}) was never handed out`);
    else if (!ackedIds.has(messageId)) losses.push(`${messageId} was handed out, but never acknowledged`);
  }
  for (const found of [losses, misorders, repeats]) addProblems(problems, history.subscription, found);
  return handed;
}

function addProblems(problems: string[], where: string, found: readonly string[]): void {
  for (const problem of found.slice(0, MAX_PROBLEMS)) problems.push(`${where}: ${problem}`);
  const more = found.length - MAX_PROBLEMS;
  if (more > 0) problems.push(`${where}: and ${more} more`);
}

/** The parts of "{log_epoch}.{partition}-{offset}". */
function placeOf(messageId: string): { messageId: string; partition: string; offset: number } {
  const dash = messageId.lastIndexOf('-');
  return { messageId, partition: messageId.slice(0, dash), offset: Number(messageId.slice(dash + 1)) };
}
