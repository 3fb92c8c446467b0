// A setting of each topic or subscription as the store has had it in the course of time. Brokers hear of
// a change late, and are judged by what they may know.

interface Span<T> {
  readonly value: T;
  /** Infinity: it is in force. */
  readonly untilMs: number;
}

/** Until every broker goes by a change: one may be paused or cut off from the store. */
const NEWS_MS = 10_000;

export class InForce<T> {
  /** By incarnation; what is in force comes last. */
  readonly #spans = new Map<number, Span<T>[]>();

  set(incarnation: number, value: T, nowMs: number): void {
    const spans = this.#spans.get(incarnation) ?? [];
    const replaced = spans.pop();
    if (replaced !== undefined) spans.push({ ...replaced, untilMs: nowMs });
    spans.push({ value, untilMs: Number.POSITIVE_INFINITY });
    this.#spans.set(incarnation, spans);
  }

  present(incarnation: number): T | undefined {
    return this.#spans.get(incarnation)?.at(-1)?.value;
  }

  /** Of all that a broker may go by. */
  lately(incarnation: number, nowMs: number): T[] {
    const spans = this.#spans.get(incarnation) ?? [];
    return spans.filter(({ untilMs }) => nowMs - untilMs < NEWS_MS).map(({ value }) => value);
  }

  /** Returns what is to be called when the store has forgotten what came after. */
  checkpoint(): (nowMs: number) => void {
    const before = new Map(
      [...this.#spans].map(([incarnation, spans]) => [incarnation, spans.at(-1)!.value]),
    );
    return (nowMs) => {
      for (const [incarnation, value] of before) this.set(incarnation, value, nowMs);
    };
  }
}
