// What is outstanding at all owners of a relayed consumer, each asked at the same time by an order for credit
// with a sequence of its own.
//
// Invariant: an answer to an earlier order does not count, for what was delivered after it is not in it.
import { BrokerError } from '../../../core/errors.ts';
import type { Clock } from '../../../ports/clock.ts';

const ANSWER_WITHIN_MS = 2_000;

export class OutstandingCount<Owner> {
  /** Rejects with UNAVAILABLE if an owner does not answer in time. */
  readonly messages: Promise<number>;
  /** The sequence of the order that each was sent, for owners that have not answered. */
  readonly #asked: Map<Owner, number>;
  readonly #resolve: (messages: number) => void;
  #sum = 0;

  constructor(orders: readonly { readonly owner: Owner; readonly sequence: number }[], clock: Clock) {
    this.#asked = new Map(orders.map(({ owner, sequence }) => [owner, sequence]));
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const cancelTimer = clock.setTimer(ANSWER_WITHIN_MS, () =>
      reject(new BrokerError('UNAVAILABLE', 'a broker does not say what a consumer holds: try again')),
    );
    this.#resolve = (messages) => {
      cancelTimer();
      resolve(messages);
    };
    this.messages = promise;
    this.#look();
  }

  answered(owner: Owner, sequence: number, outstandingMessages: number): void {
    const asked = this.#asked.get(owner);
    if (asked === undefined || sequence < asked) return;
    this.#sum += outstandingMessages;
    this.gone(owner);
  }

  /** Nothing more is to be counted at this owner, as it has answered or its leases have ended. */
  gone(owner: Owner): void {
    this.#asked.delete(owner);
    this.#look();
  }

  /** The consumer has left, and with it all of its leases. */
  over(): void {
    this.#asked.clear();
    this.#sum = 0;
    this.#look();
  }

  #look(): void {
    if (this.#asked.size === 0) this.#resolve(this.#sum);
  }
}
