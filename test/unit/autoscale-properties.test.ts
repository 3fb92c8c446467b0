// What holds of decide() whatever happens. A life is any sequence of loads, outages, restarts, and pods that
// are slow to come.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decide, STALE_MS } from '../../operator/core/autoscale/decide.ts';
import type { Decision } from '../../operator/core/autoscale/decision.ts';
import type { AutoscaleInputs } from '../../operator/core/autoscale/inputs.ts';
import { depthNeed, drainNeed, type Work } from '../../operator/core/autoscale/need.ts';
import type { Load } from '../../operator/core/autoscale/rates.ts';
import { type ScaleSettings, scaleSpec } from '../../operator/core/autoscale/spec.ts';
import type { AutoscaleState } from '../../operator/core/autoscale/state.ts';
import { KNOWN, type Moment, Story } from '../support/autoscale-story.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';

const amount = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 0, max: 50 }),
  fc.integer({ min: 0, max: 100_000 }),
);

const moments: fc.Arbitrary<Moment> = fc
  .record({
    arriving: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5000 })),
    acked: fc.integer({ min: 0, max: 5000 }),
    messages: amount,
    share: fc.double({ min: 0, max: 1, noNaN: true }),
    oldestAgeMs: fc.integer({ min: 0, max: 600_000 }),
    silent: fc.boolean(),
    ready: fc.integer({ min: 0, max: 30 }),
    activeKeys: fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined }),
    ordered: fc.boolean(),
    budgetReplicas: fc.option(fc.integer({ min: 1, max: 40 }), { nil: undefined }),
  })
  .map(({ share, activeKeys, ordered, budgetReplicas, ...moment }) => ({
    ...moment,
    outstanding: Math.floor(moment.messages * share),
    inputs: { activeKeys, ordered, budgetReplicas },
  }));

const rules = fc.record({
  stabilizationWindowSeconds: fc.integer({ min: 0, max: 600 }),
  selectPolicy: fc.constantFrom('Max' as const, 'Min' as const, 'Disabled' as const),
});

const settings: fc.Arbitrary<ScaleSettings> = fc.record({
  minReplicas: fc.integer({ min: 0, max: 5 }),
  maxReplicas: fc.integer({ min: 5, max: 30 }),
  mode: fc.constantFrom('Drain' as const, 'Depth' as const, 'Max' as const),
  targetBacklogPerReplica: fc.option(fc.integer({ min: 1, max: 1000 }), { nil: undefined }),
  maxOldestAgeSeconds: fc.option(fc.integer({ min: 1, max: 300 }), { nil: undefined }),
  expectedProcessingMillis: fc.option(fc.integer({ min: 1, max: 10_000 }), { nil: undefined }),
  cooldownSeconds: fc.integer({ min: 0, max: 600 }),
  activationRate: fc.integer({ min: 0, max: 10 }),
  alignToPartitions: fc.boolean(),
  behavior: fc.record({ scaleUp: rules, scaleDown: rules }),
});

const life = fc.array(fc.record({ seconds: fc.integer({ min: 5, max: 200 }), moment: moments }), {
  maxLength: 12,
});

/** Every decision of a life, with what it was made from. */
function live(
  given: ScaleSettings,
  replicas: number,
  parts: readonly { readonly seconds: number; readonly moment: Moment }[],
  check: (now: Decision, before: number, moment: Moment, story: Story) => void,
): void {
  const story = new Story(given, replicas);
  for (const { seconds, moment } of parts) {
    for (let passed = 0; passed < seconds; passed += 5) {
      const before = story.replicas;
      check(story.step(moment), before, moment, story);
    }
  }
}

const replicas = fc.integer({ min: 0, max: 35 });

