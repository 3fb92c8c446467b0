// The contract of ports/definition-store.ts as tests for every adapter; sharedDefinitionConformance is for
// those that members share.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MAX_REMEMBERED } from '../../services/broker/ports/definition-store.ts';
import {
  expectCode,
  type OpenHarness,
  type OpenSharedHarness,
  type SharedHarness,
  type StoreHarness,
} from './harness.ts';

const ORDERS = 'projects/p/topics/orders';

export function definitionStoreConformance(name: string, open: OpenHarness): void {
  describe(`definition store: ${name}`, () => {
    let h: StoreHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const definitions = () => h.stores.definitions;
    const listed = async () =>
      (await definitions().list()).sort((a, b) => `${a.kind}${a.name}`.localeCompare(`${b.kind}${b.name}`));

    test('an empty store lists nothing', async () => {
      expect(await definitions().list()).toEqual([]);
    });

    test('lists what was put, before and after reopening', async () => {
      expect(await definitions().put('topic', ORDERS, '{"n":1}', 0)).toBe(1);
      expect(await definitions().put('topic', ORDERS, '{"n":2}', 1)).toBe(2);
      expect(await definitions().put('subscription', ORDERS, 'a subscription of that name: ü', 0)).toBe(1);
      const expected = [
        { kind: 'subscription', name: ORDERS, revision: 1, body: 'a subscription of that name: ü' },
        { kind: 'topic', name: ORDERS, revision: 2, body: '{"n":2}' },
      ];
      expect(await listed()).toEqual(expected);
      await h.settle?.();
      expect(await listed()).toEqual(expected);
      await h.reopen();
      expect(await listed()).toEqual(expected);
    });

    test('get gives one of them, of its kind', async () => {
      await definitions().put('topic', ORDERS, 'a', 0);
      await definitions().put('topic', ORDERS, 'ü', 1);
      const expected = { kind: 'topic', name: ORDERS, revision: 2, body: 'ü' };
      expect(await definitions().get('topic', ORDERS)).toEqual(expected);
      expect(await definitions().get('subscription', ORDERS)).toBeUndefined();
      await h.settle?.();
      expect(await definitions().get('topic', ORDERS)).toEqual(expected);
      await definitions().remove('topic', ORDERS, 2);
      expect(await definitions().get('topic', ORDERS)).toBeUndefined();
    });

    test('the version changes with every put and remove, and with nothing else', async () => {
      const versions = [await definitions().version()];
      const look = async () => versions.push(await definitions().version());
      await definitions().put('topic', ORDERS, 'a', 0);
      await look();
      await definitions().put('topic', ORDERS, 'b', 1);
      await look();
      await definitions().remove('topic', ORDERS, 2);
      await look();
      // The same name and revision as before still give another version.
      await definitions().put('topic', ORDERS, 'a', 0);
      await look();
      expect(new Set(versions).size).toBe(5);
      await expectCode(definitions().put('topic', ORDERS, 'c', 7), 'ABORTED');
      await definitions().nextIncarnation();
      expect(await definitions().version()).toBe(versions.at(-1));
    });

    test('creating what exists is ALREADY_EXISTS', async () => {
      await definitions().put('topic', ORDERS, 'a', 0);
      await expectCode(definitions().put('topic', ORDERS, 'b', 0), 'ALREADY_EXISTS');
      expect(await listed()).toMatchObject([{ body: 'a', revision: 1 }]);
    });

    test('a change that expects another revision is ABORTED and changes nothing', async () => {
      await definitions().put('topic', ORDERS, 'a', 0);
      await expectCode(definitions().put('topic', ORDERS, 'b', 2), 'ABORTED');
      await expectCode(definitions().put('topic', 'projects/p/topics/none', 'b', 1), 'ABORTED');
      await expectCode(definitions().remove('topic', ORDERS, 2), 'ABORTED');
      await expectCode(definitions().remove('topic', 'projects/p/topics/none', 1), 'ABORTED');
      expect(await listed()).toMatchObject([{ body: 'a', revision: 1 }]);
    });

    test('of two writers at once one wins', async () => {
      const creates = await Promise.allSettled(
        ['a', 'b', 'c'].map((body) => definitions().put('topic', ORDERS, body, 0)),
      );
      expect(creates.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      const updates = await Promise.allSettled([
        definitions().put('topic', ORDERS, 'd', 1),
        definitions().remove('topic', ORDERS, 1),
      ]);
      expect(updates.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    });

    test('a put may give a greater revision than the next one', async () => {
      expect(await definitions().put('topic', ORDERS, 'a', 0, 7)).toBe(7);
      await expectCode(definitions().put('topic', ORDERS, 'b', 1, 9), 'ABORTED');
      expect(await definitions().put('topic', ORDERS, 'b', 7, 9)).toBe(9);
      expect(await listed()).toMatchObject([{ body: 'b', revision: 9 }]);
      expect(await definitions().put('topic', ORDERS, 'c', 9)).toBe(10);
      await h.reopen();
      expect(await listed()).toMatchObject([{ body: 'c', revision: 10 }]);
    });

    test('what was removed is gone, and may be created again', async () => {
      await definitions().put('topic', ORDERS, 'a', 0);
      await definitions().remove('topic', ORDERS, 1);
      expect(await listed()).toEqual([]);
      await h.reopen();
      expect(await listed()).toEqual([]);
      await expectCode(definitions().put('topic', ORDERS, 'b', 1), 'ABORTED');
      expect(await definitions().put('topic', ORDERS, 'b', 0)).toBe(1);
    });

    test('no incarnation is given twice', async () => {
      const given = [await definitions().nextIncarnation(), await definitions().nextIncarnation()];
      given.push(...(await Promise.all(Array.from({ length: 20 }, () => definitions().nextIncarnation()))));
      await h.reopen();
      given.push(await definitions().nextIncarnation());
      expect(Math.min(...given)).toBeGreaterThanOrEqual(1);
      expect(new Set(given).size).toBe(given.length);
      expect(Math.max(...given)).toBe(given.at(-1));
    });

    test('an incarnation is above what is known to have been given', async () => {
      const first = await definitions().nextIncarnation();
      expect(await definitions().nextIncarnation(first + 500)).toBeGreaterThan(first + 500);
      const given = await definitions().nextIncarnation(first);
      expect(given).toBeGreaterThan(first + 501);
      await h.reopen();
      expect(await definitions().nextIncarnation()).toBeGreaterThan(given);
    });

    test('what is there was not removed', async () => {
      await definitions().put('topic', ORDERS, 'a', 0);
      await definitions().put('topic', ORDERS, 'b', 1);
      expect(await definitions().removals()).toEqual({ removed: [], forgottenTo: 0 });
    });
  });
}

export function sharedDefinitionConformance(name: string, open: OpenSharedHarness): void {
  describe(`definition store shared by members: ${name}`, () => {
    let h: SharedHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const a = async () => (await h.member('member-a')).definitions;
    const b = async () => (await h.member('member-b')).definitions;

    test('one sees what another has put, and its version', async () => {
      const before = await (await b()).version();
      await (await a()).put('topic', ORDERS, 'a', 0);
      expect(await (await b()).get('topic', ORDERS)).toMatchObject({ body: 'a', revision: 1 });
      expect(await (await b()).version()).toBeGreaterThan(before);
      await expectCode((await b()).put('topic', ORDERS, 'b', 0), 'ALREADY_EXISTS');
    });

    test('what one removed is remembered as it was, also when there is another of that name', async () => {
      const store = await a();
      await store.put('topic', ORDERS, 'first\nü', 0);
      await store.put('subscription', ORDERS, 'other', 0);
      await store.remove('topic', ORDERS, 1);
      await store.put('topic', ORDERS, 'second', 0, 5);
      await store.remove('topic', ORDERS, 5);
      await store.put('topic', ORDERS, 'third', 0);
      await expectCode(store.remove('topic', ORDERS, 7), 'ABORTED');
      const { removed, forgottenTo } = await (await b()).removals();
      expect(forgottenTo).toBe(0);
      expect([...removed].sort((one, other) => one.revision - other.revision)).toEqual([
        { kind: 'topic', name: ORDERS, revision: 1, body: 'first\nü' },
        { kind: 'topic', name: ORDERS, revision: 5, body: 'second' },
      ]);
    });

    test('so many are remembered, and it is known of which times some are not', async () => {
      const store = await a();
      const remove = async (nth: number) => {
        await store.put('topic', `${ORDERS}-${nth}`, `${nth}`, 0);
        await store.remove('topic', `${ORDERS}-${nth}`, 1);
      };
      const excess = 150;
      const versions: number[] = [];
      for (let nth = 0; nth < excess; nth += 1) {
        await remove(nth);
        versions.push(await store.version());
      }
      const rest = Array.from({ length: MAX_REMEMBERED }, (_, nth) => excess + nth);
      // They go in groups of 256: a store must answer each within its time.
      for (let at = 0; at < rest.length; at += 256) await Promise.all(rest.slice(at, at + 256).map(remove));
      const { removed, forgottenTo } = await (await b()).removals();
      const numbers = removed.map(({ body }) => Number(body)).sort((one, other) => one - other);
      expect(numbers).toEqual(rest);
      expect(forgottenTo).toBe(versions.at(-1));
    });
  });
}
