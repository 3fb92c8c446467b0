// What an owner decides on a relay's requests, as dialogues. `vitest -u` rewrites them: commit only a
// difference that you can explain.
import { expect, test } from 'vitest';
import type { OwnerEvent } from '../../services/broker/core/owner-end.ts';
import { OwnerDialogue } from '../support/parts-dialogue.ts';

const AUDIT = 'projects/p/subscriptions/audit';
const AT = { logEpoch: 1, partition: 0 };

function publish(
  call: number,
  attempt: number,
  more: { logEpoch?: number; isMine?: boolean } = {},
): OwnerEvent {
  const { logEpoch = 1, isMine = true } = more;
  return {
    kind: 'publish',
    call,
    topic: 'projects/p/topics/orders',
    partition: AT,
    attempt,
    logEpoch,
    isMine,
  };
}

function attach(
  consumer: number,
  known: { incarnation?: number; isClosed?: boolean; consumers?: number } = {},
): OwnerEvent {
  const here = { incarnation: 5, isClosed: false, consumers: 0, ...known };
  return { kind: 'attach', consumer, subscription: AUDIT, incarnation: 5, known: here };
}

function credit(
  consumer: number,
  sequence: number,
  maxOutstandingMessages: number,
  draining = false,
): OwnerEvent {
  const limits = { maxOutstandingMessages, maxOutstandingBytes: 800, ackDeadlineMs: 10_000, draining };
  return { kind: 'credit', consumer, sequence, limits };
}

function settle(consumer: number, ...partitions: readonly number[]): OwnerEvent {
  const operations = partitions.map((partition) => ({
    ...{ kind: 'ack' as const, logEpoch: 1, partition, first: 3, last: 3, seconds: 0 },
  }));
  return { kind: 'settle', consumer, operations, owns: ({ partition }) => partition === 0 };
}

const dialogues = {
  publishes: () =>
    new OwnerDialogue('What is owned here is taken; of another incarnation it is refused.')
      .on(publish(1, 1), publish(2, 1))
      .on(publish(3, 1, { logEpoch: 2 })),

  'not-owner': () =>
    new OwnerDialogue(
      'A publish is refused: so is what was sent behind it, though the partition came meanwhile.',
    )
      .on(publish(1, 1, { isMine: false }))
      .on(publish(2, 1), publish(3, 1))
      .on(publish(1, 2)),

  misplaced: () =>
    new OwnerDialogue('What was taken could not be stored here: what comes behind it is refused.')
      .on(publish(1, 1))
      .on({ kind: 'misplaced', call: 1, partition: AT, attempt: 1, message: 'the topic has grown' })
      .on(publish(2, 1))
      .on(publish(3, 2), publish(4, 3))
      .on({ kind: 'misplaced', call: 4, partition: AT, attempt: 3, message: 'the partition has moved' })
      .on({ kind: 'misplaced', call: 3, partition: AT, attempt: 2, message: 'the partition has moved' })
      .on(publish(5, 3)),

  attach: () =>
    new OwnerDialogue(
      'A consumer joins; what is not known here yet may be tried again, what was deleted not.',
    )
      .on({ kind: 'attach', consumer: 1, subscription: AUDIT, incarnation: 5, known: undefined })
      .on(attach(2, { incarnation: 4 }), attach(3, { isClosed: true }))
      .on(attach(4, { incarnation: 6 }))
      .on(attach(5, { consumers: 2 }))
      .on(attach(6, { consumers: 1 }))
      .on(attach(6, { consumers: 2 })),

  credit: () =>
    new OwnerDialogue(
      'Credit is in force before it is confirmed; above a lower limit it is said what is left.',
    )
      .on(attach(1))
      .on(credit(1, 1, 8))
      .on(credit(1, 2, 0))
      .on({ kind: 'fewer', consumer: 1 }, { kind: 'fewer', consumer: 1 })
      .on(credit(1, 3, 4, true)),

  settle: () =>
    new OwnerDialogue('What is said of partitions that are owned elsewhere bounces.')
      .on(attach(1))
      .on(settle(1, 0), settle(1, 0, 1), settle(1, 1)),

  leaves: () =>
    new OwnerDialogue('Nothing is done or said of a consumer that is not attached.')
      .on(credit(1, 1, 8), settle(1, 0))
      .on(attach(1))
      .on({ kind: 'detach', consumer: 1, leases: 'stay' })
      .on({ kind: 'fewer', consumer: 1 }, settle(1, 0, 1), credit(1, 2, 8))
      .on({ kind: 'detach', consumer: 1, leases: 'end' }),

  'link-closes': () =>
    new OwnerDialogue(
      'The link closes: the ways to its consumers are gone, but for the one that was ended here.',
    )
      .on(attach(1), attach(2), attach(3))
      .on({ kind: 'gone', consumer: 2 })
      .on({ kind: 'closed' }),
};

test.each(Object.entries(dialogues))('%s', async (name, dialogue) => {
  await expect(dialogue().text).toMatchFileSnapshot(`owner-end/${name}.txt`);
});
