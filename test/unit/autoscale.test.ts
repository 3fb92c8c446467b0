// decide() in stories: what the load asks for, what keeps it from that, and what it says.
import { describe, expect, test } from 'vitest';
import type { Consumers } from '../../operator/api/v1alpha1/consumers.ts';
import { capacityFrom, learnedFrom } from '../../operator/core/autoscale/capacity.ts';
import { SLOTS_PER_PARTITION } from '../../operator/core/autoscale/caps.ts';
import { type ScaleSettings, scaleSpec } from '../../operator/core/autoscale/spec.ts';
import { initialState } from '../../operator/core/autoscale/state.ts';
import { SLOTS } from '../../services/broker/core/key-slots.ts';
import { KNOWN, Story } from '../support/autoscale-story.ts';

const opinion = (story: Story, rule: string) => story.last!.opinions.find((each) => each.rule === rule);

describe('what the load asks for', () => {
  test('replicas for the rate, at the target utilization', () => {
    const story = new Story({ ...KNOWN, targetUtilizationPercent: 50 }, 3);
    expect(story.during(60, { arriving: 200 })).toMatchObject({ desired: 4, reason: 'Steady' });
    expect(story.changes).toEqual(['10:3>4']);
  });

  test('more of them to drain a backlog in half the drain time', () => {
    const story = new Story({ ...KNOWN, drainTimeSeconds: 60 }, 4);
    // 100/s arrive, and 12,000 are to be drained in 30 s: all but what is under way anyway.
    story.during(10, { arriving: 100, messages: 12_500, outstanding: 40 });
    expect(story.last!.need).toBe(5);
  });

  test('messages that consumers hold are not waiting for more of them', () => {
    const story = new Story(KNOWN, 2);
    expect(story.during(60, { arriving: 100, messages: 6000, outstanding: 6000 })).toMatchObject({
      desired: 2,
    });
  });

  test('by depth, and by whichever is more', () => {
    const depth = new Story({ ...KNOWN, mode: 'Depth', targetBacklogPerReplica: 100 });
    depth.during(60, { arriving: 100, messages: 700, outstanding: 700 });
    expect(depth.last).toMatchObject({ desired: 7, need: 7 });
    expect(depth.changes[0]).toBe('10:1>5');
    const both = new Story({ ...KNOWN, targetBacklogPerReplica: 100 });
    expect(both.spec.mode).toBe('Max');
    both.during(60, { arriving: 1000, messages: 700, outstanding: 700 });
    expect(both.last).toMatchObject({ desired: 10, need: 10 });
  });

  test('what a replica can do is measured while all are busy, and again when they get slower', () => {
    const story = new Story({}, 2);
    story.during(60, { arriving: 100, acked: 80, messages: 5000, outstanding: 40, ready: 2 });
    expect(story.state!.capacity.perReplicaRate).toBeCloseTo(40, 0);
    story.replicas = 2;
    story.during(300, { arriving: 100, acked: 20, messages: 5000, outstanding: 40, ready: 2 });
    expect(story.state!.capacity.perReplicaRate).toBeCloseTo(10, 0);
  });

  test('an idle replica says nothing about what it could do, except that it can do as much', () => {
    const story = new Story(KNOWN, 2);
    story.during(120, { arriving: 20 });
    expect(story.state!.capacity.perReplicaRate).toBeUndefined();
    expect(opinion(story, 'drain-up')!.says).toContain('100/s expected');
  });

  test('as long as nothing is known, fewer are tried when they are not busy', () => {
    const story = new Story({}, 8);
    story.during(600, { arriving: 20 });
    expect(story.replicas).toBeLessThan(8);
    expect(story.replicas).toBeGreaterThanOrEqual(1);
  });

  test('an oldest message over the limit adds replicas while they are busy', () => {
    const settings = { ...KNOWN, maxOldestAgeSeconds: 30, drainTimeSeconds: 3600 };
    const story = new Story(settings, 4);
    const slow = {
      arriving: 300,
      acked: 300,
      messages: 2000,
      outstanding: 80,
      oldestAgeMs: 40_000,
      ready: 4,
    };
    story.during(10, slow);
    expect(story.last).toMatchObject({ desired: 5, reason: 'OldestAge' });
    expect(opinion(story, 'oldest-age')).toMatchObject({ replicas: 5 });
  });

  test('an old message that no consumer can take is no reason for more', () => {
    const story = new Story({ ...KNOWN, maxOldestAgeSeconds: 30 }, 4);
    story.during(60, { arriving: 300, messages: 100, outstanding: 80, ready: 4 });
    story.changes.length = 0;
    story.during(120, { arriving: 150, messages: 3, outstanding: 2, oldestAgeMs: 90_000 });
    expect(story.changes).toEqual([]);
    expect(opinion(story, 'oldest-age')!.says).toContain('not busy');
  });
});

