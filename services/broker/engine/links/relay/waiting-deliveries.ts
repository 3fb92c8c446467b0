// What owners have sent for a consumer whose stream takes nothing just now, in order. Invariant: it is
// bounded by what owners send ahead of `taken`, in bytes of messages and, because nothing here holds much
// more than it needs, in memory.
import { bytesOf } from '../../../core/credit.ts';
import { DeliveredMessages } from '../../delivery/delivered-messages.ts';

interface Queued<Leg> {
  readonly leg: Leg;
  readonly messages: DeliveredMessages;
}

export class WaitingDeliveries<Leg> {
  #queued: Queued<Leg>[] = [];

  get length(): number {
    return this.#queued.length;
  }

  push(leg: Leg, messages: DeliveredMessages): void {
    this.#queued.push({ leg, messages: compact(messages) });
  }

  /** The oldest; there must be one. */
  shift(): Queued<Leg> {
    return this.#queued.shift()!;
  }

  /** Forgets what came through that leg. */
  drop(leg: Leg): void {
    if (this.#queued.length > 0) this.#queued = this.#queued.filter((queued) => queued.leg !== leg);
  }

  clear(): void {
    this.#queued = [];
  }
}

/** What waits must not hold a large chunk for the sake of a few messages. */
function compact(messages: DeliveredMessages): DeliveredMessages {
  const { chunk, runs, partition } = messages;
  const first = runs.reduce((lowest, run) => Math.min(lowest, run.first), chunk.endOffset);
  const last = runs.reduce((highest, run) => Math.max(highest, run.last), 0);
  if (4 * messages.bytes > chunk.byteLength) return messages;
  if (4 * bytesOf(chunk, first, last) > chunk.byteLength) return messages;
  const copy = chunk.part(first, last, 'copied');
  return new DeliveredMessages(partition, copy, runs, messages.messages, messages.bytes);
}