describe('whatever happens', () => {
  test('replicas are whole and within the bounds', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(settings, replicas, life, (given, first, parts) => {
        live(given, first, parts, ({ desired, recommended }, _before, _moment, { spec }) => {
          expect(Number.isInteger(desired)).toBe(true);
          expect(desired).toBe(recommended);
          expect(desired).toBeGreaterThanOrEqual(spec.minReplicas);
          expect(desired).toBeLessThanOrEqual(spec.maxReplicas);
        });
      }),
      cases(150),
    );
  });

  test('zero only when drained and idle for the cooldown', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(settings, replicas, life, (given, first, parts) => {
        let busyMs = 0;
        let heardMs = 0;
        live(given, first, parts, ({ desired, state }, before, moment, { spec, nowMs }) => {
          if (!moment.silent) heardMs = nowMs;
          const busy = (moment.messages ?? 0) > 0 || (moment.arriving ?? 0) > spec.activationRate;
          if (busy && !moment.silent) busyMs = nowMs;
          if (before === 0 || desired > 0) return;
          expect(nowMs - heardMs).toBeLessThanOrEqual(15_000);
          expect(busyMs).toBeLessThan(heardMs);
          expect(nowMs - Math.max(busyMs, state.startedMs)).toBeGreaterThanOrEqual(
            spec.cooldownSeconds * 1000,
          );
        });
      }),
      cases(150),
    );
  });

  test('unknown or stale: no change, save for the bounds', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(settings, replicas, life, (given, first, parts) => {
        let heardMs = Number.NEGATIVE_INFINITY;
        live(given, first, parts, ({ desired, condition }, before, { silent }, { spec, nowMs }) => {
          if (!silent) heardMs = nowMs;
          if (nowMs - heardMs <= STALE_MS) return;
          expect(desired).toBe(Math.min(spec.maxReplicas, Math.max(spec.minReplicas, before)));
          expect(condition).toMatchObject({ status: 'Unknown', reason: 'MetricsUnavailable' });
        });
      }),
      cases(100),
    );
  });

  test('no down within the window after an up, save for bounds and caps', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(settings, replicas, life, (given, first, parts) => {
        let upMs = Number.NEGATIVE_INFINITY;
        const uncapped = parts.map(({ seconds, moment }) => ({ seconds, moment: { ...moment, inputs: {} } }));
        live(
          { ...given, cooldownSeconds: 100_000 },
          first,
          uncapped,
          (now, before, _moment, { spec, nowMs }) => {
            if (now.desired > before && now.reason !== 'Bounds') upMs = nowMs;
            // A cap holds also where something else is the reason for the number that is given.
            const isCapped = now.state.guard.holding !== undefined;
            if (now.desired >= before || before > spec.maxReplicas || isCapped) return;
            expect(nowMs - upMs).toBeGreaterThanOrEqual(
              spec.behavior.scaleDown.stabilizationWindowSeconds * 1000,
            );
          },
        );
      }),
      cases(150),
    );
  });

  test('the state survives JSON, and the same input gives the same decision', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(settings, replicas, life, (given, first, parts) => {
        let before: AutoscaleState | undefined;
        live(given, first, parts, ({ state, opinions }, _before, _moment, story) => {
          expect(JSON.parse(JSON.stringify(story.state))).toEqual(story.state);
          expect(JSON.stringify(state).length).toBeLessThan(40_000);
          for (const { says } of opinions) expect(says).not.toMatch(/NaN|undefined|Infinity/);
          before = state;
        });
        expect(parts.length === 0 || before !== undefined).toBe(true);
      }),
      cases(100),
    );
  });
});

