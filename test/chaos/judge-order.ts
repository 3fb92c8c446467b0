// The judge's rule of order: the answered messages of a key are taken in the order of publishing; each is
// handled for the first time after all those before it that were handled at all (one that never was is lost,
// which the judge finds elsewhere).
import { add, type Finding } from './verdict.ts';

/** More messages than a line of the journal has. */
export const PER_LINE = 10_000;

/**
 * Where in the journal each message of a publisher was handled for the first time, by the message's number:
 * line × PER_LINE + place in the line.
 */
export type Handled = (number | undefined)[];

/** Adds to `found` what is out of order in the messages of one publisher: no key has two publishers. */
export function misorderedIn(
  subscription: string,
  publisher: string,
  messages: readonly { readonly key: string; readonly answered: boolean }[],
  places: Handled,
  found: Finding,
): void {
  /** The message handled last of each key's messages so far, by key. */
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