test('a partition has as many slots of keys as in the broker', () => {
  expect(SLOTS_PER_PARTITION).toBe(SLOTS);
});

describe('what keeps it from that', () => {
  test('minReplicas and maxReplicas, at once', () => {
    const story = new Story({ ...KNOWN, minReplicas: 2, maxReplicas: 5 }, 1);
    expect(story.during(5, {}).desired).toBe(2);
    story.during(120, { arriving: 5000 });
    expect(story.last).toMatchObject({ desired: 5, limitedBy: 'MaxReplicas' });
    expect(story.last!.condition).toMatchObject({ status: 'False', reason: 'AtMaxReplicas' });
    story.replicas = 9;
    expect(story.step({ arriving: 5000 })).toMatchObject({ desired: 5, reason: 'Bounds' });
  });

  test('what is needed is within the bounds too: KEDA is told it', () => {
    const story = new Story({ ...KNOWN, minReplicas: 2, maxReplicas: 5 }, 2);
    expect(story.during(600, {}).need).toBe(2);
    expect(story.during(60, { arriving: 5000 }).need).toBe(5);
  });

  test('useful parallelism: more consumers than ordering keys with work have nothing to do', () => {
    const story = new Story(KNOWN);
    const inputs = { ordered: true, activeKeys: 3 };
    expect(story.during(120, { arriving: 900, inputs })).toMatchObject({
      desired: 3,
      limitedBy: 'UsefulParallelism',
    });
  });

  test('a budget, and counts that share the partitions evenly', () => {
    const budget = new Story(KNOWN);
    expect(budget.during(120, { arriving: 900, inputs: { budgetReplicas: 4 } })).toMatchObject({
      desired: 4,
      limitedBy: 'Budget',
    });
    const aligned = new Story({ ...KNOWN, alignToPartitions: true });
    expect(aligned.during(120, { arriving: 480, inputs: { partitions: 12 } }).desired).toBe(6);
  });

  test('partitions that are not known bound nothing, and it is said', () => {
    const story = new Story({ ...KNOWN, maxReplicas: 600, alignToPartitions: true }, 300);
    const inputs = { partitions: undefined, ordered: true };
    expect(story.during(60, { arriving: 30_000, inputs })).toMatchObject({ desired: 300 });
    expect(opinion(story, 'align-to-partitions')!.says).toContain('not known');
    expect(opinion(story, 'useful-parallelism')).toBeUndefined();
    story.step({ arriving: 30_000, inputs: { ...inputs, activeKeys: 4 } });
    expect(opinion(story, 'useful-parallelism')).toMatchObject({ replicas: 4 });
    const known = new Story({ ...KNOWN, maxReplicas: 600 }, 250);
    known.during(60, { arriving: 60_000, inputs: { partitions: 1, ordered: true } });
    expect(known.last).toMatchObject({ desired: 256, limitedBy: 'UsefulParallelism' });
  });

  test('step limits: up by 4 or 100 % in 15 s, down by 50 % in a minute', () => {
    const story = new Story({
      ...KNOWN,
      maxReplicas: 64,
      behavior: { scaleDown: { stabilizationWindowSeconds: 0 } },
    });
    story.during(90, { arriving: 6000 });
    expect(story.changes).toEqual(['10:1>5', '25:5>10', '40:10>20', '55:20>40', '70:40>60']);
    story.changes.length = 0;
    story.during(1200, { arriving: 100 });
    const steps = story.changes.map((each) => each.split(':')[1]!.split('>').map(Number));
    for (const [from, to] of steps) expect(to).toBeGreaterThanOrEqual(Math.trunc(from! / 2));
    expect(story.replicas).toBeLessThan(3);
  });

  test('steps down: half of them, and the next half a minute later', () => {
    const story = new Story(
      { ...KNOWN, maxReplicas: 64, behavior: { scaleDown: { stabilizationWindowSeconds: 0 } } },
      32,
    );
    story.during(100, { arriving: 100 });
    expect(story.changes).toEqual(['10:32>16', '70:16>8']);
  });

  test('the window: down only when less was wanted all the time', () => {
    const story = new Story({ ...KNOWN, behavior: { scaleDown: { stabilizationWindowSeconds: 300 } } }, 9);
    story.during(60, { arriving: 900 });
    story.changes.length = 0;
    story.during(250, { arriving: 100 });
    expect(story.last).toMatchObject({ desired: 9, limitedBy: 'Stabilization' });
    story.during(400, { arriving: 100 });
    expect(story.replicas).toBeLessThan(4);
  });

  test('panic: nothing is taken away for a minute after twice of what is ready was needed', () => {
    const story = new Story({ ...KNOWN, behavior: { scaleDown: { stabilizationWindowSeconds: 0 } } }, 10);
    story.during(10, { arriving: 450, ready: 2 });
    expect(story.last).toMatchObject({ desired: 10, limitedBy: 'Panic' });
    story.during(55, { arriving: 450 });
    expect(story.replicas).toBe(10);
    story.during(30, { arriving: 450 });
    expect(story.replicas).toBe(5);
  });

  test('after a restart, present replicas count as proposed for one window', () => {
    const story = new Story({ ...KNOWN, behavior: { scaleDown: { stabilizationWindowSeconds: 300 } } }, 10);
    story.during(290, { arriving: 100 });
    expect(story.replicas).toBe(10);
    story.during(60, { arriving: 100 });
    expect(story.replicas).toBeLessThan(10);
  });

  test('tolerance: a tenth more or a fifth less changes nothing', () => {
    const story = new Story(KNOWN, 10);
    story.during(600, { arriving: 1080 });
    story.during(600, { arriving: 850 });
    expect(story.changes).toEqual([]);
  });
});

