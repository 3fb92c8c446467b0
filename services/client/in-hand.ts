// The messages that were handed out and are not settled. One of which the lease has run out meanwhile comes again, and is not to
// be handled a second time while it is handled: it waits until the first handling has succeeded (then it is done) or failed.
import type { Leases } from './consumer-stream.ts';
import type { HeldResponse, ReceivedMessage } from './received-message.ts';

/** Of one response. */
interface Handed {
  readonly messages: ReceivedMessage[];
  lowest: number;
  highest: number;
  /** The same messages by offset, once somebody has looked for one. */
  byOffset: Map<number, ReceivedMessage> | undefined;
}

export class InHand {
  readonly #handed = new Map<HeldResponse, Handed>();
  /** Those whose leases are gone, of which messages come again under any number. */
  readonly #gone = new Set<HeldResponse>();
  /** What is never settled by whoever has it is forgotten beyond this, the oldest first. */
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #waiting = new Map<ReceivedMessage, ReceivedMessage>();

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(message: ReceivedMessage): void {
    const { response, offset } = message;
    const handed = this.#handed.get(response);
    if (handed === undefined) {
      this.#handed.set(response, {
        messages: [message],
        lowest: offset,
        highest: offset,
        byOffset: undefined,
      });
      this.#bytes += response.bytes.length;
      if (this.#bytes > this.#maxBytes) this.released(this.#handed.keys().next().value!);
      return;
    }
    handed.messages.push(message);
    handed.byOffset?.set(offset, message);
    if (offset > handed.highest) handed.highest = offset;
    else if (offset < handed.lowest) handed.lowest = offset;
  }

  /** All of its messages are settled. */
  released(response: HeldResponse): void {
    if (!this.#handed.delete(response)) return;
    this.#gone.delete(response);
    this.#bytes -= response.bytes.length;
  }

  /** These leases are gone. */
  interrupted(leases: Leases): void {
    for (const response of this.#handed.keys()) if (response.leases === leases) this.#gone.add(response);
  }

  /** True: the same message is in hand, and this delivery of it is kept until that one is settled. */
  holds(message: ReceivedMessage): boolean {
    // A first delivery is none of what is here, unless the broker has died and forgotten how often it was.
    if (message.deliveryAttempt === 1 && this.#gone.size === 0) return false;
    const earlier = this.#find(message);
    if (earlier === undefined) return false;
    this.#waiting.get(earlier)?.discard();
    this.#waiting.set(earlier, message);
    return true;
  }

  /** The message is settled: takes out the delivery that was kept until then. */
  takeWaiting(message: ReceivedMessage): ReceivedMessage | undefined {
    if (this.#waiting.size === 0) return undefined;
    const waiting = this.#waiting.get(message);
    if (waiting !== undefined) this.#waiting.delete(message);
    return waiting;
  }

  clear(): void {
    this.#handed.clear();
    this.#gone.clear();
    this.#waiting.clear();
    this.#bytes = 0;
  }

  #find({ logEpoch, partition, offset }: ReceivedMessage): ReceivedMessage | undefined {
    for (const handed of this.#handed.values()) {
      if (offset < handed.lowest || offset > handed.highest) continue;
      // A response is of one partition.
      const { logEpoch: itsEpoch, partition: itsPartition } = handed.messages[0]!;
      if (itsPartition !== partition || itsEpoch !== logEpoch) continue;
      handed.byOffset ??= new Map(handed.messages.map((each) => [each.offset, each]));
      const found = handed.byOffset.get(offset);
      if (found !== undefined && !found.isSettled) return found;
    }
    return undefined;
  }
}
