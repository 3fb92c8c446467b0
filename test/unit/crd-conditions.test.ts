// operator/core/conditions.ts: conditions of a status, whose times move only with their status.
import { expect, test } from 'vitest';
import type { Condition } from '../../operator/api/v1alpha1/conditions.ts';
import {
  findCondition,
  isTransition,
  isTrue,
  setConditions,
  withoutCondition,
} from '../../operator/core/conditions.ts';

const NOON_MS = Date.parse('2026-03-01T12:00:00.789Z');
const NOON = '2026-03-01T12:00:00Z';
const ready: Condition = {
  type: 'Ready',
  status: 'True',
  reason: 'Reconciled',
  message: 'The broker has it.',
  observedGeneration: 1,
  lastTransitionTime: '2026-01-01T00:00:00Z',
};

test('a first condition begins now, in whole seconds', () => {
  const set = setConditions(undefined, [{ ...ready }], 3, NOON_MS);
  expect(set).toEqual([{ ...ready, observedGeneration: 3, lastTransitionTime: NOON }]);
});

test('lastTransitionTime moves with status only', () => {
  const [same] = setConditions([ready], [{ ...ready, reason: 'Observed', message: 'Other.' }], 2, NOON_MS);
  expect(same).toMatchObject({
    lastTransitionTime: ready.lastTransitionTime,
    reason: 'Observed',
    message: 'Other.',
    observedGeneration: 2,
  });
  const [changed] = setConditions([ready], [{ ...ready, status: 'Unknown' }], 2, NOON_MS);
  expect(changed?.lastTransitionTime).toBe(NOON);
});

test('types that are not named stay, and the order is always the same', () => {
  const scaling = { ...ready, type: 'Scaling' as const };
  const synced = {
    type: 'Synced',
    status: 'False',
    reason: 'BrokerUnreachable',
    message: 'It is away.',
  } as const;
  const one = setConditions([scaling, ready], [synced], 1, NOON_MS);
  const other = setConditions([ready, scaling], [synced], 1, NOON_MS);
  expect(one.map(({ type }) => type)).toEqual(['Ready', 'Synced', 'Scaling']);
  expect(JSON.stringify(one)).toBe(JSON.stringify(other));
  expect(one[0]).toBe(ready);
});

test('the same again is the same JSON, so nothing is written', () => {
  const first = setConditions(undefined, [ready], 1, NOON_MS);
  const again = setConditions(first, [ready], 1, NOON_MS + 60_000);
  expect(JSON.stringify(again)).toBe(JSON.stringify(first));
});

test('a message fits into the field, with no half character at its end', () => {
  const [cut] = setConditions(undefined, [{ ...ready, message: '😀'.repeat(20_000) }], 1, NOON_MS);
  expect(cut!.message.length).toBeLessThanOrEqual(32_768);
  expect(cut!.message.isWellFormed()).toBe(true);
  expect(cut!.message.endsWith('…')).toBe(true);
});

test('finding and removing', () => {
  const paused: Condition = { ...ready, type: 'Paused', reason: 'Paused' };
  expect(isTrue([ready, paused], 'Paused')).toBe(true);
  expect(isTrue([ready], 'Paused')).toBe(false);
  expect(findCondition([ready, paused], 'Paused')).toBe(paused);
  expect(withoutCondition([ready, paused], 'Paused')).toEqual([ready]);
  expect(withoutCondition(undefined, 'Paused')).toEqual([]);
});

test('a transition is another status or reason, not another message', () => {
  expect(isTransition(undefined, ready)).toBe(true);
  expect(isTransition(ready, { ...ready, message: '5 messages wait.', observedGeneration: 9 })).toBe(false);
  expect(isTransition(ready, { ...ready, reason: 'Observed' })).toBe(true);
  expect(isTransition(ready, { ...ready, status: 'False' })).toBe(true);
});