describe('guards', () => {
  const full = (replicas: number, acked: number) => ({
    arriving: 900,
    acked,
    messages: 50_000,
    outstanding: replicas * 20,
  });

  test('replicas that add nothing are taken away again, and ups are held', () => {
    const story = new Story({ ...KNOWN, maxReplicas: 40 }, 4);
    for (let i = 0; i < 30; i += 1) story.step(full(story.replicas, 400));
    expect(story.last!.limitedBy).toBe('DownstreamSaturated');
    expect(story.last!.condition).toMatchObject({ status: 'False', reason: 'DownstreamSaturated' });
    expect(opinion(story, 'downstream')).toMatchObject({ replicas: 4 });
    for (let i = 0; i < 24; i += 1) story.step(full(story.replicas, 400));
    expect(story.replicas).toBe(4);
    // Held for 5 min, then tried again, then for 10.
    for (let i = 0; i < 40; i += 1) story.step(full(story.replicas, 400));
    expect(story.state!.guard.holdMs).toBe(1_200_000);
  });

  test('replicas that add their share are no reason to hold', () => {
    const story = new Story({ ...KNOWN, maxReplicas: 40 }, 4);
    for (let i = 0; i < 30; i += 1) story.step(full(story.replicas, story.replicas * 100));
    expect(story.state!.guard.holding).toBeUndefined();
    expect(story.replicas).toBe(25);
  });

  test('messages that wait while replicas have time are blocked, and do not count', () => {
    const story = new Story(KNOWN, 4);
    // The replicas are busy once, so that it is known what a consumer holds.
    story.during(60, { arriving: 400, acked: 400, messages: 500, outstanding: 80, ready: 4 });
    const before = story.replicas;
    for (let stuck = 0; stuck < 40_000; stuck += 500) {
      story.step({ arriving: 300, acked: 200, messages: 1000 + stuck, outstanding: 10 });
    }
    expect(opinion(story, 'blocked-messages')!.says).toContain('poison');
    expect(story.replicas).toBeLessThanOrEqual(Math.max(before, 20));
    story.during(600, { arriving: 300, acked: 200, messages: 41_000, outstanding: 10 });
    expect(story.replicas).toBeLessThanOrEqual(4);
    // The partition is free again.
    story.during(30, { arriving: 300, acked: 400, messages: 41_000, outstanding: 80 * story.replicas });
    expect(story.last!.need).toBeGreaterThan(10);
  });
});

