// What stands between the controllers and brokers: a broker that is away is asked seldom, one listing serves
// many, backlogs are watched for those who want them.
import { expect, test } from 'vitest';
import {
  type BacklogReport,
  type BrokerAdmin,
  BrokerCallError,
  type Listing,
} from '../../operator/broker/admin.ts';
import { BacklogWatch } from '../../operator/broker/backlog-watch.ts';
import { BrokerLink } from '../../operator/broker/link.ts';
import type { FoundTopic } from '../../operator/core/plan-topic.ts';
import { silent } from '../../operator/kube/logger.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const MINUTE_MS = 60_000;
const never = new AbortController().signal;

const topic = (name: string, partitions = 1): FoundTopic => ({
  name,
  partitions,
  retentionMs: 0,
  retentionBytesPerPartition: 0,
  durability: 'fsync',
  minReplicas: 0,
  labels: {},
  logEpoch: 1,
});

/** Counts calls, fails them while `away`, and lets a test hold back a listing. */
class FakeAdmin {
  away: string | undefined;
  isAboutCertificates = false;
  readonly calls: string[] = [];
  topics = new Map<string, FoundTopic>();
  hold: Promise<void> = Promise.resolve();
  readonly watched: {
    names: readonly string[];
    intervalMs: number;
    push: (reports: BacklogReport[]) => void;
    end: (error: Error) => void;
  }[] = [];

  readonly admin = new Proxy({} as BrokerAdmin, {
    get: (_, name: string) => {
      if (name === 'watchBacklog') return this.#watch.bind(this);
      if (name === 'close') return () => undefined;
      return async (first: unknown) => {
        this.calls.push(name);
        if (this.away !== undefined) {
          const { isAboutCertificates } = this;
          throw new BrokerCallError('UNAVAILABLE', this.away, { isAboutCertificates });
        }
        if (name === 'list') {
          const seen: Listing = { topics: [...this.topics.values()], subscriptions: [] };
          await this.hold;
          return seen;
        }
        return name === 'getTopic' ? this.topics.get(String(first)) : undefined;
      };
    },
  });

  async *#watch(
    _: string,
    names: readonly string[],
    intervalMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<BacklogReport[]> {
    const queue: BacklogReport[][] = [];
    let failed: Error | undefined;
    let wake = (): void => undefined;
    this.watched.push({
      names,
      intervalMs,
      push: (reports) => {
        queue.push(reports);
        wake();
      },
      end: (error) => {
        failed = error;
        wake();
      },
    });
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) {
        yield next;
        continue;
      }
      if (signal.aborted) return;
      if (failed !== undefined) throw failed;
      await new Promise<void>((resolve) => {
        wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
  }
}

function rig(mayWrite = () => true) {
  const clock = new VirtualClock();
  const fake = new FakeAdmin();
  const healths: string[] = [];
  const link = new BrokerLink({
    label: 'shop/mine',
    address: 'broker:7443',
    admin: fake.admin,
    clock,
    random: () => 0.5,
    mayWrite,
    onHealth: ({ health }) => healths.push(health.kind === 'up' ? 'up' : health.reason),
    maxAgeMs: 5 * MINUTE_MS,
  });
  return { clock, fake, healths, link, view: link.view('p') };
}

test('a broker that is away costs a call now and then, and is noticed when it is back', async () => {
  const { clock, fake, healths, link } = rig();
  fake.away = 'connection refused';
  await expect(link.admin.getTopic('t', never)).rejects.toThrow('connection refused');
  expect(healths).toEqual(['BrokerUnreachable']);
  const before = fake.calls.length;
  for (let at = 0; at < 1_000; at += 1) {
    await expect(link.admin.getTopic('t', never)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      notSent: true,
    });
  }
  expect(fake.calls.length).toBe(before);
  await clock.advance(10 * MINUTE_MS);
  expect(fake.calls.length - before).toBeLessThan(50);
  expect(fake.calls.length - before).toBeGreaterThan(20);
  fake.away = undefined;
  await clock.advance(30_000);
  expect(healths).toEqual(['BrokerUnreachable', 'up']);
  expect(await link.admin.getTopic('t', never)).toBeUndefined();
  link.close();
  expect(clock.timerCount).toBe(0);
});

test('a certificate that is refused is told from a broker that is away', async () => {
  const { fake, healths, link } = rig();
  fake.away = 'the certificate expired';
  fake.isAboutCertificates = true;
  await expect(link.admin.getTopic('t', never)).rejects.toThrow();
  expect(healths).toEqual(['CertificateInvalid']);
  link.close();
});

