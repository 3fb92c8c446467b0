// The lease as a member sees it, what it does when the store fails it, and the coordinator's duty, on virtual
// time.
import { describe, expect, test } from 'vitest';
import { decodeAssignment, loadsOf } from '../../services/broker/core/assignment.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { MAX_RECENT_MOVES } from '../../services/broker/engine/membership/cluster-moves.ts';
import { eligibleMembers } from '../../services/broker/engine/membership/coordinator.ts';
import { MemberLease } from '../../services/broker/engine/membership/member-lease.ts';
import { MembershipKeeper } from '../../services/broker/engine/membership/membership-keeper.ts';
import type { Member } from '../../services/broker/ports/membership-store.ts';
import { through } from '../support/carried-store.ts';
import { CLUSTER, KeeperRig, LEASE_MS } from '../support/keeper-rig.ts';
import { CLUSTER_SLOT } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const TOPICS = [{ logEpoch: 1, partitions: 12 }];

async function openRig(...names: string[]) {
  const rig = new KeeperRig(TOPICS);
  const members = await rig.open(...names);
  await rig.converge();
  return { rig, members, a: members[0]!, b: members[1]!, c: members[2]! };
}

describe('the lease', () => {
  test('is renewed all the time, also by a slow or fast clock', async () => {
    const rig = new KeeperRig(TOPICS);
    await rig.open();
    const slow = rig.begin('slow', 0.98);
    const fast = rig.begin('fast', 1.02);
    await rig.resolved(Promise.all([slow.started, fast.started]));
    for (let i = 0; i < 100; i += 1) {
      await rig.clock.advance(100);
      expect(slow.membership.holds && fast.membership.holds).toBe(true);
    }
    expect(slow.membership.fencedTimes + fast.membership.fencedTimes).toBe(0);
  });

  test('ends here before it ends in the store, whatever the latency and the clock', async () => {
    for (const rate of [0.98, 1, 1.02]) {
      for (const latencyMs of [0.2, 100, 400]) {
        const { rig } = await openRig('a');
        const store = rig.cluster.memory.open('x').membership;
        const heartbeat = store.heartbeat.bind(store);
        let endsInStoreMs = 0;
        store.heartbeat = (identity, member, leaseMs) => {
          if (member.name === 'b') endsInStoreMs = rig.clock.monotonicMs() + leaseMs;
          return heartbeat(identity, member, leaseMs);
        };
        const b = rig.begin('b', rate, latencyMs);
        await rig.resolved(b.started);
        await rig.clock.advance(5_234);
        const { fencedTimes } = b.membership;
        b.connection.faults.cut = true;
        await rig.clock.runUntil(() => b.membership.fencedTimes === fencedTimes + 1, LEASE_MS);
        expect(b.host.owned.size).toBe(0);
        expect(rig.clock.monotonicMs()).toBeLessThan(endsInStoreMs);
      }
    }
  });

  test('a wall clock that jumps ahead puts it in doubt until the store says whether anybody has missed it', async () => {
    const clock = new VirtualClock();
    const ended: string[] = [];
    const lease = new MemberLease(clock, LEASE_MS, (reason) => ended.push(reason));
    expect(lease.renewed(clock.monotonicMs(), clock.nowMs(), false)).toBe(true);
    // Set, or suspended: by the monotonic clock no time has passed.
    clock.jumpWallClock(3_600_000);
    expect(lease.holds).toBe(false);
    expect(lease.renewed(clock.monotonicMs(), clock.nowMs(), false)).toBe(false);
    expect([lease.holds, ended]).toEqual([true, []]);
    clock.jumpWallClock(3_600_000);
    expect(lease.renewed(clock.monotonicMs(), clock.nowMs(), true)).toBe(true);
    expect(ended).toEqual(['the lease had ended in the store: was this machine suspended?']);
    expect(lease.holds).toBe(true);
    clock.jumpWallClock(-7_200_000);
    expect(lease.holds).toBe(true);
    await clock.advance(LEASE_MS);
    expect(lease.holds).toBe(false);
    expect(ended.at(-1)).toContain('did not answer in time');
  });

  test('a machine that was suspended between a heartbeat and its answer relies on the next one', () => {
    const clock = new VirtualClock();
    const lease = new MemberLease(clock, LEASE_MS, () => {});
    const sent = [clock.monotonicMs(), clock.nowMs()] as const;
    clock.jumpWallClock(LEASE_MS);
    expect(lease.renewed(...sent, false)).toBe(true);
    expect(lease.holds).toBe(false);
    lease.renewed(clock.monotonicMs(), clock.nowMs(), true);
    expect(lease.holds).toBe(true);
    lease.stop();
  });

  test('one that was renewed too late was lost in between, also if no timer has said so', () => {
    const time = { ms: 0 };
    const clock = { nowMs: () => 0, monotonicMs: () => time.ms, setTimer: () => () => {}, defer: () => {} };
    const ended: string[] = [];
    const lease = new MemberLease(clock, LEASE_MS, (reason) => ended.push(reason));
    expect(lease.renewed(0, 0, false)).toBe(true);
    time.ms = 1_000;
    expect(lease.renewed(900, 0, false)).toBe(false);
    time.ms = 5_000;
    expect(lease.holds).toBe(false);
    expect(lease.renewed(4_900, 0, false)).toBe(true);
    expect(ended).toEqual(['the lease ran out before it was renewed']);
    expect(lease.holds).toBe(true);
  });

  test('answers that take longer than it lasts never give one', async () => {
    const { rig } = await openRig('a');
    const slow = rig.begin('slow', 1, 950);
    await expect(rig.resolved(slow.started)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  test('a few lost heartbeats do no harm', async () => {
    const { rig, a } = await openRig('a');
    a.connection.faults.cut = true;
    await rig.clock.advance(1_300);
    a.connection.faults.cut = false;
    await rig.clock.advance(5_000);
    expect(a.membership.fencedTimes).toBe(0);
    expect(a.logged.filter((line) => line.includes('heartbeat'))).toEqual([
      'a heartbeat failed: this broker serves on while its lease lasts',
      'the store answers heartbeats again',
    ]);
  });

  test('a store that hangs gathers no heartbeats, and what comes late of them says nothing new', async () => {
    const { rig } = await openRig('a');
    const hanging: (() => void)[] = [];
    let hangs = false;
    const { membership: store, signals } = rig.cluster.memory.open('b');
    const member = new MembershipKeeper({
      ...{ signals, clock: rig.clock, identity: CLUSTER, leaseMs: LEASE_MS, topics: rig.topics.source() },
      logger: { info: () => {}, warn: () => {}, error: () => {} },
      self: {
        ...{ id: 'b', name: 'b', version: 'test', address: () => 'b:7443' },
        load: () => ({ partitions: 0, consumers: 0, publishedPerSecond: 0, deliveredPerSecond: 0 }),
      },
      store: through(store, async (call, name) => {
        const answer = await call();
        if (hangs && name === 'heartbeat') await new Promise<void>((resolve) => hanging.push(resolve));
        return answer;
      }),
    });
    await rig.resolved(member.start());
    hangs = true;
    await rig.clock.advance(60_000);
    expect(hanging).toHaveLength(3);
    expect(member.holds).toBe(false);
    hangs = false;
    const [oldest, ...others] = hanging;
    for (const answer of others) answer();
    await rig.clock.runUntil(() => member.holds, LEASE_MS);
    await rig.join('c');
    await rig.clock.advance(LEASE_MS);
    const seen: number[] = [];
    member.listen({ changed: () => seen.push(member.view!.members.length) });
    oldest!();
    await rig.clock.settle();
    expect([seen, member.view!.members.length]).toEqual([[], 3]);
    await rig.resolved(member.stop());
  });

  test('the store is away for a minute: fenced once, tried all the time, and back soon after', async () => {
    const { rig, a } = await openRig('a');
    a.connection.faults.cut = true;
    await rig.clock.advance(60_000);
    expect(a.membership.holds).toBe(false);
    expect(a.logged.length).toBeLessThan(40);
    a.connection.faults.cut = false;
    expect(await rig.converge()).toBeLessThan(1_500);
    expect(a.membership.fencedTimes).toBe(1);
  });
});

describe('joining', () => {
  test('a store that holds another cluster, or none, is refused at once', async () => {
    const rig = new KeeperRig(TOPICS);
    const early = rig.begin('a');
    await expect(rig.resolved(early.started)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(rig.clock.monotonicMs()).toBeLessThan(100);
    await rig.resolved(rig.stopping(early));
  });

  test('a name that another living broker has is refused, in words that help', async () => {
    const { rig } = await openRig('a');
    const twin = rig.begin('a');
    await expect(rig.resolved(twin.started)).rejects.toMatchObject({
      code: 'ABORTED',
      message: 'another broker named a is alive: stop it, or give this one another --name',
    });
  });

  test('stopped while it tries: gives up', async () => {
    const rig = new KeeperRig(TOPICS);
    await rig.open();
    const member = rig.begin('a');
    member.connection.faults.cut = true;
    await rig.clock.advance(500);
    const stopped = member.membership.stop();
    await expect(rig.resolved(member.started)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await rig.resolved(stopped);
  });

  test('a heartbeat that is still under way does not bring back who has left', async () => {
    const { rig, a, b } = await openRig('a', 'b');
    const store = rig.cluster.memory.open('x').membership;
    const heartbeat = store.heartbeat.bind(store);
    store.heartbeat = async (identity, member, leaseMs) => {
      if (member.name === 'b') await new Promise<void>((resolve) => rig.clock.setTimer(300, resolve));
      return heartbeat(identity, member, leaseMs);
    };
    b.membership.refresh();
    await rig.clock.advance(1);
    await rig.resolved(b.membership.stop());
    await rig.clock.advance(1_000);
    expect(a.membership.view!.members.map(({ name }) => name)).toEqual(['a']);
  });

  test('who has left is out of the others’ view at once', async () => {
    const { rig, a, b } = await openRig('a', 'b');
    await rig.stop(b);
    await rig.clock.advance(5);
    expect(a.membership.view!.members.map(({ name }) => name)).toEqual(['a']);
    await rig.stop(a);
    await rig.stop(a);
  });
});

test('the store comes back empty: nothing is served, the log says what to do, and it is noticed when all is well', async () => {
  const { rig, a } = await openRig('a');
  // The store itself, which all members share behind their connections.
  const store = rig.cluster.memory.open('x').membership;
  const { heartbeat } = store;
  store.heartbeat = async (identity) => {
    throw new BrokerError('FAILED_PRECONDITION', `the store holds no cluster, not ${identity}`);
  };
  await rig.clock.advance(1_000);
  expect(a.membership.holds).toBe(false);
  expect(a.host.owned.size).toBe(0);
  expect(a.logged.filter((line) => line.includes('--init-cluster'))).toHaveLength(1);
  store.heartbeat = heartbeat;
  await rig.converge();
});

describe('the coordinator', () => {
  test('several that join together are one assignment; who leaves is noticed at once', async () => {
    const { rig, a } = await openRig('a');
    const { storedVersion } = a.membership.known;
    for (const name of ['b', 'c', 'd']) {
      rig.begin(name);
      await rig.clock.advance(20);
    }
    await rig.converge();
    expect(a.membership.known.storedVersion).toBe(storedVersion + 1);
    const leaver = rig.members.get('c')!;
    const stopping = rig.stopping(leaver);
    await rig.clock.runUntil(() => a.membership.known.storedVersion === storedVersion + 2, 10);
    await rig.resolved(stopping);
  });

  test('is replaced when it dies, leaves or is paused; the term rises', async () => {
    const { rig, a, b, c } = await openRig('a', 'b', 'c');
    const coordinatorOf = () => c.membership.view!.coordinator;
    expect(coordinatorOf()).toEqual({ id: a.id, term: 1 });
    await rig.stop(a);
    await rig.clock.runUntil(() => coordinatorOf().term === 2, 1_000);
    const second = coordinatorOf().id === b.id ? b : c;
    const third = second === b ? c : b;
    second.connection.clock.pause();
    await rig.clock.runUntil(() => third.membership.view!.coordinator.id === third.id, 3_000);
    expect(third.membership.view!.coordinator.term).toBe(3);
    second.connection.clock.resume();
    await rig.converge();
    expect(second.membership.view!.coordinator.term).toBe(3);
  });

  test('a write of unknown outcome is looked up, not repeated', async () => {
    const { rig, a } = await openRig('a');
    a.connection.faults.loseAnswers = 1;
    const { storedVersion } = a.membership.known;
    rig.topics.change([...TOPICS, { logEpoch: 2, partitions: 3 }]);
    await rig.clock.advance(5);
    a.connection.faults.loseAnswers = 0;
    await rig.converge();
    expect(a.membership.known.storedVersion).toBe(storedVersion + 1);
  });

  test('does nothing while nothing changes', async () => {
    const { rig, a, b } = await openRig('a', 'b');
    const { storedVersion } = b.membership.known;
    const signals: string[] = [];
    rig.cluster.memory.open('x').signals.listen(
      (kind) => signals.push(kind),
      () => {},
    );
    await rig.clock.advance(20_000);
    expect(b.membership.known.storedVersion).toBe(storedVersion);
    expect(signals).toEqual([]);
    expect(a.membership.fencedTimes).toBe(0);
  });

  test('a topic that it does not know keeps its place for a while', async () => {
    const { rig, a } = await openRig('a', 'b');
    rig.topics.change([{ logEpoch: 2, partitions: 4 }]);
    await rig.clock.advance(4_000);
    expect([...a.membership.known.assignment.topics.keys()]).toEqual([1, 2]);
    await rig.clock.advance(2_000);
    expect([...a.membership.known.assignment.topics.keys()]).toEqual([2]);
    await rig.converge();
  });

  test('takes no partition away because it knows of fewer than were assigned', async () => {
    const { rig, a } = await openRig('a', 'b');
    rig.topics.change([{ logEpoch: 1, partitions: 5 }]);
    await rig.clock.advance(1_000);
    rig.topics.change([
      { logEpoch: 1, partitions: 5 },
      { logEpoch: 2, partitions: 1 },
    ]);
    await rig.clock.advance(1_000);
    const counts = [...a.membership.known.assignment.topics.values()].map(({ members }) => members.length);
    expect(counts).toEqual([12, 1]);
  });

  test('writes again what it has assigned, if the store has forgotten that', async () => {
    const { rig, a, b } = await openRig('a', 'b');
    const failOver = rig.cluster.memory.checkpoint((slot) => slot === CLUSTER_SLOT);
    rig.topics.change([...TOPICS, { logEpoch: 2, partitions: 7 }]);
    await rig.converge();
    const before = a.membership.known;
    failOver();
    await rig.clock.runUntil(() => a.membership.known !== before, 1_000);
    await rig.converge();
    await rig.clock.advance(LEASE_MS);
    for (const { membership } of [a, b]) {
      expect(membership.known.assignment.topics).toEqual(before.assignment.topics);
      expect(membership.known.storedVersion).toBeGreaterThan(before.storedVersion);
    }
    expect(rig.sum('abandons')).toBe(0);
  });

  test('is believed after a lease, though it does not know what the store has forgotten', async () => {
    const { rig, a, b } = await openRig('a', 'b');
    const failOver = rig.cluster.memory.checkpoint();
    for (const partitions of [13, 14, 15, 16]) {
      rig.topics.change([{ logEpoch: 1, partitions }]);
      await rig.converge();
    }
    // A draining member does not coordinate.
    await rig.resolved(b.membership.drain());
    rig.crash(a);
    failOver();
    const [c] = await rig.join('c');
    await rig.clock.advance(3 * LEASE_MS);
    expect(c!.membership.view?.coordinator.id).toBe(c!.id);
    expect(b.membership.known).toEqual(c!.membership.known);
    expect(c!.ownership.owned).toBe(16);
  });

  test('what it stores can be read by those who come later', async () => {
    const { rig, a } = await openRig('a', 'b');
    const stored = await rig.resolved(rig.cluster.memory.open('x').membership.assignment());
    const assignment = decodeAssignment(stored.body);
    expect(assignment).toEqual(a.membership.known.assignment);
    expect(loadsOf(assignment).size).toBe(2);
  });

  test('gives partitions to those that stay: drained only if nobody else does, stopping never', () => {
    const member = (name: string, draining = false) => ({ name, draining }) as Member;
    const eligible = (members: Member[], drained: string[]) => eligibleMembers({ members, drained });
    expect(eligible([member('b'), member('a'), member('c', true)], ['b'])).toEqual(['a']);
    expect(eligible([member('a'), member('b', true)], ['a'])).toEqual(['a']);
    expect(eligible([member('a', true)], [])).toEqual([]);
  });
});

test('routes lead to where partitions should be, and are one object until something changes', async () => {
  const { rig, a, b } = await openRig('a', 'b');
  let changes = 0;
  a.routes.onChange(() => {
    changes += 1;
  });
  const ids = rig.partitions;
  const ofB = ids.filter((id) => a.routes.targetOf(id)?.memberId === b.id);
  expect(ofB).toHaveLength(b.ownership.owned);
  expect(a.routes.targetOf(ofB[0]!)).toEqual({ memberId: b.id, name: 'b', address: 'b:7443', version: 2 });
  expect(a.routes.targetOf(ofB[0]!)).toBe(a.routes.targetOf(ofB[0]!));
  expect(a.routes.targetOf({ logEpoch: 9, partition: 0 })).toBeUndefined();
  expect(a.routes.targetOf({ logEpoch: 1, partition: 12 })).toBeUndefined();
  await rig.clock.advance(5_000);
  expect(changes).toBe(0);
  rig.crash(b);
  // There is no route while b is gone and its partitions have not moved yet.
  await rig.clock.runUntil(() => changes > 0, 3_000);
  await rig.converge();
  const route = a.routes.targetOf(ofB[0]!)!;
  expect(route.memberId).toBe(a.id);
  expect(route.version).toBeGreaterThan(2);
});

test('recent moves say why, the newest first, and are bounded', async () => {
  const rig = new KeeperRig([{ logEpoch: 1, partitions: 200 }]);
  const [a] = await rig.open('a');
  await rig.converge();
  expect(a!.membership.moves.list()).toHaveLength(MAX_RECENT_MOVES);
  expect(a!.membership.moves.list()[0]).toMatchObject({ from: '', to: 'a', reason: 'created' });
  const reason = async (change: () => Promise<unknown>) => {
    await change();
    await rig.converge();
    return a!.membership.moves.list()[0]!.reason;
  };
  expect(await reason(() => rig.join('b'))).toBe('joined');
  expect(await reason(() => rig.stop(rig.members.get('b')!))).toBe('left');
  expect(await reason(() => rig.join('b'))).toBe('joined');
  expect(await reason(async () => rig.crash(rig.members.get('b')!))).toBe('lease ran out');
  expect(a!.membership.moves.list()).toHaveLength(MAX_RECENT_MOVES);
});
