// The contract of ports/signals.ts as tests for every adapter that members share. Lossy signals promise
// little: on a quiet network they arrive.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SignalKind, Signals } from '../../services/broker/ports/signals.ts';
import type { OpenSharedHarness, SharedHarness } from './harness.ts';

export function signalsConformance(name: string, open: OpenSharedHarness): void {
  describe(`signals: ${name}`, () => {
    let h: SharedHarness;
    beforeEach(async () => {
      h = await open();
    });
    afterEach(() => h.close());
    const signals = async (id: string) => (await h.member(id)).signals;

    test('a signal reaches every member that listens, with its detail', async () => {
      const heard = [await signals('a'), await signals('b'), await signals('c')].map((each) => next(each, 2));
      const sender = await signals('b');
      sender.send('assignment', '');
      sender.send('released', '5.3');
      for (const each of heard) {
        // They arrive in any order: on a Cluster each may go through another node.
        expect((await each).sort()).toEqual([
          ['assignment', ''],
          ['released', '5.3'],
        ]);
      }
    });

    test('who stops listening hears no more, others do', async () => {
      const a = await signals('a');
      const early: unknown[] = [];
      const stop = a.listen(
        (kind) => early.push(kind),
        () => {},
      );
      const first = next(a, 1);
      a.send('definitions', '');
      await first;
      stop();
      const second = next(a, 1);
      a.send('definitions', 'again');
      expect(await second).toEqual([['definitions', 'again']]);
      expect(early).toEqual(['definitions']);
    });
  });
}

/** The next `count` signals, as [kind, detail]. */
function next(signals: Signals, count: number): Promise<[SignalKind, string][]> {
  return new Promise((resolve) => {
    const heard: [SignalKind, string][] = [];
    const stop = signals.listen(
      (kind, detail) => {
        heard.push([kind, detail]);
        if (heard.length < count) return;
        stop();
        resolve(heard);
      },
      () => {},
    );
  });
}
