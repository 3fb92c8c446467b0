// Holds deliveries back until what was published before their topic grew is settled: see core/growth.ts. Only in subscriptions
// with ordering, and only in partitions to which keys have come from others.
//
// One loop for the broker. It looks at the durable cursors of the partitions from which keys come, whoever owns them: soon after
// a cursor was written here, and every LOOK_MS while anything waits.
import { decodeCursor } from '../../core/cursor.ts';
import { BrokerError } from '../../core/errors.ts';
import { type Source, sourcesOf } from '../../core/growth.ts';
import type { CursorStore } from '../../ports/cursor-store.ts';
import type { EngineContext } from '../context.ts';
import type { EraIndex } from '../log/era-index.ts';
import type { Dispatcher } from './dispatcher.ts';

const LOOK_MS = 200;
const SOON_MS = 10;
/** Dispatchers that are looked at side by side: it bounds what the store is asked. */
const AT_ONCE = 16;

export class EraGates {
  readonly #cursors: CursorStore;
  readonly #index: EraIndex;
  readonly #context: EngineContext;
  /** With an era that is not open to them. */
  readonly #held = new Set<Dispatcher>();
  #looking = false;
  #lookAgain = false;
  #timer: { readonly cancel: () => void; readonly dueMs: number } | undefined;
  #stopped = false;

  constructor(cursors: CursorStore, index: EraIndex, context: EngineContext) {
    this.#cursors = cursors;
    this.#index = index;
    this.#context = context;
  }

  /** To be called before the dispatcher serves anybody, and when its partition has begun an era. */
  watch(dispatcher: Dispatcher): void {
    if (!dispatcher.host.definition.ordering) return;
    const { owner } = dispatcher;
    const { eras = [], counts = [] } = owner.growth ?? {};
    while (
      dispatcher.openEras < eras.length &&
      sourcesOf(counts, owner.id.partition, eras[dispatcher.openEras]!.partitions).length === 0
    )
      dispatcher.openEras += 1;
    const held = eras[dispatcher.openEras];
    if (held === undefined) this.#held.delete(dispatcher);
    else this.#held.add(dispatcher);
    dispatcher.apply({ kind: 'hold', fromOffset: held?.fromOffset ?? Number.POSITIVE_INFINITY });
    if (held !== undefined) this.soon();
  }

  /** Something has been settled, or published. */
  soon(): void {
    if (this.#held.size > 0) this.#lookIn(SOON_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #lookIn(delayMs: number): void {
    if (this.#stopped) return;
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    const { clock } = this.#context;
    const dueMs = clock.monotonicMs() + delayMs;
    if (this.#timer !== undefined && this.#timer.dueMs <= dueMs) return;
    this.#timer?.cancel();
    const cancel = clock.setTimer(delayMs, () => {
      this.#timer = undefined;
      void this.#look();
    });
    this.#timer = { cancel, dueMs };
  }

  async #look(): Promise<void> {
    this.#looking = true;
    this.#lookAgain = false;
    const waiting: Dispatcher[] = [];
    for (const dispatcher of this.#held) {
      if (dispatcher.closed) this.#held.delete(dispatcher);
      else if (dispatcher.delivery.isHeld) waiting.push(dispatcher);
    }
    for (let at = 0; at < waiting.length && !this.#stopped; at += AT_ONCE)
      await Promise.all(waiting.slice(at, at + AT_ONCE).map((dispatcher) => this.#tryOpen(dispatcher)));
    this.#looking = false;
    if (this.#lookAgain) this.#lookIn(SOON_MS);
    else if (waiting.length > 0) this.#lookIn(LOOK_MS);
  }

  async #tryOpen(dispatcher: Dispatcher): Promise<void> {
    const { owner, openEras } = dispatcher;
    const { eras, counts } = owner.growth!;
    for (const source of sourcesOf(counts, owner.id.partition, eras[openEras]!.partitions))
      if (!(await this.#hasSettled(dispatcher, source))) return;
    if (dispatcher.closed || dispatcher.openEras !== openEras) return;
    dispatcher.openEras += 1;
    this.watch(dispatcher);
    dispatcher.host.pump(dispatcher);
  }

  /** Whether the subscription has settled, for good, what lies before that era. */
  async #hasSettled({ owner, host }: Dispatcher, source: Source): Promise<boolean> {
    const { logEpoch } = owner.id;
    const { partition } = source;
    const begin = await this.#index.beginOf(logEpoch, source);
    if (begin === undefined) return false;
    const startOffset = host.definition.startOffsets?.[partition] ?? 0;
    if (startOffset >= begin) return true;
    try {
      const record = await this.#cursors.load(host.incarnation, { logEpoch, partition });
      if (record === undefined) return false;
      const { floor } = decodeCursor(record);
      if (floor >= begin) return true;
      const begunAnew = await this.#index.beginOf(logEpoch, source, 'again');
      return begunAnew !== undefined && floor >= begunAnew;
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      const { name } = host.definition;
      this.#context.logger.warn({ subscription: name, partition, reason: error.message }, UNREADABLE);
      return false;
    }
  }
}

const UNREADABLE = 'a cursor cannot be read, on which delivery waits since the topic has grown: trying again';
