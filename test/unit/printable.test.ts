// core/printable.ts: what comes out can do nothing to a terminal, and what could do nothing is left alone.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { printable, printableLines } from '../../services/broker/core/printable.ts';
import { cases } from '../support/property.ts';

test.each([
  ['\0\u001b]0;x\u0007', '\\u0000\\u001b]0;x\\u0007'],
  ['a\tb\r\n', 'a\\tb\\r\\n'],
  ['\u007f\u0085\u009b2J', '\\u007f\\u0085\\u009b2J'],
  ['\u2028\u2029', '\\u2028\\u2029'],
  ['\u200b\u202e\u2066\ufeff', '\\u200b\\u202e\\u2066\\ufeff'],
  // Of the tags, which nobody sees: two units each.
  ['\u{e0041}', '\\udb40\\udc41'],
  ['\ud800', '\\ud800'],
  ['é 漢 🎉 "\\" =', 'é 漢 🎉 "\\" ='],
])('%j', (text, shown) => {
  expect(printable(text)).toBe(shown);
});

test('lines stay lines', () => {
  expect(printableLines('a\u001bb\n\nc\r\n')).toBe('a\\u001bb\n\nc\\r\n');
});

test('twice is as once, nothing invisible is left, and JSON stays the same JSON', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const shown = printable(text);
      expect(printable(shown)).toBe(shown);
      expect(shown).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
      expect(JSON.parse(printable(JSON.stringify(text)))).toBe(text);
    }),
    cases(2_000),
  );
});
