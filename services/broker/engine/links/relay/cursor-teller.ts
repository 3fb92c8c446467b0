// Tells the present owners of partitions what this broker remembers of their cursors (remembered-cursors.ts).
// A store that went back may have lost what this broker had committed, and another one owns the partition
// since.
//
//   looks when routes change, and each second ─▶ for each cursor whose partition another broker has
//   ─▶ as far as the log is still the same ─▶ the owner settles it, whether it has delivered it or not
//
// An owner is told once, and what it is told does no harm if it knows it already. One to which the partition
// was handed over in order has read it in the store.
import { decodeCursor } from '../../../core/cursor.ts';
import { BrokerError } from '../../../core/errors.ts';
import type { SettleOperation } from '../../../core/settle-request.ts';
import type { EngineContext } from '../../context.ts';
import type { RememberedCursor, RememberedCursors } from '../../log/remembered-cursors.ts';
import type { Routes } from '../../membership/routes.ts';
import type { Remote } from '../../remote.ts';

export interface CursorTellerOptions {
  readonly remembered: RememberedCursors;
  readonly routes: Routes;
  readonly remote: Pick<Remote, 'settle'>;
  readonly context: EngineContext;
}

const LOOK_MS = 1_000;
/** The most operations in one call. */
const MAX_OPERATIONS = 10_000;

export class CursorTeller {
  readonly #options: CursorTellerOptions;
  /** The member that was told of the cursor last. */
  readonly #told = new WeakMap<RememberedCursor, string>();
  /** Cursors of which it was logged that nobody could be told. */
  readonly #failed = new WeakSet<RememberedCursor>();
  #looking: Promise<void> | undefined;
  #again = false;
  #cancelTimer: () => void = () => undefined;
  #unlisten: () => void = () => undefined;
  #stopped = false;

  constructor(options: CursorTellerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#unlisten = this.#options.routes.onChange(() => this.#look());
    this.#arm();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unlisten();
    this.#cancelTimer();
    await this.#looking;
  }

  #arm(): void {
    this.#cancelTimer = this.#options.context.clock.setTimer(LOOK_MS, () => {
      this.#look();
      this.#arm();
    });
  }

  #look(): void {
    if (this.#stopped) return;
    this.#again = true;
    this.#looking ??= this.#tellAll().finally(() => {
      this.#looking = undefined;
    });
  }

  async #tellAll(): Promise<void> {
    const { remembered, context } = this.#options;
    while (this.#again && !this.#stopped) {
      this.#again = false;
      // A member that does not answer is not waited for again in this round.
      const silent = new Set<string>();
      for (const cursor of remembered.all(context.clock.monotonicMs())) {
        if (this.#stopped) return;
        const memberId = this.#toTell(cursor);
        if (memberId === undefined || silent.has(memberId)) continue;
        if (!(await this.#tell(cursor, memberId))) silent.add(memberId);
      }
    }
  }

  /** The owner that has not heard of the cursor; undefined: there is none. */
  #toTell(cursor: RememberedCursor): string | undefined {
    const { routes } = this.#options;
    const memberId = routes.targetOf(cursor.id)?.memberId;
    const isOther = memberId !== routes.selfId && memberId !== this.#told.get(cursor);
    return !cursor.isHandedOver && isOther ? memberId : undefined;
  }

  /** Returns whether it was told. */
  async #tell(cursor: RememberedCursor, memberId: string): Promise<boolean> {
    const { remembered, remote, context } = this.#options;
    try {
      const operations = operationsOf(cursor, await remembered.sameBelow(cursor));
      if (operations.length > 0) await remote.settle(cursor.subscription, operations);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      // The subscription was deleted: nobody wants to know.
      if (error.code !== 'NOT_FOUND') {
        if (!this.#failed.has(cursor))
          context.logger.info(
            { subscription: cursor.subscription.name, reason: error.message },
            'the owner of a partition could not be told what was acknowledged before: trying again',
          );
        this.#failed.add(cursor);
        return false;
      }
    }
    this.#told.set(cursor, memberId);
    return true;
  }
}

function operationsOf({ id, record }: RememberedCursor, below: number): SettleOperation[] {
  const { floor, settled } = decodeCursor(record);
  const all = floor > 0 ? [{ first: 0, last: floor - 1 }, ...settled] : settled;
  return all
    .filter(({ first }) => first < below)
    .slice(0, MAX_OPERATIONS)
    .map(({ first, last }) => {
      const range = { first, last: Math.min(last, below - 1) };
      return { kind: 'ack', ...id, ...range, seconds: 0, settledBefore: true };
    });
}
