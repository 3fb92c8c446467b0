// What happened, line by line, with the virtual time: for people (TRACE=1) and for the proof that a seed
// replays. It is off by default, because a line costs more than the event it tells of.
import type { Clock } from '../../services/broker/ports/clock.ts';

export class Trace {
  readonly lines: string[] = [];
  readonly on: boolean;
  readonly #clock: Clock;

  constructor(on: boolean, clock: Clock) {
    this.on = on;
    this.#clock = clock;
  }

  /** Call it as `if (trace.on) trace.say(…)`, so that no text is made for nobody. */
  say(who: string, what: string): void {
    if (!this.on) return;
    this.lines.push(`${this.#clock.monotonicMs().toFixed(1).padStart(9)} ${who.padEnd(18)} ${what}`);
  }

  /** FNV-1a over all lines. */
  hash(): number {
    let hash = 0x811c9dc5;
    for (const line of this.lines) {
      for (let i = 0; i < line.length; i += 1) hash = Math.imul(hash ^ line.charCodeAt(i), 0x01000193) >>> 0;
    }
    return hash;
  }
}
