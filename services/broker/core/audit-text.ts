// Texts of callers as an audit line has them: bounded as they are written there, and escaped once, by the
// log. Whatever a caller sends, a line is short.

/**
 * The text, cut so that it takes at most `maxBytes` as JSON in UTF-8; the cut is marked. Well-formed.
 */
export function auditText(text: string, maxBytes: number): string {
  const mark = '…';
  const room = maxBytes - encodedBytes(mark);
  // A caller may send megabytes, and no character takes less than a byte.
  const start = text.slice(0, maxBytes + 1).toWellFormed();
  let bytes = 0;
  let fitting = '';
  for (const character of start) {
    bytes += encodedBytes(character);
    if (bytes > maxBytes) return fitting + mark;
    if (bytes <= room) fitting += character;
  }
  return start;
}

/** A message to people without the quoting of names in it: in a line the log quotes all of it. */
export function unquoted(message: string): string {
  return message.replace(/"(?:[^"\\]|\\.)*"/g, (quoted) => {
    try {
      return `“${JSON.parse(quoted)}”`;
    } catch {
      // It was no quoted name.
      return quoted;
    }
  });
}

/** Of one character, as JSON in UTF-8. */
function encodedBytes(character: string): number {
  const point = character.codePointAt(0)!;
  if (point < 0x80) return JSON.stringify(character).length - 2;
  return point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
}
