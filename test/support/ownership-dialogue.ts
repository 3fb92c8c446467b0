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

export class OwnershipDialogue {
  readonly #lines: string[] = [];
  #ownership: Ownership = newOwnership(0);
  #facts: OwnershipFacts = { nowMs: 0, mayAct: true, mine: true, go: false, handOverMs: 5_000 };
  #shown = '';

  constructor(title: string) {
    this.#lines.push(title, '');
    this.#showState();
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  /** What is so from now on. */
  now(facts: Partial<OwnershipFacts>): this {
    this.#facts = { ...this.#facts, ...facts };
    const said = Object.entries(facts).map(([name, value]) => `${name} ${value}`);
    this.#lines.push(`  (${said.join(', ')})`);
    return this;
  }

  on(event: OwnershipEvent): this {
    const { kind, ...details } = event;
    this.#lines.push(`> ${kind}${told(details)}`);
    const { after, effects } = stepOwnership(this.#ownership, event, this.#facts);
    this.#ownership = after;
    for (const effect of effects) this.#lines.push(`  < ${sayEffect(effect)}`);
    this.#showState();
    return this;
  }

  #showState(): void {
    const { state, work, failures } = this.#ownership;
    const { kind, ...details } = state;
    const failed = failures === 0 ? '' : `, failed ${failures}×`;
    const shown = `${kind}${told(details)}${work === 'none' ? '' : `, work ${work}`}${failed}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#lines.push(`  = ${shown}`);
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
