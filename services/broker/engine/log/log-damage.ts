// The damage that its owner has found in a partition's log: logged once, counted while it is there. Delivery
// does not pass it by itself: an operator gives it up (`fanfare doctor --skip`), which the store remembers,
// or retention deletes it.
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { LogRange, LogStore } from '../../ports/log-store.ts';
import type { EngineContext } from '../context.ts';

export class LogDamage {
  readonly #id: PartitionId;
  readonly #log: LogStore;
  readonly #context: EngineContext;
  readonly #found = new Map<number, LogRange>();

  constructor(id: PartitionId, log: LogStore, context: EngineContext) {
    this.#id = id;
    this.#log = log;
    this.#context = context;
  }

  /**
   * To be called where nothing whole was found in the range. Returns what was given up there; undefined: it
   * is damage.
   */
  async lookAt(range: LogRange, reason: string): Promise<LogRange | undefined> {
    const { firstOffset, endOffset } = range;
    const skipped = await this.#log.skipped(this.#id);
    const given = skipped.find((each) => each.firstOffset <= firstOffset && firstOffset < each.endOffset);
    if (given !== undefined) {
      this.gone(given.endOffset, given.firstOffset);
      return given;
    }
    if (this.#found.has(firstOffset)) return undefined;
    this.#found.set(firstOffset, range);
    this.#context.stats.damagedRanges += 1;
    this.#context.logger.error(
      { partition: formatPartitionId(this.#id), firstOffset, messages: endOffset - firstOffset, reason },
      'stored messages are damaged: their delivery stops there, all else goes on; "fanfare doctor" says what to do',
    );
    return undefined;
  }

  /** Damage that begins below the offset (and not below fromOffset) does not count any more. */
  gone(belowOffset: number, fromOffset = 0): void {
    for (const firstOffset of [...this.#found.keys()]) {
      if (firstOffset < fromOffset || firstOffset >= belowOffset) continue;
      this.#found.delete(firstOffset);
      this.#context.stats.damagedRanges -= 1;
    }
  }
}
