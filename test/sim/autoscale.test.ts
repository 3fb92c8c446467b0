// The autoscaler against the HPA's and KEDA's algorithms in one simulator: ahead on each total, on seeds that
// nothing was tuned on. `npx node test/scaling/main.ts` prints the whole table.
import { describe, expect, test } from 'vitest';
import { Hpa } from '../scaling/hpa.ts';
import { Keda } from '../scaling/keda.ts';
import { type Contender, fanfare, hpa, keda, runAll, runOne, sum } from '../scaling/run.ts';
import type { Observed } from '../scaling/scaler.ts';
import { loadShapes } from '../scaling/shapes.ts';
import type { Totals } from '../scaling/world.ts';

const SEEDS = [201, 202];
const TIMEOUT_MS = 120_000;

const totals = new Map<string, Map<string, Totals>>();
function byShape(contender: Contender): Map<string, Totals> {
  const known = totals.get(contender.name) ?? runAll(contender, SEEDS);
  totals.set(contender.name, known);
  return known;
}
const total = (contender: Contender): Totals => sum(byShape(contender).values());
const shapeNamed = (name: string) => loadShapes().find((shape) => shape.name === name)!;

const ours = fanfare('Fanfare');
const oursFromZero = fanfare('Fanfare from zero', { minReplicas: 0 });

describe('ahead on each total', () => {
  test.each([5, 10, 20, 30])(
    'of the HPA with a target of %i s of work',
    { timeout: TIMEOUT_MS },
    (seconds) => {
      expectAhead(total(ours), total(hpa(seconds)));
    },
  );

  test.each([5, 10, 20, 30])('of KEDA with a target of %i s of work', { timeout: TIMEOUT_MS }, (seconds) => {
    expectAhead(total(oursFromZero), total(keda(seconds)));
  });

  test('with other numbers in the shapes, which nothing was tuned on', { timeout: TIMEOUT_MS }, () => {
    const of = (contender: Contender) => sum(runAll(contender, [211, 212], { varied: true }).values());
    expectAhead(of(ours), of(hpa(10)));
    expectAhead(of(oursFromZero), of(keda(10)));
  });

  test('over at least twelve shapes, none of which is far behind', { timeout: TIMEOUT_MS }, () => {
    const mine = byShape(ours);
    const best = byShape(hpa(10));
    expect(mine.size).toBeGreaterThanOrEqual(12);
    for (const [name, { lateSeconds, redeliveries }] of mine) {
      expect(redeliveries, name).toBe(0);
      expect(lateSeconds / SEEDS.length, name).toBeLessThan(best.get(name)!.lateSeconds / SEEDS.length + 60);
    }
  });
});

function expectAhead(mine: Totals, other: Totals): void {
  expect(mine.lateSeconds).toBeLessThan(other.lateSeconds);
  expect(mine.consumerSeconds).toBeLessThan(other.consumerSeconds);
  expect(mine.changes).toBeLessThan(other.changes);
  expect(mine.redeliveries).toBeLessThan(other.redeliveries);
}

describe('the simulator', () => {
  test('a seed decides everything', () => {
    const shape = 'bursty';
    expect(runOne(shapeNamed(shape), ours, 5)).toEqual(runOne(shapeNamed(shape), ours, 5));
    expect(runOne(shapeNamed(shape), ours, 5)).not.toEqual(runOne(shapeNamed(shape), ours, 6));
  });

  test('everyone gets the same arrivals', () => {
    const arrived = [ours, hpa(10), keda(10)].map((each) => runOne(shapeNamed('steady'), each, 9).arrived);
    expect(new Set(arrived).size).toBe(1);
  });

  test('no message is lost: what arrived is settled or there', () => {
    for (const shape of loadShapes()) {
      let missing = 0;
      const totals = runOne(shape, hpa(30), 3, (_second, world) => {
        const { appendedTotal, ackedTotal, messages } = world.backlog();
        missing = Math.max(missing, Math.abs(appendedTotal - ackedTotal - messages));
      });
      expect(totals.arrived, shape.name).toBeGreaterThan(0);
      // The admin API's counts are rounded to whole messages.
      expect(missing, shape.name).toBeLessThan(3);
    }
  });
});

describe('the baselines do what their documentation says', () => {
  const at = (second: number, replicas: number, messages: number | undefined): Observed => ({
    second,
    replicas,
    ready: replicas,
    metric: () =>
      messages === undefined
        ? undefined
        : {
            messages,
            outstandingMessages: 0,
            consumers: replicas,
            appendedTotal: 0,
            ackedTotal: 0,
            redeliveredTotal: 0,
            measureTimeMs: second * 1000,
          },
  });
  const options = { targetPerPod: 100, minReplicas: 1, maxReplicas: 50 };

  test('HPA: ceil(metric / target), every 15 s, a tenth tolerated, at most twice or 4 more', () => {
    expect(new Hpa(options).decide(at(15, 8, 1001))).toBe(11);
    expect(new Hpa(options).decide(at(16, 8, 1001))).toBe(8);
    expect(new Hpa(options).decide(at(15, 10, 1090))).toBe(10);
    expect(new Hpa(options).decide(at(15, 10, 910))).toBe(10);
    expect(new Hpa(options).decide(at(15, 1, 5000))).toBe(5);
    expect(new Hpa(options).decide(at(15, 10, 5000))).toBe(20);
    expect(new Hpa(options).decide(at(15, 0, 5000))).toBe(0);
    expect(new Hpa(options).decide(at(15, 7, undefined))).toBe(7);
  });

  test('HPA: down to the highest recommendation of 300 s', () => {
    const hpa = new Hpa(options);
    expect(hpa.decide(at(0, 10, 1000))).toBe(10);
    for (let second = 15; second < 300; second += 15) expect(hpa.decide(at(second, 10, 200))).toBe(10);
    expect(hpa.decide(at(300, 10, 200))).toBe(2);
  });

  test('KEDA: 0 to 1 at a poll every 30 s, to 0 after 300 s without work', () => {
    const keda = new Keda(options);
    expect(keda.decide(at(20, 0, 5))).toBe(0);
    expect(keda.decide(at(37, 0, 5))).toBe(1);
    for (let second = 38; second <= 337; second += 1) expect(keda.decide(at(second, 1, 0))).toBe(1);
    expect(keda.decide(at(367, 1, 0))).toBe(0);
  });
});