test('who leads no longer writes nothing, and may look', async () => {
  const { fake, link } = rig(() => false);
  await expect(link.admin.deleteTopic('t', never)).rejects.toThrow('not the leader');
  await expect(
    link.admin.drainConsumers({ subscription: 's', clientIds: [], peerAddresses: [], ttlMs: 0 }, never),
  ).rejects.toThrow('not the leader');
  await link.admin.getTopic('t', never);
  expect(fake.calls).toEqual(['getTopic']);
});

test('one listing serves everybody for a while', async () => {
  const { clock, fake, view } = rig();
  fake.topics.set('a', topic('a'));
  const found = await Promise.all(['a', 'b', 'a'].map((name) => view.topic(name, false, never)));
  expect(found.map((each) => each?.name)).toEqual(['a', undefined, 'a']);
  expect(fake.calls).toEqual(['list']);
  await clock.advance(4 * MINUTE_MS);
  await view.topic('a', false, never);
  expect(fake.calls).toEqual(['list']);
  await clock.advance(2 * MINUTE_MS);
  await view.topic('a', false, never);
  expect(fake.calls).toEqual(['list', 'list']);
  await view.topic('a', true, never);
  expect(fake.calls).toEqual(['list', 'list', 'getTopic']);
});

test('what was changed while a listing was under way is not lost by it', async () => {
  const { fake, view } = rig();
  fake.topics.set('old', topic('old'));
  const held = Promise.withResolvers<void>();
  fake.hold = held.promise;
  const looking = view.topic('new', false, never);
  await Promise.resolve();
  view.noteTopic('new', topic('new', 7));
  view.noteTopic('old', undefined);
  held.resolve();
  expect((await looking)?.partitions).toBe(7);
  expect(await view.topic('old', false, never)).toBeUndefined();
});

test('a listing that failed is tried again by the next one', async () => {
  const { clock, fake, view, link } = rig();
  fake.away = 'gone';
  await expect(view.topic('a', false, never)).rejects.toThrow('gone');
  fake.away = undefined;
  fake.topics.set('a', topic('a'));
  await clock.advance(MINUTE_MS);
  expect((await view.topic('a', false, never))?.name).toBe('a');
  link.close();
});

const report = (name: string, messages: number, measureTimeMs: number): BacklogReport => ({
  subscription: name,
  messages,
  outstandingMessages: 0,
  consumers: 0,
  appendedTotal: messages,
  ackedTotal: 0,
  redeliveredTotal: 0,
  measureTimeMs,
});

test('backlogs: scaled ones by name and often, the others in one slow stream; a swarm of new ones opens it once', async () => {
  const { clock, fake, link } = rig();
  const heard: string[] = [];
  const watch = new BacklogWatch({
    clock,
    random: () => 0.5,
    logger: silent,
    onHeard: (key, { report: { messages } }) => heard.push(`${key} ${messages}`),
  });
  const stop = new AbortController();
  const running = watch.run(stop.signal);
  const want = (key: string, pace: 'fast' | 'slow') =>
    watch.want(key, { link, project: 'p', subscription: `projects/p/subscriptions/${key}`, pace });
  want('a', 'fast');
  want('x', 'slow');
  await clock.settle();
  expect(fake.watched.map(({ names, intervalMs }) => [names.length, intervalMs])).toEqual([
    [1, 1_000],
    [0, 15_000],
  ]);
  want('b', 'fast');
  want('c', 'fast');
  want('c', 'fast');
  await clock.advance(1_000);
  expect(fake.watched).toHaveLength(3);
  expect(fake.watched[2]!.names).toHaveLength(3);
  fake.watched[2]!.push([
    report('projects/p/subscriptions/b', 5, 1_000),
    report('projects/p/subscriptions/z', 1, 1_000),
  ]);
  fake.watched[1]!.push([
    report('projects/p/subscriptions/x', 2, 1_000),
    report('projects/p/subscriptions/a', 9, 1_000),
  ]);
  await clock.settle();
  expect(heard.sort()).toEqual(['b 5', 'x 2']);
  expect(watch.get('b')?.rates.load.messages).toBe(5);

  fake.watched[2]!.end(new BrokerCallError('UNAVAILABLE', 'gone'));
  await clock.advance(30_000);
  // The stream comes back by itself, and what was heard is kept with its age.
  expect(fake.watched.at(-1)!.names).toHaveLength(3);
  expect(watch.get('b')?.rates.load.receivedAtMs).toBeLessThan(2_000);
  watch.want('b', undefined);
  expect(watch.get('b')).toBeUndefined();
  stop.abort();
  await running;
  await clock.settle();
  link.close();
});
