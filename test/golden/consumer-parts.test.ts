// What a relayed consumer decides, and its part at one owner, as dialogues. `vitest -u` rewrites them: commit
// only a difference that you can explain.
import { expect, test } from 'vitest';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import { PartDialogue, PartsDialogue } from '../support/parts-dialogue.ts';

function ack(partition: number, first: number, last = first): SettleOperation {
  return { kind: 'ack', logEpoch: 1, partition, first, last, seconds: 0 };
}

const nack = (partition: number, first: number): SettleOperation => ({
  ...ack(partition, first),
  kind: 'nack',
});
const LIMITS = {
  maxOutstandingMessages: 8,
  maxOutstandingBytes: 800,
  ackDeadlineMs: 10_000,
  draining: false,
};
const OWNED = { 0: 'y', 1: 'z' };

/** It has opened, and y and z have confirmed their shares. */
function open(title: string): PartsDialogue {
  return new PartsDialogue(title)
    .now('y owns partition 0, z owns 1', OWNED)
    .on({ kind: 'routed', owners: ['y', 'z'], partitions: 2 })
    .on({ kind: 'joined', part: 'y' })
    .on({ kind: 'joined', part: 'z' })
    .on({ kind: 'placed' })
    .credited('y', 1)
    .credited('z', 1);
}

