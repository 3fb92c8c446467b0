// The judge's rule of order: of the answered messages of a key, in the order of publishing, each is handled for the first time
// after all those before it that were handled at all (one that never was is lost, which is said elsewhere).
import { add, type Finding } from './verdict.ts';

/** More than a line of the journal has messages. */
export const PER_LINE = 10_000;

/** By a message's number: where in the journal it was handled for the first time, line × PER_LINE + place in the line. */
export type Handled = (number | undefined)[];

/** Adds what is out of order in the messages of one publisher: no key has two. */
export function misorderedIn(
  subscription: string,
  publisher: string,
  messages: readonly { readonly key: string; readonly answered: boolean }[],
  places: Handled,
  found: Finding,
): void {
  /** By key: of the messages so far the one that was handled last. */
  const latest = new Map<string, { readonly number: number; readonly place: number }>();
  for (const [number, { key, answered }] of messages.entries()) {
    const place = places[number];
    if (key === '' || !answered || place === undefined) continue;
    const before = latest.get(key);
    if (before === undefined || place > before.place) {
      latest.set(key, { number, place });
      continue;
    }
    const [line, lineBefore] = [place, before.place].map((each) => Math.floor(each / PER_LINE));
    add(
      found,
      `${subscription}: ${publisher}/${number} of key ${key} (line ${line}) came before ${publisher}/${before.number} (line ${lineBefore})`,
    );
  }
}
