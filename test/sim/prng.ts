// Seeded chance: everything that a simulation leaves open is drawn from one of these.
//
// Each actor draws from its own fork, so that one more decision of a consumer does not change what the store
// does: a trace changes where the behaviour does.
import type { Random } from '../../services/broker/ports/clock.ts';
import { seededRandom } from '../support/random.ts';

export class Chance {
  readonly random: Random;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  fork(): Chance {
    return new Chance(Math.floor(this.random() * 0x1_0000_0000));
  }

  bool(probability: number): boolean {
    return this.random() < probability;
  }

  /** Both ends are included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.random() * (max - min + 1));
  }

  /** Both ends are included; each order of magnitude is as likely as any other. */
  scale(min: number, max: number): number {
    return Math.round(min * (max / min) ** this.random());
  }

  /** The pause until the next of independent events. Never so long that it outlasts a simulation's end. */
  pauseMs(perSecond: number): number {
    return Math.min(20_000, (-Math.log(1 - this.random()) * 1000) / perSecond);
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)]!;
  }

  shuffled<T>(list: readonly T[]): T[] {
    const result = [...list];
    for (let i = result.length - 1; i > 0; i -= 1) {
      const j = this.int(0, i);
      [result[i], result[j]] = [result[j]!, result[i]!];
    }
    return result;
  }
}
