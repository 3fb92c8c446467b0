// What brokers have been asked and have not answered yet: nothing may stay so for long, and nothing at the end. Made by world.ts,
// used by everybody who calls a member.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { Clock } from '../../../services/broker/ports/clock.ts';
import type { Member } from './member.ts';

interface Call {
  readonly member: Member;
  readonly what: string;
  readonly sinceMs: number;
}

/** No call to a broker that runs takes longer. */
export const LONGEST_CALL_MS = 60_000;

export class Calls {
  readonly #clock: Clock;
  readonly #calls = new Set<Call>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The first that is unanswered for longer than that; undefined: none is. */
  unanswered(forMs: number): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    for (const { member, what, sinceMs } of this.#calls)
      if (nowMs - sinceMs >= forMs) return `${what}: ${member.id} has not answered for ${nowMs - sinceMs} ms`;
    return undefined;
  }

  /** Something that a broker has to come to an end with while it runs. Returns what to call then. */
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

  /** As ask, for what the process does by itself. */
  call<T>(member: Member, call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const forget = member.onEnd(() => reject(new BrokerError('UNAVAILABLE', 'the process is gone')));
      call().then(resolve, reject).finally(forget);
    });
  }
}
