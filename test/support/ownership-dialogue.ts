// Runs core/ownership.ts for one partition and writes down what is said: > is an event, < an effect, = the
// state when it has changed. A changed behaviour reads as a changed dialogue.
import {
  newOwnership,
  type Ownership,
  type OwnershipEffect,
  type OwnershipEvent,
  type OwnershipFacts,
  stepOwnership,
} from '../../services/broker/core/ownership.ts';
import { Transcript } from './transcript.ts';

export class OwnershipDialogue extends Transcript {
  #ownership: Ownership = newOwnership(0);
  #facts: OwnershipFacts = { nowMs: 0, mayAct: true, mine: true, go: false, handOverMs: 5_000 };

  constructor(title: string) {
    super(title);
    this.#showState();
  }

  /** What is so from now on. */
  now(facts: Partial<OwnershipFacts>): this {
    this.#facts = { ...this.#facts, ...facts };
    const said = Object.entries(facts).map(([name, value]) => `${name} ${value}`);
    this.write(`  (${said.join(', ')})`);
    return this;
  }

  on(event: OwnershipEvent): this {
    const { kind, ...details } = event;
    this.write(`> ${kind}${told(details)}`);
    const { after, effects } = stepOwnership(this.#ownership, event, this.#facts);
    this.#ownership = after;
    for (const effect of effects) this.write(`  < ${sayEffect(effect)}`);
    this.#showState();
    return this;
  }

  #showState(): void {
    const { state, work, failures } = this.#ownership;
    const { kind, ...details } = state;
    const failed = failures === 0 ? '' : `, failed ${failures}×`;
    this.showState(`${kind}${told(details)}${work === 'none' ? '' : `, work ${work}`}${failed}`);
  }
}

function sayEffect({ kind, ...details }: OwnershipEffect): string {
  return `${kind}${told(details)}`;
}

function told(details: object): string {
  const said = Object.entries(details)
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name, value]) => {
      if (value === true) return name;
      if (typeof value !== 'object') return `${name} ${value}`;
      return Object.values(value as object).join(': ');
    });
  return said.length === 0 ? '' : ` (${said.join(', ')})`;
}
