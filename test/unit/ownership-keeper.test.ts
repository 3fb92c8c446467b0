// Ownership follows the assignment: joins, leaves, crashes, pauses, lost signals and lost answers, on virtual
// time. The ledger of keeper-rig.ts sees to it that two members never serve a partition under leases that
// both hold.
import { afterEach, describe, expect, test } from 'vitest';
import { loadsOf } from '../../services/broker/core/assignment.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import type { PartitionId } from '../../services/broker/core/partition.ts';
import { KeeperRig } from '../support/keeper-rig.ts';
import { CLUSTER_SLOT } from '../support/memory-store.ts';

const TOPICS = [
  { logEpoch: 1, partitions: 16 },
  { logEpoch: 2, partitions: 8 },
];

let rig: KeeperRig;

async function openRig(...names: string[]): Promise<ReturnType<KeeperRig['open']>> {
  rig = new KeeperRig(TOPICS);
  const members = await rig.open(...names);
  await rig.converge();
  return members;
}

afterEach(() => {
  expect(rig.ledger.violations).toEqual([]);
  expect(rig.ledger.overlaps).toEqual([]);
});

describe('in order', () => {
  test('one broker owns everything, soon after it has started', async () => {
    rig = new KeeperRig(TOPICS);
    const [a] = await rig.open('a');
    expect(await rig.converge()).toBeLessThan(20);
    expect(a!.ownership.owned).toBe(24);
  });

  test('a second one joins: its share is handed over with notes, each in a few milliseconds', async () => {
    const [a] = await openRig('a');
    const [b] = await rig.join('b');
    await rig.converge();
    const share = loadsOf(rig.assignment).get('b')!;
    expect(b!.ownership.owned).toBe(share);
    expect(a!.ownership.counts.handOvers).toBe(share);
    expect(b!.host.received).toHaveLength(share);
    for (const note of b!.host.received) expect(note).toMatch(/ from a#1$/);
    expect(rig.ledger.gaps).toHaveLength(share);
    expect(Math.max(...rig.ledger.gaps)).toBeLessThan(10);
    expect(rig.sum('abandons') + rig.sum('staleClaims') + rig.sum('forcedAcquisitions')).toBe(0);
  });

  test('a rolling restart of three: nothing is abandoned or forced, every note arrives', async () => {
    await openRig('a', 'b', 'c');
    const startMs = rig.clock.monotonicMs();
    for (const name of ['a', 'b', 'c']) {
      const before = rig.sum('handOvers');
      await rig.stop(rig.members.get(name)!);
      expect(rig.sum('handOvers')).toBeGreaterThan(before);
      await rig.converge();
      await rig.join(name);
      await rig.converge();
    }
    expect(rig.clock.monotonicMs() - startMs).toBeLessThan(5_000);
    expect(rig.sum('abandons') + rig.sum('staleClaims') + rig.sum('forcedAcquisitions')).toBe(0);
    expect(Math.max(...rig.ledger.gaps)).toBeLessThan(250);
    const received = rig.all.flatMap(({ host }) => host.received);
    expect(received.filter((note) => note !== undefined)).toHaveLength(rig.sum('handOvers'));
  });

  test('the last broker stops at once and leaves its notes in the store', async () => {
    const [a] = await openRig('a');
    const startMs = rig.clock.monotonicMs();
    await rig.stop(a!);
    expect(rig.clock.monotonicMs() - startMs).toBeLessThan(100);
    const [next] = await rig.join('b');
    await rig.converge();
    expect(next!.host.received.filter((note) => note?.endsWith('a#1'))).toHaveLength(24);
  });

  test('all stop at the same time: nobody waits for another', async () => {
    const members = await openRig('a', 'b', 'c');
    const startMs = rig.clock.monotonicMs();
    await rig.resolved(Promise.all(members.map((member) => rig.stopping(member))));
    expect(rig.clock.monotonicMs() - startMs).toBeLessThan(2_000);
    expect(rig.sum('abandons')).toBe(0);
  });

  test('drained by an operator and revoked; who has nothing left still serves as a member', async () => {
    const [a, b] = await openRig('a', 'b');
    await rig.resolved(a!.membership.setDrained('b', true));
    await rig.clock.runUntil(() => b!.ownership.owned === 0, 1_000);
    await rig.converge();
    expect(a!.ownership.owned).toBe(24);
    expect(a!.membership.moves.list()[0]).toMatchObject({ from: 'b', to: 'a', reason: 'drained' });
    await rig.resolved(a!.membership.setDrained('b', false));
    await rig.clock.runUntil(() => b!.ownership.owned > 0, 1_000);
    await rig.converge();
    expect(rig.sum('abandons')).toBe(0);
  });

  test('if only drained ones are left they serve all the same', async () => {
    const [a, b] = await openRig('a', 'b');
    await rig.resolved(a!.membership.setDrained('b', true));
    await rig.converge();
    rig.crash(a!);
    await rig.converge(3_000);
    expect(b!.ownership.owned).toBe(24);
  });

  test('topics come, grow and go', async () => {
    const [a] = await openRig('a', 'b');
    rig.topics.change([...TOPICS, { logEpoch: 3, partitions: 5 }]);
    expect(await rig.converge()).toBeLessThan(50);
    rig.topics.change([
      { logEpoch: 1, partitions: 20 },
      { logEpoch: 3, partitions: 5 },
    ]);
    await rig.clock.advance(6_000);
    await rig.converge();
    expect([...rig.members.values()].reduce((sum, { ownership }) => sum + ownership.owned, 0)).toBe(25);
    expect(a!.host.owned.has('2.0')).toBe(false);
  });
});

test('partitions of a topic that has gone are nobody’s, without a word; if it is known again they are taken again', async () => {
  const [a, b] = await openRig('a', 'b');
  const logged = [a!, b!].map((member) => member.logged);
  for (const lines of logged) lines.length = 0;
  rig.topics.change([{ logEpoch: 1, partitions: 16 }]);
  await rig.clock.advance(1_000);
  // The topic stays assigned for a while: the coordinator does not forget one at once.
  expect(rig.assignment.topics.has(2)).toBe(true);
  expect(a!.ownership.owned + b!.ownership.owned).toBe(16);
  rig.topics.change(TOPICS);
  expect(await rig.converge()).toBeLessThan(20);
  expect(a!.ownership.owned + b!.ownership.owned).toBe(24);
  expect(logged.flat()).toEqual([]);
  expect(rig.sum('abandons')).toBe(0);
});

test('what an owner has stays its own when the store has forgotten to whom it was assigned', async () => {
  const [a, b] = await openRig('a', 'b');
  const failOver = rig.cluster.memory.checkpoint((slot) => slot === CLUSTER_SLOT);
  rig.topics.change([...TOPICS, { logEpoch: 3, partitions: 8 }]);
  await rig.converge();
  const { acquisitions } = a!.ownership.counts;
  const assigned = [...rig.assignment.topics.get(3)!.members];
  failOver();
  await rig.clock.advance(3_000);
  await rig.converge();
  expect(rig.assignment.topics.get(3)!.members).toEqual(assigned);
  expect(a!.ownership.counts.acquisitions).toBe(acquisitions);
  expect(a!.ownership.owned + b!.ownership.owned).toBe(32);
  expect(rig.sum('abandons')).toBe(0);
});

test('a store that has gone back gives a member no claim a second time', async () => {
  const [a, b] = await openRig('a', 'b');
  const drain = async (drained: boolean) => {
    await rig.resolved(a!.membership.setDrained('b', drained));
    await rig.clock.runUntil(() => (b!.ownership.owned === 0) === drained, 10_000);
    await rig.converge();
  };
  const failOver = rig.cluster.memory.checkpoint((slot) => slot !== CLUSTER_SLOT);
  await drain(true);
  const before = new Map([...a!.host.owned].map(([name, { epoch }]) => [name, epoch]));
  await drain(false);
  const moved = [...b!.host.owned.keys()];
  failOver();
  await drain(true);
  for (const name of moved) expect(a!.host.owned.get(name)!.epoch).toBeGreaterThan(before.get(name)!);
});

describe('out of order', () => {
  test('kill -9: everything is served again within 3 s, whenever it strikes', async () => {
    for (let atMs = 0; atMs < 2_200; atMs += 110) {
      const [a, b] = await openRig('a', 'b', 'c');
      await rig.clock.advance(atMs);
      // Every other time the coordinator is killed.
      rig.crash(atMs % 220 === 0 ? a! : b!);
      const tookMs = await rig.converge();
      expect(tookMs).toBeGreaterThan(1_000);
      expect(tookMs).toBeLessThan(2_600);
      expect(rig.sum('forcedAcquisitions')).toBe(0);
      expect(rig.ledger.violations).toEqual([]);
    }
  });

  test('restarted at once after kill -9, under the same name', async () => {
    const [a] = await openRig('a', 'b');
    rig.crash(a!);
    const [again] = await rig.join('a');
    await rig.converge();
    expect(again!.logged).toContain('a broker of this name is alive: waiting for its lease to end');
  });

  test('paused longer than the lease: stops before it does anything else, its writes are refused', async () => {
    const [a, b] = await openRig('a', 'b');
    const had = a!.ownership.owned;
    a!.connection.clock.pause();
    await rig.clock.runUntil(() => b!.ownership.owned === 24, 3_000);
    // These writes were sent right before it was stopped, and arrive only now.
    expect(a!.host.owned.size).toBe(had);
    const late = a!.host.writeAll();
    a!.connection.clock.resume();
    await rig.clock.runUntil(() => a!.host.owned.size === 0, 1);
    await rig.resolved(late);
    expect(a!.host.refusedWrites).toBe(had);
    expect(a!.membership.fencedTimes).toBe(1);
    await rig.converge();
    expect(a!.ownership.owned).toBeGreaterThan(0);
  });

  test('cut off from the store: stops by itself before its lease ends there', async () => {
    const [a, b] = await openRig('a', 'b');
    const { fencedTimes } = a!.membership;
    a!.connection.faults.cut = true;
    const cutMs = rig.clock.monotonicMs();
    await rig.clock.runUntil(() => a!.host.owned.size === 0, 2_000);
    expect(rig.clock.monotonicMs() - cutMs).toBeLessThan(2_000);
    expect(a!.membership.fencedTimes).toBe(fencedTimes + 1);
    await rig.clock.runUntil(() => b!.ownership.owned === 24, 3_000);
    a!.connection.faults.cut = false;
    await rig.converge();
    expect(rig.sum('staleClaims')).toBe(0);
  });

  test('back after it was cut off: takes nothing until it knows the newest assignment', async () => {
    const [a, b] = await openRig('a', 'b');
    const [id] = [...a!.host.owned.values()].map((owned) => owned.id);
    a!.connection.faults.cut = true;
    await rig.clock.runUntil(() => b!.ownership.owned === 24, 5_000);
    const store = rig.cluster.memory.open('x').membership;
    const { assignment } = store;
    store.assignment = async () => {
      throw new BrokerError('UNAVAILABLE', 'the assignment can not be read');
    };
    const { acquisitions } = a!.ownership.counts;
    a!.connection.faults.cut = false;
    await rig.clock.runUntil(() => a!.membership.holds, 2_000);
    // By the assignment that it knows, the partition is its own, and nobody holds it.
    const { epoch } = b!.host.owned.get(`${id!.logEpoch}.${id!.partition}`)!;
    await rig.resolved(rig.cluster.memory.open(b!.id).ownership.release(id!, epoch, Buffer.alloc(0)));
    await rig.clock.advance(1_000);
    expect(a!.ownership.counts.acquisitions).toBe(acquisitions);
    store.assignment = assignment;
    await rig.resolved(b!.host.writeAll());
    await rig.converge();
  });

  test('all signals are lost: everything still happens, a poll later', async () => {
    const [a] = await openRig('a');
    a!.connection.faults.loseSignals = 1;
    const b = rig.begin('b');
    b.connection.faults.loseSignals = 1;
    await rig.resolved(b.started);
    expect(await rig.converge()).toBeLessThan(1_500);
    const startMs = rig.clock.monotonicMs();
    await rig.stop(b);
    await rig.converge();
    expect(rig.clock.monotonicMs() - startMs).toBeLessThan(1_500);
    expect(rig.sum('abandons') + rig.sum('forcedAcquisitions')).toBe(0);
  });

  test('a slow store: 150 ms each way, and nothing is forced or abandoned', async () => {
    const [a] = await openRig('a');
    a!.connection.faults.latencyMs = () => 150;
    const b = rig.begin('b', 1, 150);
    await rig.resolved(b.started);
    await rig.converge();
    expect(rig.sum('abandons') + rig.sum('forcedAcquisitions')).toBe(0);
  });

  test.each(['loseAnswers', 'loseRequests'] as const)(
    'releases of unknown outcome are tried again: %s',
    async (fault) => {
      const [a] = await openRig('a');
      const { faults } = a!.connection;
      a!.host.beforeHandOver = async () => {
        faults[fault] = 1;
      };
      const [b] = await rig.join('b');
      await rig.clock.runUntil(() => faults[fault] === 1, 1_000);
      await rig.clock.advance(300);
      faults[fault] = 0;
      expect(await rig.converge()).toBeLessThan(1_500);
      expect(rig.sum('forcedAcquisitions')).toBe(0);
      expect(b!.host.received).toHaveLength(b!.ownership.owned);
      expect(b!.host.received.every((note) => note?.endsWith('a#1'))).toBe(true);
    },
  );

  test('acquisitions of unknown outcome are tried again', async () => {
    rig = new KeeperRig(TOPICS);
    const [a] = await rig.open('a');
    a!.connection.faults.loseAnswers = 0.5;
    await rig.clock.advance(1_500);
    a!.connection.faults.loseAnswers = 0;
    await rig.converge();
  });

  test('a partition that can not be opened at once keeps its claim and the note', async () => {
    const [a] = await openRig('a');
    const b = rig.begin('b');
    let failures = 5;
    b.host.beforeOwn = async () => {
      failures -= 1;
      if (failures >= 0) throw new BrokerError('UNAVAILABLE', 'the store is slow today');
    };
    await rig.resolved(b.started);
    await rig.converge();
    expect(b.host.received.every((note) => note?.endsWith('a#1'))).toBe(true);
    expect(b.ownership.counts.acquisitions).toBe(b.ownership.owned);
    expect(a!.ownership.counts.handOvers).toBe(b.ownership.owned);
  });

  test('the lease is lost while partitions are being opened: they are dropped, and taken anew', async () => {
    rig = new KeeperRig(TOPICS);
    const [a] = await rig.open();
    expect(a).toBeUndefined();
    const member = rig.begin('a');
    const { promise: open, resolve } = Promise.withResolvers<void>();
    member.host.beforeOwn = () => open;
    await rig.resolved(member.started);
    await rig.clock.advance(100);
    member.connection.faults.cut = true;
    await rig.clock.runUntil(() => member.membership.fencedTimes === 1, 3_000);
    resolve();
    await rig.clock.settle();
    expect(member.host.owned.size).toBe(0);
    member.connection.faults.cut = false;
    await rig.converge();
    for (const { epoch } of member.host.owned.values()) expect(epoch).toBe(2);
  });

  test('moved back before it could be opened: the claim is given on, with the note', async () => {
    const [a] = await openRig('a');
    const b = rig.begin('b');
    b.host.beforeOwn = async () => {
      throw new BrokerError('NOT_FOUND', 'the topic is not known here yet');
    };
    await rig.resolved(b.started);
    await rig.clock.advance(1_000);
    await rig.resolved(a!.membership.setDrained('b', true));
    await rig.converge();
    const back = a!.host.received.filter((note) => note?.endsWith('from a#1'));
    expect(back).toHaveLength(b.ownership.counts.acquisitions);
  });

  test('a hand-over that hangs is taken by force after 5 s; the former owner learns it by its next write', async () => {
    const [a] = await openRig('a');
    a!.host.beforeHandOver = () => new Promise(() => {});
    const [b] = await rig.join('b');
    await rig.clock.advance(4_500);
    expect(b!.ownership.owned).toBe(0);
    await rig.clock.advance(1_000);
    const share = loadsOf(rig.assignment).get('b')!;
    expect(b!.ownership.owned).toBe(share);
    expect(b!.ownership.counts.forcedAcquisitions).toBe(share);
    await rig.resolved(a!.host.writeAll());
    expect(a!.ownership.counts.staleClaims).toBe(share);
    await rig.converge();
  });

  test('a wall clock that is set ahead does not end the search for who holds a partition', async () => {
    const [a] = await openRig('a');
    a!.host.beforeHandOver = () => new Promise(() => {});
    const [b] = await rig.join('b');
    await rig.clock.advance(500);
    rig.clock.jumpWallClock(60_000);
    await rig.clock.advance(6_000);
    expect(b!.ownership.counts.forcedAcquisitions).toBe(loadsOf(rig.assignment).get('b')!);
    expect(b!.membership.fencedTimes).toBe(0);
  });

  test('a hand-over that fails is released without a note, so that nobody waits', async () => {
    const [a] = await openRig('a');
    a!.host.beforeHandOver = async () => {
      throw new BrokerError('UNAVAILABLE', 'the store does not take the last append');
    };
    const [b] = await rig.join('b');
    expect(await rig.converge()).toBeLessThan(500);
    expect(b!.host.received.every((note) => note === '')).toBe(true);
    expect(rig.sum('forcedAcquisitions')).toBe(0);
  });

  test('taken by someone who should not: it is won back', async () => {
    const [a, b] = await openRig('a', 'b');
    const [{ id }] = [...a!.host.owned.values()] as unknown as [{ id: PartitionId }];
    const thief = rig.cluster.memory.open('nobody').ownership.acquire(id);
    await rig.resolved(thief);
    await rig.resolved(a!.host.writeAll());
    expect(a!.ownership.counts.staleClaims).toBe(1);
    await rig.converge();
    expect(b!.ownership.counts.staleClaims).toBe(0);
  });

  test('a coordinator that was paused can not store its assignment any more', async () => {
    const [a, b] = await openRig('a', 'b', 'c');
    expect(b!.membership.view!.coordinator.id).toBe(a!.id);
    const { term } = b!.membership.view!.coordinator;
    // It is stopped right before it writes: the topic appears while it can do nothing.
    a!.connection.clock.pause();
    await rig.clock.runUntil(() => b!.ownership.owned + rig.members.get('c')!.ownership.owned === 24, 3_000);
    const version = b!.membership.known.storedVersion;
    const late = rig.cluster.memory.open(a!.id).membership.assign(a!.id, term, version, '{}');
    await expect(rig.resolved(late)).rejects.toMatchObject({ code: 'ABORTED' });
    rig.topics.change([...TOPICS, { logEpoch: 3, partitions: 5 }]);
    a!.connection.clock.resume();
    await rig.converge();
    expect(rig.members.get('c')!.membership.view!.coordinator.term).toBeGreaterThan(term);
  });

  test('stopped while the store is away: gives up at the time limit', async () => {
    const [a] = await openRig('a', 'b');
    a!.connection.faults.cut = true;
    const startMs = rig.clock.monotonicMs();
    await rig.stop(a!, 5_000);
    expect(rig.clock.monotonicMs() - startMs).toBeLessThan(8_000);
    expect(a!.host.owned.size).toBe(0);
    await rig.converge();
  });
});

test('nothing is left behind by members that have stopped', async () => {
  const members = await openRig('a', 'b');
  for (const member of members) await rig.stop(member);
  await rig.clock.advance(1_000);
  expect(rig.clock.timerCount).toBe(0);
});
