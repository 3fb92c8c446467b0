// Whether one subscription's messages of an ordering key were handed out in order.
//
// A key has one run outstanding at a time, at one consumer. So when a message is handed out, each earlier one
// of its key was acknowledged before; only if the message continues a run, those of the run were handed to
// the same stream just before it. After a redelivery the key goes on from there: going back starts a new run.
// First deliveries in order follow from this.
import type { HandedEvent } from './history-checker.ts';

interface Key {
  readonly ids: readonly string[];
  /** 1 if acknowledged, by place in the key. */
  readonly acked: Uint8Array;
  /** All places below are acknowledged. */
  ackedUpTo: number;
  /** The place last handed to each stream. */
  readonly lastOf: Map<string, number>;
}

export class OrderJudge {
  readonly #places = new Map<string, { readonly key: Key; readonly place: number }>();

  /** The message ids of each key, in the order of the log. */
  constructor(keys: ReadonlyMap<string, readonly string[]>) {
    for (const ids of keys.values()) {
      const key: Key = { ids, acked: new Uint8Array(ids.length), ackedUpTo: 0, lastOf: new Map() };
      for (const [place, id] of ids.entries()) this.#places.set(id, { key, place });
    }
  }

  acked(messageId: string): void {
    const found = this.#places.get(messageId);
    if (found === undefined) return;
    const { key, place } = found;
    key.acked[place] = 1;
    while (key.ackedUpTo < key.ids.length && key.acked[key.ackedUpTo] === 1) key.ackedUpTo += 1;
  }

  /** What is wrong with the delivery; undefined if nothing is. */
  handed(event: HandedEvent): string | undefined {
    const found = this.#places.get(event.messageId);
    if (found === undefined) return undefined;
    const { key, place } = found;
    const stream = `${event.consumer} #${event.stream}`;
    const last = key.lastOf.get(stream);
    key.lastOf.set(stream, place);
    const continues = last !== undefined && last < place;
    let from = continues ? Math.max(last + 1, key.ackedUpTo) : key.ackedUpTo;
    while (from < place && key.acked[from] === 1) from += 1;
    if (from >= place) return undefined;
    const before = last === undefined ? 'nothing of the key' : key.ids[last];
    return `${event.messageId} (${event.key}, attempt ${event.attempt}) was handed to ${stream} while ${key.ids[from]}, before it in the key, was not acknowledged; last handed to this stream: ${before}`;
  }
}
