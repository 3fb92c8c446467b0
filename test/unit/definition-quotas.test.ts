// How many topics, partitions and subscriptions there can be: each limit of limits.ts is reached, and what
// would pass it is refused with what, how many, the limit and what to do. Over the memory store.
import { beforeEach, expect, test } from 'vitest';
import { Definitions } from '../../services/broker/engine/definitions/definitions.ts';
import {
  MAX_DISPATCHERS,
  MAX_PARTITIONS,
  MAX_SUBSCRIPTIONS_PER_PROJECT,
  MAX_TOPICS_PER_PROJECT,
} from '../../services/broker/limits.ts';
import { createSharedMemory } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

let memory: ReturnType<typeof createSharedMemory>;
let definitions: Definitions;

function open(): Definitions {
  return new Definitions({
    store: memory.open('broker').definitions,
    clock: new VirtualClock(),
    durability: { supported: ['stored'], default: 'stored' },
    currentEnds: async ({ partitions }) => Array.from({ length: partitions }, () => 0),
    audit: () => {},
    onWarning: () => {},
  });
}

beforeEach(async () => {
  memory = createSharedMemory({});
  definitions = open();
  await definitions.load();
});

const topic = (id: string, partitions: number, project = 'p') =>
  definitions.createTopic('test', { name: `projects/${project}/topics/${id}`, partitions });
const grow = (id: string, partitions: number) =>
  definitions.updateTopic('test', { name: `projects/p/topics/${id}`, partitions }, ['partitions']);
const subscription = (id: string, of: string, project = 'p') =>
  definitions.createSubscription('test', {
    name: `projects/${project}/subscriptions/${id}`,
    topic: `projects/${project}/topics/${of}`,
    start: 'earliest',
  });
const unsubscribe = (id: string) => definitions.deleteSubscription('test', `projects/p/subscriptions/${id}`);

async function times(count: number, create: (at: number) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < count; at += 1) await create(at);
}

test('topics and subscriptions of a project', { timeout: 60_000 }, async () => {
  await times(MAX_TOPICS_PER_PROJECT, (at) => topic(`topic-${at}`, 1));
  await expect(topic('one-more', 1)).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'the project p has 10000 topics, which is the limit: delete some',
  });
  await times(MAX_SUBSCRIPTIONS_PER_PROJECT, (at) => subscription(`sub-${at}`, `topic-${at % 7}`));
  await expect(subscription('one-more', 'topic-1')).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'the project p has 10000 subscriptions, which is the limit: delete some',
  });
  await topic('elsewhere', 1, 'other');
  await subscription('elsewhere', 'elsewhere', 'other');
  await unsubscribe('sub-0');
  await subscription('one-more', 'topic-1');
});

test('partitions of all topics, of whatever project', async () => {
  await times(97, (at) => topic(`topic-${at}`, 1_024, `project-${at % 3}`));
  await topic('the-rest', MAX_PARTITIONS - 97 * 1_024 - 1);
  await expect(topic('too-many', 2)).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message:
      'topic.partitions: all topics have 99999 partitions, 2 more would pass the limit of 100000: delete topics, or ask for fewer',
  });
  await grow('the-rest', MAX_PARTITIONS - 97 * 1_024);
  await expect(topic('too-many', 1)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
});

test('partitions that all subscriptions deliver, of whatever project', async () => {
  await topic('wide', 1_000);
  await topic('wide', 1_000, 'other');
  await topic('small', 1);
  const half = MAX_DISPATCHERS / 2 / 1_000;
  await times(half, (at) => subscription(`wide-${at}`, 'wide'));
  await times(half - 1, (at) => subscription(`wide-${at}`, 'wide', 'other'));
  await times(999, (at) => subscription(`small-${at}`, 'small'));
  await expect(subscription('one-more', 'wide')).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message:
      'subscription.topic: all subscriptions have 99999 partitions to deliver, each those of its topic; 1000 more would pass ' +
      'the limit of 100000: delete subscriptions, or take topics with fewer partitions',
  });
  // The refused subscription has left nothing behind.
  await subscription('the-last', 'small');
  await expect(subscription('one-more', 'small')).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  await expect(grow('small', 2)).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message:
      'topic.partitions: all subscriptions have 100000 partitions to deliver, each those of its topic; 1000 more would pass ' +
      'the limit of 100000: delete subscriptions, or ask for fewer partitions',
  });
  expect(definitions.topic('projects/p/topics/small')?.partitions).toBe(1);
  await topic('unread', 1);
  await grow('unread', 1_024);
  await unsubscribe('wide-0');
  await grow('small', 2);
  await expect(subscription('one-more', 'small')).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  await definitions.deleteTopic('test', 'projects/p/topics/small', { force: true });
  await subscription('wide-0', 'wide');
});

test('changes under way at the same time do not pass a limit together', async () => {
  await times(99, (at) => topic(`topic-${at}`, 1_000, `project-${at % 3}`));
  await times(99, (at) => subscription(`sub-${at}`, `topic-${at}`, `project-${at % 3}`));
  await topic('first', 500);
  await topic('second', 500);
  const both = await Promise.allSettled([
    subscription('one', 'first'),
    subscription('two', 'second'),
    subscription('three', 'first'),
  ]);
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'fulfilled', 'rejected']);
});

test('a broker that finds more than the limit takes it all up, and lets go of it', async () => {
  await topic('wide', 1_000);
  await times(100, (at) => subscription(`sub-${at}`, 'wide'));
  // The store is as a broker without the limit has left it.
  const store = memory.open('other').definitions;
  const wide = (await store.list()).find(({ kind }) => kind === 'topic')!;
  const body = wide.body.replace('"partitions":1000', '"partitions":1024');
  await store.put('topic', wide.name, body, wide.revision);
  definitions = open();
  await definitions.load();
  expect([...definitions.subscriptions()]).toHaveLength(100);
  await expect(subscription('one-more', 'wide')).rejects.toThrow('have 102400 partitions to deliver');
  await times(3, (at) => unsubscribe(`sub-${at}`));
  await expect(subscription('one-more', 'wide')).rejects.toThrow('have 99328 partitions to deliver');
  await topic('small', 672);
  await subscription('small', 'small');
});