describe('zero', () => {
  const SLEEPY = { ...KNOWN, minReplicas: 0, cooldownSeconds: 300 };

  test('after the cooldown, by the steps that are allowed', () => {
    const story = new Story(SLEEPY, 4);
    story.during(295, {});
    expect(story.replicas).toBeGreaterThan(0);
    expect(story.last!.limitedBy).toBe('Cooldown');
    story.during(300, {});
    expect(story.changes.at(-1)).toMatch(/:1>0$/);
    expect(story.last).toMatchObject({ desired: 0, active: false });
    expect(story.last!.condition).toMatchObject({ status: 'True', reason: 'ScaledToZero' });
  });

  test('not on what was measured half a minute ago', () => {
    const story = new Story(SLEEPY, 1);
    story.during(275, {});
    story.during(60, { silent: true });
    expect(story.replicas).toBe(1);
    story.during(400, {});
    expect(story.replicas).toBe(0);
  });

  test('not while a message is there, outstanding ones included', () => {
    const story = new Story(SLEEPY, 1);
    story.during(1200, { messages: 1, outstanding: 1 });
    expect(story.replicas).toBe(1);
  });

  test('woken by the first message, before any rate is known, and by as many as the backlog needs', () => {
    const story = new Story(SLEEPY, 0);
    expect(story.step({ messages: 1 })).toMatchObject({ desired: 1, reason: 'Woken' });
    const much = new Story(SLEEPY, 0);
    expect(much.step({ messages: 100_000 })).toMatchObject({
      desired: 4,
      reason: 'Woken',
      limitedBy: 'ScaleUpPolicy',
    });
  });

  test('stays at zero while idle', () => {
    const story = new Story(SLEEPY, 1);
    story.during(2000, {});
    story.changes.length = 0;
    story.during(2000, {});
    expect(story.changes).toEqual([]);
    expect(story.replicas).toBe(0);
  });

  test('a rate up to activationRate counts as idle as long as nothing waits', () => {
    const story = new Story({ ...SLEEPY, activationRate: 2 }, 1);
    story.during(600, { arriving: 1 });
    expect(story.replicas).toBe(0);
  });
});

