// What is said to a state machine and by it, line by line, as the golden files have it. Invariant: a state is
// written down when it has changed, and only then.

export class Transcript {
  readonly #lines: string[];
  #shown = '';

  constructor(title: string) {
    this.#lines = [title, ''];
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  protected write(line: string): void {
    this.#lines.push(line);
  }

  protected showState(state: string): void {
    if (state !== this.#shown) this.write(`  = ${state}`);
    this.#shown = state;
  }
}
