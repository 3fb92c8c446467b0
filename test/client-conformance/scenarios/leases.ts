// Leases: a consumer keeps what it works on, however long and hard it works.
import assert from 'node:assert/strict';
import { assertOnce, messages, texts } from '../checks.ts';
import type { Rule } from '../protocol.ts';
import type { Scenario } from '../scenario.ts';
import type { Scene } from '../scene.ts';

/**
 * Everything is published before, so that the client has it all when the work begins. Leases end after a
 * second.
 */
async function works(
  scene: Scene,
  mode: 'handler' | 'loop',
  count: number,
  rule: Omit<Rule, 'action'>,
): Promise<void> {
  await scene.createTopic();
  await scene.createSubscription('audit', { ackDeadlineSeconds: 1 });
  await scene.connect();
  await scene.publisher();
  await scene.publish(messages(count));
  const consumer = await scene.consume({ mode, concurrency: 1, rules: [{ ...rule, action: 'ack' }] });
  await consumer.hasAcked(texts(count));
  await scene.untilBacklog('the last acknowledgements', (counts) => counts.messages === 0);
  assertOnce(consumer, texts(count));
}

/** No lease has run out. The broker's count is asked, since a client may hide what comes a second time. */
async function assertNothingCameAgain(scene: Scene): Promise<void> {
  const [backlog] = await scene.admin.getBacklog(['audit']);
  assert.equal(backlog?.redeliveredTotal, 0, 'leases have run out');
}

export const leases: readonly Scenario[] = [
  {
    name: 'long work, handler',
    rule: 'The lease of a message lasts as long as its handler works, also beyond the ack deadline.',
    needs: ['handler', 'leases'],
    isBusy: true,
    async play(scene) {
      await works(scene, 'handler', 2, { waitMs: 2_500 });
      await assertNothingCameAgain(scene);
    },
  },
  {
    name: 'long work, loop',
    rule: 'The leases of what a loop works on, and of what the client still holds for it, last beyond the ack deadline.',
    needs: ['leases'],
    isBusy: true,
    async play(scene) {
      await works(scene, 'loop', 3, { waitMs: 1_300 });
      await assertNothingCameAgain(scene);
    },
  },
  {
    name: 'hard work, handler',
    rule: 'Handlers that compute and never wait starve neither acknowledgements nor the leases of what waits behind them.',
    needs: ['handler', 'leases'],
    isBusy: true,
    async play(scene) {
      await works(scene, 'handler', 100, { computeMs: 30 });
      await assertNothingCameAgain(scene);
    },
  },
  {
    name: 'hard work, loop',
    rule: 'A loop that computes and never waits starves neither acknowledgements nor the leases of what waits behind.',
    needs: ['leases'],
    isBusy: true,
    async play(scene) {
      await works(scene, 'loop', 100, { computeMs: 30 });
      await assertNothingCameAgain(scene);
    },
  },
  {
    name: 'one long computation',
    rule: 'What comes again because work has blocked its thread for longer than an ack deadline is not handed out a second time.',
    needs: ['handler', 'leases'],
    isBusy: true,
    async play(scene) {
      await works(scene, 'handler', 2, { computeMs: 2_500 });
    },
  },
  {
    name: 'a changed ack deadline',
    rule: 'A changed ack deadline of the subscription reaches consumers that are running.',
    needs: ['leases'],
    async play(scene) {
      await scene.createTopic(1);
      await scene.createSubscription('audit', { ackDeadlineSeconds: 600 });
      const frozen = await scene.anotherDriver();
      await scene.connect({}, frozen);
      const consumer = await scene.consume(
        { rules: [{ action: 'hold' }], maxOutstandingMessages: 2 },
        frozen,
      );
      await scene.connect();
      await scene.publisher();
      await scene.publish([{ data: 'first' }]);
      await consumer.received(1);
      await scene.admin.updateSubscription('audit', { ackDeadlineSeconds: 1 });
      await scene.publish([{ data: 'second' }]);
      await consumer.received(2);
      // Two lengths of the new lease go by, in another consumer's work: the first one extends its own
      // meanwhile.
      const next = await scene.consume({ rules: [{ data: 'third', action: 'ack', waitMs: 2_000 }] });
      await scene.publish([{ data: 'third' }]);
      await next.hasAcked(['third']);
      assertOnce(next, ['third']);
      // Now the first consumer can't extend them any more, and they end by the new deadline.
      frozen.signal('SIGSTOP');
      await next.hasAcked(['first', 'second']);
    },
  },
];