const dialogues = {
  opening: () => open('Legs that are there when it opens are given their shares together.'),

  'late-link': () =>
    new PartsDialogue('A link comes up late: until then the others have all of the credit.')
      .now('x owns partition 0, z owns 1', { 0: 'x' })
      .routed('x', 'z')
      .credited('x', 1)
      .on({ kind: 'joined', part: 'z' })
      .credited('x', 2)
      .credited('z', 1),

  wants: () =>
    open('The one that lacks credit gets what the other can spare.')
      .on({ kind: 'wants', part: 'y', more: true })
      .credited('z', 2, 4)
      .credited('z', 2, 1)
      .on({ kind: 'turn' }),

  move: () =>
    open('Partition 0 moves from y to z: what is said meanwhile is kept, and told in order.')
      .now('y has handed it over, z does not have it yet', { 1: 'z' })
      .routed('z')
      .on({ kind: 'bounced', operations: [ack(0, 3)] })
      .on({ kind: 'settle', operations: [ack(0, 4, 6), nack(0, 7), ack(1, 0)] })
      .on({ kind: 'look', retried: true })
      .now('z has it', { 0: 'z', 1: 'z' })
      .on({ kind: 'settle', operations: [ack(0, 8)] })
      .on({ kind: 'look', retried: true })
      .on({ kind: 'settle', operations: [ack(0, 9)] })
      .on({ kind: 'lingered', part: 'y' }),

  'in-turn': () =>
    open('y can be told again: what is said now waits for what was kept of its partition.')
      .now('y can not be told', { 1: 'z' })
      .on({ kind: 'settle', operations: [nack(0, 3)] })
      .now('y can be told', OWNED)
      .on({ kind: 'settle', operations: [ack(0, 3), ack(1, 0)] })
      .on({ kind: 'look', retried: true }),

  'comes-back': () =>
    open('A broker is to own nothing any more, and then something again: its leg stays.')
      .routed('z')
      .routed('y', 'z'),

  'link-breaks': () =>
    open('The link to y breaks: its credit goes to z, and back when it is up again.')
      .now('y can not be told', { 1: 'z' })
      .on({ kind: 'left', part: 'y' })
      .on({ kind: 'settle', operations: [ack(0, 3)] })
      .credited('z', 2)
      .now('the link is up', OWNED)
      .on({ kind: 'joined', part: 'y' })
      .credited('z', 3),

  unknown: () =>
    open('A partition that the topic does not have: what is said of it is dropped once that is known.')
      .on({ kind: 'settle', operations: [ack(7, 0)] })
      .on({ kind: 'known', partitions: undefined })
      .on({ kind: 'look', retried: true })
      .on({ kind: 'known', partitions: 2 }),

  quiet: () =>
    open('It is made quiet: all credit back, what waits is taken, what was said is told; then it leaves.')
      .now('a delivery waits for the stream; y can not be told', { 1: 'z' }, 1)
      .on({ kind: 'settle', operations: [ack(0, 3)] })
      .on({ kind: 'quiesce' })
      .credited('y', 2, 2)
      .credited('z', 2)
      .now('y can be told', OWNED, 1)
      .on({ kind: 'look', retried: true })
      .now('the stream has taken it', OWNED)
      .on({ kind: 'flushed' })
      .on({ kind: 'leave', leases: 'wait' }),

  leaves: () =>
    open('It leaves while a partition moves: acks are settled without it, all else means nothing any more.')
      .now('nobody can be told of partition 0', { 1: 'z' })
      .on({ kind: 'settle', operations: [ack(0, 3), nack(0, 4)] })
      .on({ kind: 'leave', leases: 'end' })
      .on({ kind: 'bounced', operations: [ack(1, 2), nack(1, 3)] })
      .credited('y', 1),

  drains: () =>
    open('It drains: every owner is told with its credit.')
      .on({ kind: 'drain', draining: true })
      .credited('y', 2, 1)
      .on({ kind: 'count' }),

  'part-attach': () =>
    new PartDialogue('A part attaches, is told of credit, and says what was taken now and then.')
      .on({ kind: 'up', opening: true })
      .on({ kind: 'credit', sequence: 1, limits: LIMITS })
      .delivered(200_000)
      .delivered(100_000)
      .on({ kind: 'settle', operations: [ack(0, 0, 9)] })
      .on({ kind: 'leave', leases: 'end' })
      .on({ kind: 'settle', operations: [ack(0, 10)] }),

  'part-refused': () =>
    new PartDialogue(
      'The owner refuses for now: what it did not hear comes back; it is tried again, later each time.',
    )
      .on({ kind: 'up', opening: true })
      .on({ kind: 'credit', sequence: 1, limits: LIMITS })
      .on({ kind: 'settle', operations: [ack(0, 3)] })
      .on({ kind: 'ended', code: 'UNAVAILABLE', linkIsUp: true })
      .on({ kind: 'settle', operations: [ack(0, 4)] })
      .on({ kind: 'up', opening: false })
      .on({ kind: 'ended', code: 'UNAVAILABLE', linkIsUp: true })
      .on({ kind: 'leave', leases: 'stay' }),

  'part-broken': () =>
    new PartDialogue('The link breaks: nothing is told on it any more; it attaches again when it is up.')
      .on({ kind: 'up', opening: true })
      .on({ kind: 'credit', sequence: 1, limits: LIMITS })
      .delivered(100)
      .on({ kind: 'settle', operations: [ack(0, 3)] })
      .on({ kind: 'ended', code: 'UNAVAILABLE', linkIsUp: false })
      .on({ kind: 'credit', sequence: 2, limits: LIMITS })
      .on({ kind: 'deadline', ackDeadlineMs: 5_000 })
      .on({ kind: 'up', opening: false })
      .on({ kind: 'deadline', ackDeadlineMs: 5_000 })
      .on({ kind: 'credit', sequence: 1, limits: LIMITS })
      .on({ kind: 'deadline', ackDeadlineMs: 5_000 }),

  'part-ended': () =>
    new PartDialogue('The owner ends it for good: the consumer ends.')
      .on({ kind: 'up', opening: false })
      .on({ kind: 'ended', code: 'ABORTED', linkIsUp: true })
      .on({ kind: 'leave', leases: 'end' }),
};

test.each(Object.entries(dialogues))('%s', async (name, dialogue) => {
  await expect(dialogue().text).toMatchFileSnapshot(`consumer-parts/${name}.txt`);
});
