// The judge of the durability `memory` in clusters can fail: each promise of early-answers.ts, broken by
// hand.
import { expect, test } from 'vitest';
import { EarlyAnswers } from './cluster/early-answers.ts';
import { PartitionTruth } from './cluster/partition-truth.ts';
import { SentIndex } from './cluster/sent-index.ts';
import type { SentMessage } from './sent-message.ts';

const [FIRST, SECOND] = ['p/1', 'p/2'].map(
  (identity, batch): SentMessage => ({ identity, key: '', content: '', batch, nth: 1, batchFirst: 1 }),
) as [SentMessage, SentMessage];

/** The broker "a" owns the partition. */
function begin({ holdsLease = true } = {}) {
  const sent = new SentIndex();
  sent.sending([FIRST, SECOND], 0);
  const early = new EarlyAnswers(sent, () => holdsLease);
  const truth = new PartitionTruth({ logEpoch: 1, partition: 0 });
  truth.acquired({ memberId: 'a', ownerEpoch: 1 }, undefined, false, false, 0);
  return { early, truth };
}

function moveTo(truth: PartitionTruth, memberId: string, ownerEpoch: number): void {
  truth.acquired({ memberId, ownerEpoch }, undefined, false, false, 0);
}

test('what comes to its place is no longer owed', () => {
  const { early, truth } = begin();
  early.told(truth, FIRST, 0, 'a', true);
  expect(early.firstMissing).toBe('p/1 at 1.0-0');
  expect(early.appended('a', truth, 0, FIRST)).toBe(true);
  expect(early.firstMissing).toBeUndefined();
});

test('an owner that stores something else there has broken its word; the next one has not', () => {
  const { early, truth } = begin();
  early.told(truth, FIRST, 0, 'a', true);
  expect(() => early.appended('a', truth, 0, SECOND)).toThrow('where a has stored p/2');
  early.lost('a', truth);
  moveTo(truth, 'b', 2);
  early.appended('b', truth, 0, SECOND);
  expect(early.firstMissing).toBe('p/1 at 1.0-0');
  expect(early.appended('b', truth, 1, FIRST)).toBe(false);
  expect(early.firstMissing).toBeUndefined();
});

test('what an owner has answered on a link is its own, whoever owns the partition when the publisher hears', () => {
  const { early, truth } = begin();
  early.answered('a', truth, 0, ['p/1']);
  early.lost('a', truth);
  moveTo(truth, 'b', 2);
  early.told(truth, FIRST, 0, 'relay', true);
  expect(early.firstMissing).toBe('p/1 at 1.0-0');
  early.died('a');
  expect(early.firstMissing).toBeUndefined();
});

test('what was passed on is lost with the owner that has it now', () => {
  const { early, truth } = begin();
  early.told(truth, FIRST, 0, 'a', true);
  early.lost('a', truth);
  moveTo(truth, 'b', 2);
  early.answered('b', truth, 0, ['p/1']);
  early.died('a');
  expect(early.firstMissing).toBe('p/1 at 1.0-0');
  early.died('b');
  expect(early.firstMissing).toBeUndefined();
});

test('nobody lets go in order of what is not stored', () => {
  const { early, truth } = begin();
  early.told(truth, FIRST, 0, 'a', true);
  expect(() => early.released('a', truth)).toThrow('a has let go without storing p/1');
});

test('nobody answers before it has stored when its lease has ended', () => {
  const { early, truth } = begin({ holdsLease: false });
  expect(() => early.told(truth, FIRST, 0, 'a', true)).toThrow('although its lease has ended');
  expect(() => early.answered('a', truth, 0, ['p/1'])).toThrow('although its lease has ended');
});
