// Guarantees on real input: every stanza of Debian's package index, its section as ordering key, published to
// a topic with 8 partitions and read by 8 subscriptions, half of them with ordering; all in processes of
// their own, over mutual TLS. First undisturbed; then with the broker killed three times and subscribers
// killed and frozen. test/support/history-checker.ts judges what was seen; that it can fail is shown in
// test/unit/history-checker.test.ts.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseStanzas, readDebianIndex, type Stanza } from '../support/debian-index.ts';
import { FanOutRun, type RunOptions, type RunResult, type SubscriptionPlan } from '../support/fan-out-run.ts';
import { checkHistory, type HandedEvent, type SubscriptionHistory } from '../support/history-checker.ts';
import { fingerprintOf, publishedMessages } from '../support/history-log.ts';

const SET_UP_TIMEOUT_MS = 6 * 60_000;
const TEST_TIMEOUT_MS = 3 * 60_000;
const DEFAULT_ACK_DEADLINE_S = 10;
/** A freeze lasts longer than this. */
const SHORT_ACK_DEADLINE_S = 2;

const plan = (
  name: string,
  consumers: number,
  mode: SubscriptionPlan['mode'],
  ackDeadlineSeconds = DEFAULT_ACK_DEADLINE_S,
): SubscriptionPlan => ({ name, ordering: name.startsWith('ordered'), consumers, mode, ackDeadlineSeconds });

const SUBSCRIPTIONS = [
  plan('ordered-1', 1, 'backwards'),
  plan('ordered-2', 2, 'late'),
  plan('ordered-3', 2, 'prompt', SHORT_ACK_DEADLINE_S),
  plan('ordered-4', 1, 'handler'),
  plan('unordered-1', 1, 'late'),
  plan('unordered-2', 2, 'backwards'),
  plan('unordered-3', 1, 'backwards'),
  plan('unordered-4', 1, 'handler'),
];

describe('guarantees 1, 2, 3: every stanza of the package index, to eight subscriptions', () => {
  let dir: string;
  let stanzas: Stanza[];
  let inputFile: string;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'fanfare-debian-'));
    const dump = await readDebianIndex();
    stanzas = parseStanzas(dump);
    // Payloads are told apart by their fingerprints.
    expect(new Set(stanzas.map(({ payload }) => fingerprintOf(payload))).size).toBe(stanzas.length);
    inputFile = join(dir, 'packages');
    await writeFile(inputFile, dump);
  }, SET_UP_TIMEOUT_MS);

  afterAll(async () => {
    if (dir !== undefined) await rm(dir, { recursive: true, force: true });
  });

  const optionsOf = (name: string): RunOptions => ({
    dir: join(dir, name),
    inputFile,
    partitions: 8,
    subscriptions: SUBSCRIPTIONS,
    batch: {},
    maxOutstandingMessages: 10_000,
  });
  const verdictOf = ({ publisher, subscriptions, faults }: RunResult) =>
    checkHistory({ published: publishedMessages(stanzas, publisher), subscriptions, faults });

  it(
    "each subscription's output equals the input byte for byte, per key",
    async () => {
      await using run = await FanOutRun.start(optionsOf('plain'));
      run.publish(stanzas.length);
      const result = await run.finish();

      const input = fingerprintsByKey(
        stanzas.map(({ section, payload }) => [section, fingerprintOf(payload)]),
      );
      for (const history of result.subscriptions) {
        const handed = history.events.filter((event) => event.kind === 'handed');
        const output = fingerprintsByKey(handed.map(({ key, fingerprint }) => [key, fingerprint]));
        const inAnyOrder = (keys: Record<string, string[]>) =>
          Object.fromEntries(Object.entries(keys).map(([key, list]) => [key, list.toSorted()]));
        if (history.ordering) expect(output, history.subscription).toEqual(input);
        else expect(inAnyOrder(output), history.subscription).toEqual(inAnyOrder(input));
      }
      const verdict = verdictOf(result);
      expect(verdict.problems).toEqual([]);
      expect(verdict.handed).toBe(stanzas.length * SUBSCRIPTIONS.length);
      printRates(stanzas.length, result);
    },
    TEST_TIMEOUT_MS,
  );

  it(
    'nothing acknowledged is lost or misordered, and nothing comes twice without reason, whatever is killed or frozen',
    async () => {
      const part = (share: number) => Math.floor(stanzas.length * share);
      const small = { batch: { maxMessages: 200 }, maxOutstandingMessages: 2_000 };
      await using run = await FanOutRun.start({ ...optionsOf('faults'), ...small });

      // No broker is killed before the frozen consumer's leases have expired.
      run.publish(part(0.3));
      await run.told(part(0.1));
      await run.freezeConsumer('ordered-3/1', () => run.told(part(0.25)));
      run.publishUpTo(stanzas.length);
      await run.told(part(0.35));
      await run.killBroker();
      await run.told(part(0.45));
      await run.killConsumer('ordered-2/1');
      await run.told(part(0.55));
      await run.killBroker();
      await run.told(part(0.65));
      run.addConsumer('ordered-2', 'ordered-2/3');
      await run.told(part(0.8));
      await run.killBroker();
      const result = await run.finish();

      const { problems, ...seen } = verdictOf(result);
      const retried = result.publisher.retried.size;
      console.log(`faults: ${JSON.stringify({ ...seen, retried })}`);
      expect(problems).toEqual([]);
      // Otherwise nothing was tried.
      expect(result.faults.brokerKillsMs).toHaveLength(3);
      expect(retried).toBeGreaterThan(0);
      expect(seen.duplicates['consumer was frozen']).toBeGreaterThan(0);
      expect(seen.duplicates['lease ended with its stream']).toBeGreaterThan(0);
      expect(handedTo(result.subscriptions, 'ordered-2/3').length).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );
});

function fingerprintsByKey(entries: readonly (readonly [key: string, fingerprint: string])[]) {
  const byKey: Record<string, string[]> = {};
  for (const [key, fingerprint] of entries) {
    byKey[key] ??= [];
    byKey[key].push(fingerprint);
  }
  return byKey;
}

function handedTo(subscriptions: readonly SubscriptionHistory[], consumer: string): HandedEvent[] {
  return subscriptions
    .flatMap(({ events }) => events)
    .filter((event) => event.kind === 'handed')
    .filter((event) => event.consumer === consumer);
}

function printRates(messages: number, { publisher, subscriptions }: RunResult): void {
  const { firstPublishMs, lastToldMs } = publisher;
  const lastHandedMs = Math.max(...subscriptions.map(({ events }) => events.at(-1)!.atMs));
  const perSecond = (count: number, untilMs: number) =>
    Math.round((count * 1000) / (untilMs - firstPublishMs)).toLocaleString('en');
  console.log(
    `plain: ${messages} messages published at ${perSecond(messages, lastToldMs)}/s, delivered to ${subscriptions.length} subscriptions at ${perSecond(messages * subscriptions.length, lastHandedMs)}/s in all`,
  );
}
