// operator/core/stabilize.ts: step limits and stabilization windows.
import { describe, expect, test } from 'vitest';
import {
  type Change,
  type Extremes,
  scaleDownLimit,
  scaleUpLimit,
  withChange,
  withMaximum,
  withMinimum,
} from '../../operator/core/autoscale/behavior.ts';
import type { ScaleRules } from '../../operator/core/autoscale/spec.ts';
import { seededRandom } from '../support/random.ts';

const PODS = { type: 'Pods', value: 4, periodSeconds: 15 } as const;
const PERCENT = { type: 'Percent', value: 100, periodSeconds: 15 } as const;
const HALF = { type: 'Percent', value: 50, periodSeconds: 60 } as const;
const rules = (
  policies: ScaleRules['policies'],
  selectPolicy: ScaleRules['selectPolicy'] = 'Max',
): ScaleRules => ({
  stabilizationWindowSeconds: 0,
  policies,
  selectPolicy,
});
const NOW = 1_000_000;
const ago = (seconds: number, delta: number): Change => ({ atMs: NOW - seconds * 1000, delta });

describe('step limits, as the HPA has them', () => {
  test.each([
    ['4 pods from none', 0, rules([PODS, PERCENT]), [], 4],
    ['4 pods while that is more', 2, rules([PODS, PERCENT]), [], 6],
    ['twice as many when that is more', 10, rules([PODS, PERCENT]), [], 20],
    ['the smaller of the two', 10, rules([PODS, PERCENT], 'Min'), [], 14],
    ['never', 10, rules([PODS, PERCENT], 'Disabled'), [], 10],
    ['what was added in the period counts', 20, rules([PERCENT]), [ago(10, 10)], 20],
    ['what was added before does not', 20, rules([PERCENT]), [ago(15, 10)], 40],
    ['what was removed in the period is put back', 10, rules([PODS]), [ago(5, -3)], 17],
    ['never below what there is', 20, rules([PODS]), [ago(5, 19)], 20],
  ] as const)('up: %s', (_name, current, given, changes, expected) => {
    expect(scaleUpLimit(current, given, changes, NOW)).toBe(expected);
  });

  test.each([
    ['half', 10, rules([HALF]), [], 5],
    ['rounded down', 5, rules([HALF]), [], 2],
    ['the last one too', 1, rules([HALF]), [], 0],
    ['what was removed in the period counts', 5, rules([HALF]), [ago(30, -5)], 5],
    ['the larger change', 10, rules([HALF, PODS]), [], 5],
    ['the smaller change', 10, rules([HALF, PODS], 'Min'), [], 6],
    ['never', 10, rules([HALF], 'Disabled'), [], 10],
    ['not below zero', 3, rules([PODS]), [], 0],
  ] as const)('down: %s', (_name, current, given, changes, expected) => {
    expect(scaleDownLimit(current, given, changes, NOW)).toBe(expected);
  });

  test('changes are forgotten after the longest period that a policy can have', () => {
    let changes: readonly Change[] = [];
    for (let atMs = 0; atMs <= 7_200_000; atMs += 1000) changes = withChange(changes, { atMs, delta: 1 });
    expect(changes.length).toBeLessThanOrEqual(600);
    expect(changes.at(-1)).toEqual({ atMs: 7_200_000, delta: 1 });
  });
});

describe('windows', () => {
  test('the first is the extreme of the window, and only what may become one is kept', () => {
    const random = seededRandom(7);
    const all: { atMs: number; replicas: number }[] = [];
    let highest: Extremes = [];
    let lowest: Extremes = [];
    for (let atMs = 0; atMs < 3_000_000; atMs += 5000) {
      const next = { atMs, replicas: Math.floor(random() * 30) };
      all.push(next);
      highest = withMaximum(highest, next, 300_000);
      lowest = withMinimum(lowest, next, 300_000);
      const window = all.filter((each) => each.atMs > atMs - 300_000).map(({ replicas }) => replicas);
      expect(highest[0]!.replicas).toBe(Math.max(...window));
      expect(lowest[0]!.replicas).toBe(Math.min(...window));
      expect(highest.length).toBeLessThanOrEqual(30);
    }
  });

  test('a window of nothing holds the newest only', () => {
    const one = withMaximum([{ atMs: 0, replicas: 9 }], { atMs: 5, replicas: 3 }, 0);
    expect(one).toEqual([{ atMs: 5, replicas: 3 }]);
  });
});
