// Text from elsewhere, fit to be shown: nothing in it moves a cursor, forges a line or turns the order of
// what stands beside it. Invariant: what comes out comes out of a second call as it is, and JSON stays the
// same JSON, since each escape is one of JSON's.

/**
 * Control characters (C0, DEL, C1), invisible ones that format or turn text, line and paragraph separators,
 * and what Unicode gives no meaning.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** The text on one line; what can't be shown is escaped as in JSON: \n, \t, \u001b, \u202e. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, escaped);
}

/** The same for a text of several lines, which stay lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

function escaped(character: string): string {
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  const units = [...Array(character.length).keys()].map((at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}
