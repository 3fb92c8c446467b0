// The contract of ports/membership-store.ts as tests for every adapter that members share. Leases end by the
// store's clock: tests in which one must end ask again until it has; all others have long leases.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Member } from '../../services/broker/ports/membership-store.ts';
import { expectCode, type OpenSharedHarness, type SharedHarness } from './harness.ts';

const LONG_MS = 600_000;
const SHORT_MS = 60;

export function membershipStoreConformance(name: string, open: OpenSharedHarness): void {
  describe(`membership store: ${name}`, () => {
    let h: SharedHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const membership = async (id = 'a1') => (await h.member(id)).membership;
    const beat = async (member: Member, leaseMs = LONG_MS) =>
      (await membership(member.id)).heartbeat('cluster-1', member, leaseMs);
    const initialize = async () => (await membership()).initialize('cluster-1');

    test('a store without a cluster has no identity, and the first to give it one wins', async () => {
      const store = await membership();
      expect(await store.identity()).toBeUndefined();
      const given = await Promise.all(['x', 'y', 'z'].map((identity) => store.initialize(identity)));
      expect(new Set(given).size).toBe(1);
      expect(['x', 'y', 'z']).toContain(given[0]);
      expect(await store.initialize('later')).toBe(given[0]);
      expect(await store.identity()).toBe(given[0]);
    });

    test('a heartbeat to a store that holds no cluster, or another, is refused and changes nothing', async () => {
      await expectCode(beat(memberOf('a1', 'a')), 'FAILED_PRECONDITION');
      await (await membership()).initialize('cluster-2');
      await expectCode(beat(memberOf('a1', 'a')), 'FAILED_PRECONDITION');
      const view = await (await membership()).heartbeat('cluster-2', memberOf('b1', 'b'), LONG_MS);
      expect(view.members.map(({ id }) => id)).toEqual(['b1']);
    });

    test('shows all living members, by name, as they described themselves last', async () => {
      await initialize();
      await beat(memberOf('b1', 'b'));
      await beat(memberOf('a1', 'a'));
      const changed = {
        ...memberOf('b1', 'b'),
        draining: true,
        address: 'elsewhere:1',
        version: '2 "quoted" ü',
      };
      await beat(changed);
      const view = await beat({
        ...memberOf('c1', 'c'),
        load: { partitions: 3, consumers: 2, publishedPerSecond: 1.5, deliveredPerSecond: 1e7 },
      });
      expect(view.members).toEqual([
        memberOf('a1', 'a'),
        changed,
        {
          ...memberOf('c1', 'c'),
          load: { partitions: 3, consumers: 2, publishedPerSecond: 1.5, deliveredPerSecond: 1e7 },
        },
      ]);
      expect(view.assignmentVersion).toBe(0);
      expect(view.drained).toEqual([]);
    });

    test('a name belongs to one living member', async () => {
      await initialize();
      await beat(memberOf('a1', 'a'));
      await expectCode(beat(memberOf('a2', 'a')), 'ABORTED');
      expect((await beat(memberOf('b1', 'b'))).members.map(({ id }) => id)).toEqual(['a1', 'b1']);
      await (await membership()).leave('a1');
      expect((await beat(memberOf('a2', 'a'))).members.map(({ id }) => id)).toEqual(['a2', 'b1']);
    });

    test('a lease that is not renewed ends, and its name is free', async () => {
      await initialize();
      await beat(memberOf('a1', 'a'), SHORT_MS);
      await vi.waitFor(() => beat(memberOf('a2', 'a')), { timeout: 10_000, interval: 20 });
      const { members, coordinator } = await beat(memberOf('b1', 'b'));
      expect(members.map(({ id }) => id)).toEqual(['a2', 'b1']);
      expect(coordinator.id).toBe('a2');
      expect(coordinator.term).toBeGreaterThan(1);
    });

    test('a member that others have seen gone is told so, once', async () => {
      await initialize();
      const missed = async (id: string, leaseMs = LONG_MS) =>
        (await beat(memberOf(id, id[0]!), leaseMs)).missed;
      expect(await missed('a1', SHORT_MS)).toBe(false);
      const alone = async () => expect((await beat(memberOf('b1', 'b'))).members.length).toBe(1);
      await vi.waitFor(alone, { timeout: 10_000, interval: 20 });
      expect(await missed('a1')).toBe(true);
      expect(await missed('a1')).toBe(false);
      expect(await missed('b1')).toBe(false);
    });

    test('who finds its lease gone gives one more to those that nobody has missed yet', async () => {
      await initialize();
      const all = ['a1', 'b1', 'c1'];
      const leaseMs = 4 * SHORT_MS;
      for (const id of all) await beat(memberOf(id, id[0]!));
      await Promise.all(all.map((id) => beat(memberOf(id, id[0]!), leaseMs)));
      // A new term says that all leases have ended since the last time.
      const ended = async () => {
        const view = await beat(memberOf('b1', 'b'), leaseMs);
        expect(view.coordinator.term).toBeGreaterThan(2);
        return view;
      };
      const { members } = await vi.waitFor(ended, { timeout: 10_000, interval: 2 * leaseMs });
      expect(members.map(({ id }) => id)).toEqual(['a1', 'b1', 'c1']);
    });

    test('nor is a name kept for a former process of it', async () => {
      await initialize();
      await beat(memberOf('a1', 'a'), SHORT_MS);
      // The store is as after a failover that has forgotten that a1 came after a0.
      await vi.waitFor(() => beat(memberOf('a0', 'a'), SHORT_MS), { timeout: 10_000, interval: 20 });
      await vi.waitFor(() => beat(memberOf('a1', 'a')), { timeout: 10 * SHORT_MS, interval: 20 });
      expect((await beat(memberOf('b1', 'b'))).members.map(({ id }) => id)).toEqual(['a1', 'b1']);
    });

    test('one coordinates, while its lease holds', async () => {
      await initialize();
      const first = await beat(memberOf('a1', 'a'));
      expect(first.coordinator).toEqual({ id: 'a1', term: 1 });
      expect((await beat(memberOf('b1', 'b'))).coordinator).toEqual({ id: 'a1', term: 1 });
      expect((await beat(memberOf('a1', 'a'))).coordinator).toEqual({ id: 'a1', term: 1 });
      await (await membership()).leave('a1');
      expect((await beat(memberOf('b1', 'b'))).coordinator).toEqual({ id: 'b1', term: 2 });
      expect((await beat(memberOf('a2', 'a'))).coordinator).toEqual({ id: 'b1', term: 2 });
    });

    test('who drains does not coordinate', async () => {
      await initialize();
      const drains = { ...memberOf('a1', 'a'), draining: true };
      expect((await beat(drains)).coordinator.id).toBe('');
      expect((await beat(memberOf('b1', 'b'))).coordinator.id).toBe('b1');
      expect((await beat({ ...memberOf('b1', 'b'), draining: true })).coordinator.id).toBe('');
      const { coordinator } = await beat(memberOf('c1', 'c'));
      expect(coordinator).toEqual({ id: 'c1', term: 2 });
    });

    test('the coordinator replaces the assignment, version by version', async () => {
      await initialize();
      const { coordinator } = await beat(memberOf('a1', 'a'));
      const store = await membership();
      expect(await store.assignment()).toEqual({ version: 0, body: '' });
      expect(await store.assign('a1', coordinator.term, 0, 'first ü')).toBe(1);
      await expectCode(store.assign('a1', coordinator.term, 0, 'lost'), 'ABORTED');
      expect(await store.assign('a1', coordinator.term, 1, 's'.repeat(300_000))).toBe(2);
      expect(await store.assignment()).toEqual({ version: 2, body: 's'.repeat(300_000) });
      expect((await beat(memberOf('b1', 'b'))).assignmentVersion).toBe(2);
    });

    test('nobody but the coordinator of that term assigns', async () => {
      await initialize();
      const { coordinator } = await beat(memberOf('a1', 'a'));
      await beat(memberOf('b1', 'b'));
      const store = await membership('b1');
      await expectCode(store.assign('b1', coordinator.term, 0, 'x'), 'ABORTED');
      await expectCode(store.assign('a1', coordinator.term + 1, 0, 'x'), 'ABORTED');
      await store.leave('a1');
      await expectCode(store.assign('a1', coordinator.term, 0, 'x'), 'ABORTED');
      const { coordinator: next } = await beat(memberOf('b1', 'b'));
      await expectCode(store.assign('a1', coordinator.term, 0, 'x'), 'ABORTED');
      expect(await store.assign('b1', next.term, 0, 'y')).toBe(1);
    });

    test('a coordinator whose lease has ended does not assign', async () => {
      await initialize();
      const { coordinator } = await beat(memberOf('a1', 'a'), SHORT_MS);
      const store = await membership();
      let version = 0;
      const refused = async () => {
        await expectCode(
          store.assign('a1', coordinator.term, version, 'x').then((next) => {
            version = next;
          }),
          'ABORTED',
        );
      };
      await vi.waitFor(refused, { timeout: 10_000, interval: 20 });
      expect(await store.assignment()).toMatchObject({ version });
    });

    test('remembers whom an operator has drained until it is revoked', async () => {
      await initialize();
      const store = await membership();
      await store.setDrained('b', true);
      await store.setDrained('a', true);
      await store.setDrained('a', true);
      expect((await beat(memberOf('a1', 'a'))).drained).toEqual(['a', 'b']);
      await store.setDrained('a', false);
      await store.setDrained('a', false);
      expect((await beat(memberOf('a1', 'a'))).drained).toEqual(['b']);
    });

    test('who has left, and who never was, may leave', async () => {
      await initialize();
      await beat(memberOf('a1', 'a'));
      const store = await membership();
      await store.leave('a1');
      await store.leave('a1');
      await store.leave('nobody');
      expect((await beat(memberOf('b1', 'b'))).members.map(({ id }) => id)).toEqual(['b1']);
    });
  });
}

function memberOf(id: string, name: string): Member {
  const load = { partitions: 0, consumers: 0, publishedPerSecond: 0, deliveredPerSecond: 0 };
  return { id, name, address: `${name}:7443`, draining: false, version: '1', load };
}