describe('the need rises with the work', () => {
  const works = fc.record({
    backlog: fc.integer({ min: 0, max: 1_000_000 }),
    held: fc.integer({ min: 0, max: 10_000 }),
    rateUp: fc.double({ min: 0, max: 100_000, noNaN: true }),
    rateDown: fc.double({ min: 0, max: 100_000, noNaN: true }),
  });
  const more = fc.record({
    backlog: fc.integer({ min: 0, max: 1_000_000 }),
    rate: fc.double({ min: 0, max: 100_000, noNaN: true }),
  });
  const pods = fc.record({
    rate: fc.double({ min: 0.01, max: 10_000, noNaN: true }),
    ready: fc.integer({ min: 0, max: 100 }),
    startupMs: fc.integer({ min: 0, max: 300_000 }),
  });
  const spec = scaleSpec({ maxReplicas: 100, targetBacklogPerReplica: 100 });

  test('of each rule', () => {
    fc.assert(
      fc.property(works, more, pods, (less, by, { rate, ready, startupMs }) => {
        const greater: Work = {
          ...less,
          backlog: less.backlog + by.backlog,
          rateUp: less.rateUp + by.rate,
          rateDown: less.rateDown + by.rate,
        };
        const low = drainNeed(spec, less, rate, ready, startupMs);
        const high = drainNeed(spec, greater, rate, ready, startupMs);
        expect(high.up).toBeGreaterThanOrEqual(low.up - 1e-6);
        expect(depthNeed(spec, greater)!).toBeGreaterThanOrEqual(depthNeed(spec, less)!);
        const deeper = drainNeed(spec, { ...less, backlog: greater.backlog }, rate, ready, startupMs);
        expect(deeper.down).toBeGreaterThanOrEqual(low.down - 1e-6);
      }),
      cases(2000),
    );
  });

  test('of the whole decision, from one and the same state', () => {
    const loads = fc.record({
      messages: fc.integer({ min: 0, max: 100_000 }),
      outstanding: fc.integer({ min: 0, max: 100 }),
      rate: fc.double({ min: 0, max: 5000, noNaN: true }),
    });
    fc.assert(
      fc.property(
        loads,
        more,
        fc.integer({ min: 1, max: 30 }),
        ({ messages, outstanding, rate }, by, current) => {
          const need = (waiting: number, arriving: number): number => {
            const load: Load = {
              receivedAtMs: 1_000_000,
              messages: waiting + outstanding,
              outstanding,
              consumers: current,
              settledTotal: 0,
              arrivalNow: arriving,
              arrivalFast: arriving,
              arrivalSlow: arriving,
              ackRate: arriving,
            };
            const inputs: AutoscaleInputs = {
              currentReplicas: current,
              readyReplicas: current,
              load,
              partitions: 4,
              ordered: false,
            };
            return decide(scaleSpec({ ...KNOWN, maxReplicas: 100 }), undefined, inputs, 1_000_000).need!;
          };
          const base = need(messages, rate);
          expect(need(messages + by.backlog, rate)).toBeGreaterThanOrEqual(base);
          expect(need(messages, rate + by.rate)).toBeGreaterThanOrEqual(base);
        },
      ),
      cases(1000),
    );
  });
});

describe('at a steady load', () => {
  test('it settles and does not flap', { timeout: TIMEOUT_MS }, () => {
    fc.assert(
      fc.property(
        fc.double({ min: 1, max: 3000, noNaN: true }),
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 50, max: 100 }),
        (rate, first, targetUtilizationPercent) => {
          const story = new Story({ ...KNOWN, targetUtilizationPercent, maxReplicas: 64 }, first);
          // What is above 100/s a replica waits; in the end all is served.
          let waiting = 0;
          const step = () => {
            const able = story.replicas * 100;
            const acked = Math.min(able, rate + waiting / 5);
            waiting = Math.max(0, waiting + (rate - acked) * 5);
            const held = Math.min(story.replicas * 20, Math.ceil(waiting));
            story.step({ arriving: rate, acked, messages: Math.ceil(waiting), outstanding: held });
          };
          for (let i = 0; i < 400; i += 1) step();
          story.changes.length = 0;
          for (let i = 0; i < 400; i += 1) step();
          expect(story.changes).toEqual([]);
        },
      ),
      cases(60),
    );
  });
});
