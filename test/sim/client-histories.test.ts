// The judge of what clients see reads the simulation, and notices what is not as it was.
import { afterEach, expect, test, vi } from 'vitest';
import { ClientHistories } from './cluster/client-histories.ts';
import { runClusterSeed } from './cluster/run.ts';
import { type ClusterScenario, DAY_MS, drawClusterScenario } from './cluster/scenario.ts';

afterEach(() => void vi.restoreAllMocks());

/** Topics with ordered subscriptions of which nothing may be missing, and few faults. */
function kept(scenario: ClusterScenario): ClusterScenario {
  const { weather, topics } = scenario;
  return {
    ...scenario,
    weather: { ...weather, failovers: 0, adminChanges: 0, updates: 0, damages: 0, growths: 0 },
    topics: topics.map((topic) => ({
      ...{ ...topic, retentionMs: DAY_MS, retentionBytes: 0, durability: 'fsync' as const },
      subscriptions: topic.subscriptions.map((each) => ({ ...each, ordering: true })),
    })),
  };
}

async function verdict(): Promise<string> {
  const seed = 3;
  expect(drawClusterScenario(seed).topics.length).toBeGreaterThan(0);
  const { failure } = await runClusterSeed(seed, { change: kept });
  return failure instanceof Error ? failure.message : 'nothing was noticed';
}

const { handed } = ClientHistories.prototype;

test('without a fault it notices nothing', async () => {
  const seen = vi.spyOn(ClientHistories.prototype, 'handed');
  expect(await verdict()).toBe('nothing was noticed');
  expect(seen.mock.calls.length).toBeGreaterThan(50);
});

test('a message that no consumer was handed', async () => {
  vi.spyOn(ClientHistories.prototype, 'handed').mockImplementation(function (this: ClientHistories, ...args) {
    const [, , , message] = args;
    if (!message.identity.endsWith('/2')) handed.apply(this, args);
  });
  expect(await verdict()).toMatch(/was never handed out/);
});

test('a payload that was not published', async () => {
  vi.spyOn(ClientHistories.prototype, 'handed').mockImplementation(function (this: ClientHistories, ...args) {
    const [subscription, consumer, atMs, message] = args;
    handed.call(this, subscription, consumer, atMs, { ...message, content: `${message.content}!` });
  });
  expect(await verdict()).toMatch(/payload that was not published so/);
});

test('a message of a key that another consumer has before the one before it is acknowledged', async () => {
  vi.spyOn(ClientHistories.prototype, 'handed').mockImplementation(function (this: ClientHistories, ...args) {
    const [subscription, consumer, atMs, message] = args;
    handed.call(this, subscription, `${consumer}/${message.offset}`, atMs, message);
  });
  expect(await verdict()).toMatch(/before it in the key, was not acknowledged/);
});
