// Which lines were not published and why, on stderr. Lines that failed for one reason are told together, as
// ranges: after a while in which more of them could fail, or at the end.

/** How long failures are gathered before they are told. */
const GATHER_MS = 1_000;
/** How many ranges a line of text has at most. */
const RANGES_TOLD = 20;
/** How many lines are kept to be told together. */
const MAX_GATHERED = 100_000;

export class LineFailures {
  readonly #tell: (text: string) => void;
  /** The lines that failed, by reason. */
  readonly #lines = new Map<string, number[]>();
  #gathered = 0;
  #timer: NodeJS.Timeout | undefined;
  count = 0;

  constructor(tell: (text: string) => void) {
    this.#tell = tell;
  }

  /** Adds a line; lines may come in any order, each once. */
  add(line: number, reason: string): void {
    this.count += 1;
    this.#gathered += 1;
    const lines = this.#lines.get(reason);
    if (lines === undefined) this.#lines.set(reason, [line]);
    else lines.push(line);
    if (this.#gathered >= MAX_GATHERED) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
  }

  /** Tells what was not told yet. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [reason, lines] of this.#lines) {
      const ranges = rangesOf(lines.sort((a, b) => a - b));
      for (let at = 0; at < ranges.length; at += RANGES_TOLD)
        this.#tell(`${named(ranges.slice(at, at + RANGES_TOLD))}: ${reason}`);
    }
    this.#lines.clear();
    this.#gathered = 0;
  }
}

interface Range {
  readonly first: number;
  readonly last: number;
}

function rangesOf(sorted: readonly number[]): Range[] {
  const ranges: Range[] = [];
  for (const line of sorted) {
    const previous = ranges.at(-1);
    if (previous?.last === line - 1) ranges[ranges.length - 1] = { first: previous.first, last: line };
    else ranges.push({ first: line, last: line });
  }
  return ranges;
}

/** "line 3", "lines 3 to 5", "lines 3 to 5, 7 and 9". */
function named(ranges: readonly Range[]): string {
  const texts = ranges.map(({ first, last }) => (first === last ? `${first}` : `${first} to ${last}`));
  const list = texts.length === 1 ? texts[0]! : `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`;
  const isOne = ranges.length === 1 && ranges[0]!.first === ranges[0]!.last;
  return `${isOne ? 'line' : 'lines'} ${list}`;
}
