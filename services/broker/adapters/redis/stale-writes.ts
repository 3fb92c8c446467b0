// Counts the writes that Redis refused because their claim on the partition was stale, and logs them. It
// hears the replies of writes also when the caller has given up: the writes to fear are those that come late,
// and nobody else hears of these.
import type { Argument, Reply } from './connection.ts';
import type { ScriptName } from './scripts.ts';

export class StaleWrites {
  count = 0;
  readonly #warn: (message: string, fields: object) => void;

  constructor(warn: (message: string, fields: object) => void) {
    this.#warn = warn;
  }

  /** `key` is the script's first one: the partition's meta, wherever a script can reply STALE. */
  heard(script: ScriptName, key: string, [ownerEpoch]: readonly Argument[], reply: Reply): void {
    if (!Array.isArray(reply) || reply[0] !== 'STALE') return;
    this.count += 1;
    const [, newestEpoch, holder] = reply;
    const partition = /\{(.*)\}/.exec(key)?.[1];
    this.#warn(
      'the store refused a write of a former owner: nothing was written, another broker has the partition',
      { partition, write: script, ownerEpoch, newestEpoch, holder },
    );
  }
}
