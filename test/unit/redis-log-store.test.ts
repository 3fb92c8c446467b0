// What an append to Redis may end with: once its script has said OK, never with anything that means "not
// written".
import { expect, test } from 'vitest';
import type { Confirmer } from '../../services/broker/adapters/redis/confirmer.ts';
import type { RedisConnection, Reply } from '../../services/broker/adapters/redis/connection.ts';
import { RedisKeys } from '../../services/broker/adapters/redis/keys.ts';
import { RedisLogStore } from '../../services/broker/adapters/redis/log-store.ts';
import type { PartitionLists } from '../../services/broker/adapters/redis/partition-lists.ts';
import { WriteNumbers } from '../../services/broker/adapters/redis/write-numbers.ts';
import { BrokerError, type ErrorCode } from '../../services/broker/core/errors.ts';
import { chunksAfter, EMPTY, expectCode } from '../conformance/harness.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const P = { logEpoch: 1, partition: 0 };
const REPLICATED = { level: 'replicated', minReplicas: 1 } as const;

function logStore(script: () => Promise<Reply>, confirm: () => Promise<void>) {
  const scripts: string[] = [];
  const connection = {
    script: (name: string) => {
      scripts.push(name);
      return name === 'append' ? script() : Promise.resolve(['0', '0']);
    },
  } as unknown as RedisConnection;
  const log = new RedisLogStore({
    connection,
    keys: new RedisKeys('test'),
    memberId: 'me',
    numbers: new WriteNumbers(new VirtualClock()),
    lists: { enlist: async () => undefined } as unknown as PartitionLists,
    confirmer: { confirm } as unknown as Confirmer,
  });
  return { append: () => log.append(P, 1, 0, chunksAfter(EMPTY, [10]), REPLICATED), log, scripts };
}

const failing = (code: ErrorCode) => async () => {
  throw new BrokerError(code, 'as Redis says it');
};

test.each(['ABORTED', 'FAILED_PRECONDITION', 'INTERNAL', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE'] as const)(
  'written, then %s of the confirmation: the outcome is unknown',
  async (code) => {
    const { append } = logStore(async () => ['OK'], failing(code));
    await expectCode(append(), 'UNAVAILABLE');
  },
);

test('a reply that nobody knows leaves the outcome open, and bounds() settles it', async () => {
  const { append, log, scripts } = logStore(failing('INTERNAL'), async () => undefined);
  await expectCode(append(), 'UNAVAILABLE');
  await log.bounds(P);
  await log.bounds(P);
  expect(scripts).toEqual(['append', 'fence', 'bounds']);
});

test('what comes before the first write says that nothing was written', async () => {
  const full = logStore(failing('RESOURCE_EXHAUSTED'), async () => undefined);
  await expectCode(full.append(), 'RESOURCE_EXHAUSTED');
  const stale = logStore(
    async () => ['STALE', '2', 'other'],
    async () => undefined,
  );
  await expectCode(stale.append(), 'ABORTED');
});
