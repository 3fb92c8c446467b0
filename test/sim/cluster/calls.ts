// What brokers have been asked and have not answered yet: nothing may stay so for long, and nothing at the
// end.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { Clock } from '../../../services/broker/ports/clock.ts';
import type { Member } from './member.ts';

interface Call {
  readonly member: Member;
  readonly what: string;
  readonly sinceMs: number;
}

/** The longest a call to a running broker may take. */
export const LONGEST_CALL_MS = 60_000;

export class Calls {
  readonly #clock: Clock;
  readonly #calls = new Set<Call>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The first call that has been unanswered for so long; undefined: none has. */
  unanswered(forMs: number): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    for (const { member, what, sinceMs } of this.#calls)
      if (nowMs - sinceMs >= forMs) return `${what}: ${member.id} has not answered for ${nowMs - sinceMs} ms`;
    return undefined;
  }

  /**
   * Registers something that a broker has to finish while it runs. Returns what to call when it is finished.
   */
  began(member: Member, what: string): () => void {
    const call = { member, what, sinceMs: this.#clock.monotonicMs() };
    this.#calls.add(call);
    const forget = member.onEnd(() => this.#calls.delete(call));
    return () => {
      forget();
      this.#calls.delete(call);
    };
  }

  /** Calls the member from outside; rejects with UNAVAILABLE when its life ends first. */
  ask<T>(member: Member, what: string, call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const forget = member.onEnd(() => reject(new BrokerError('UNAVAILABLE', 'the connection is lost')));
      if (!member.alive) reject(new BrokerError('UNAVAILABLE', 'nobody listens'));
      member.enter(() => {
        const ended = this.began(member, what);
        call()
          .then(resolve, reject)
          .finally(() => {
            ended();
            forget();
          });
      });
    });
  }

  /** Runs a call that the process itself makes; rejects with UNAVAILABLE when its life ends first. */
  call<T>(member: Member, call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const forget = member.onEnd(() => reject(new BrokerError('UNAVAILABLE', 'the process is gone')));
      call().then(resolve, reject).finally(forget);
    });
  }
}