describe('when the load is unknown', () => {
  test('nothing changes, and it says so', () => {
    const story = new Story({ ...KNOWN, minReplicas: 0 }, 7);
    story.during(3600, { silent: true });
    expect(story.changes).toEqual([]);
    expect(story.last).toMatchObject({
      reason: 'MetricsUnavailable',
      limitedBy: 'StaleMetrics',
      need: undefined,
    });
    expect(story.last!.condition).toMatchObject({ status: 'Unknown', reason: 'MetricsUnavailable' });
  });

  test('a measurement that has become old is no reason to go down', () => {
    const story = new Story(
      { ...KNOWN, minReplicas: 0, behavior: { scaleDown: { stabilizationWindowSeconds: 120 } } },
      9,
    );
    story.during(60, { arriving: 100 });
    story.during(1200, { silent: true });
    expect(story.changes).toEqual([]);
  });

  test('an outage is no time in which less was needed', () => {
    const story = new Story(KNOWN, 9);
    story.during(60, { arriving: 900 });
    story.during(900, { silent: true });
    expect(story.replicas).toBe(9);
    story.during(170, { arriving: 100 });
    expect(story.replicas).toBe(9);
  });

  test.each([
    ['static', 3, 3],
    ['currentReplicas', 3, 7],
    ['currentReplicasIfHigher', 3, 7],
    ['currentReplicasIfHigher', 9, 9],
    ['currentReplicasIfLower', 3, 3],
    ['currentReplicasIfLower', 9, 7],
  ] as const)('the fallback %s of %i makes 7 into %i', (behavior, replicas, expected) => {
    const story = new Story({ ...KNOWN, fallback: { behavior, replicas, failureThreshold: 4 } }, 7);
    story.during(55, { silent: true });
    expect(story.replicas).toBe(7);
    story.during(200, { silent: true });
    expect(story.replicas).toBe(expected);
  });

  test('the fallback also lifts from zero', () => {
    const story = new Story({ ...KNOWN, minReplicas: 0, fallback: { replicas: 2 } }, 0);
    expect(story.during(120, { silent: true }).desired).toBe(2);
  });

  test('one measurement alone has no rates', () => {
    const story = new Story(KNOWN, 3);
    expect(story.step({ arriving: 5000, messages: 9000 })).toMatchObject({
      desired: 3,
      reason: 'MetricsUnavailable',
    });
  });
});

describe('explaining', () => {
  test('dryRun decides and changes nothing', () => {
    const story = new Story({ ...KNOWN, dryRun: true }, 2);
    story.during(60, { arriving: 900 });
    expect(story.last).toMatchObject({ desired: 2, recommended: 6, reason: 'DryRun' });
    expect(story.changes).toEqual([]);
  });

  test('since when, and every rule has its say', () => {
    const story = new Story(KNOWN, 2);
    story.during(10, { arriving: 250 });
    const since = story.last!.sinceMs;
    story.during(100, { arriving: 250 });
    expect(story.last).toMatchObject({ desired: 3, sinceMs: since });
    expect(story.last!.opinions.map(({ rule }) => rule)).toEqual(
      expect.arrayContaining(['drain-up', 'drain-down', 'depth', 'oldest-age', 'idle']),
    );
    expect(opinion(story, 'drain-up')).toMatchObject({ replicas: 3 });
  });

  test('the state is JSON, and what was learned can be kept over a restart', () => {
    const story = new Story({}, 2);
    story.during(60, { arriving: 100, acked: 80, messages: 5000, outstanding: 40, ready: 2 });
    const capacity = capacityFrom(learnedFrom(story.state!.capacity));
    const kept = initialState(2, story.nowMs, { capacity });
    expect(kept.capacity.perReplicaRate).toBeCloseTo(40, 0);
    expect(kept.highest).toEqual([{ atMs: story.nowMs, replicas: 2 }]);
  });

  test('a Subscription’s consumers block is taken as it is', () => {
    const block: Consumers = {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'workers' },
      strategy: 'Internal',
      minReplicas: 0,
      maxReplicas: 9,
      drainTimeSeconds: 60,
      targetUtilizationPercent: 80,
      activationRate: 0,
      cooldownSeconds: 300,
      alignToPartitions: false,
      dryRun: false,
      drain: { enabled: true, timeoutSeconds: 60 },
      behavior: { scaleDown: { stabilizationWindowSeconds: 60 } },
      fallback: { failureThreshold: 3, behavior: 'static' },
    };
    const settings: ScaleSettings = block;
    const spec = scaleSpec(settings);
    expect(spec).toMatchObject({
      mode: 'Drain',
      maxReplicas: 9,
      fallback: { replicas: 1, behavior: 'static' },
    });
    expect(spec.behavior.scaleDown).toEqual({
      stabilizationWindowSeconds: 60,
      policies: [{ type: 'Percent', value: 50, periodSeconds: 60 }],
      selectPolicy: 'Max',
    });
    expect(spec).toMatchObject(scaleSpec({ ...spec, behavior: block.behavior }));
  });

  test('a specification with a minimum above its maximum is made consistent', () => {
    expect(scaleSpec({ minReplicas: 9, maxReplicas: 4 })).toMatchObject({ minReplicas: 4, maxReplicas: 4 });
  });
});
