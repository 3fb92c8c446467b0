// The contract of ports/definition-store.ts as tests. Every adapter runs them.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { expectCode, type OpenHarness, type StoreHarness } from './harness.ts';

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
      // The same name and revision as before, and still another version.
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
  });
}
