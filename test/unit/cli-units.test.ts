// What people type as numbers, with and without units: taken exactly, or refused with what it may be.
import { InvalidArgumentError } from 'commander';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createProgram } from '../../services/cli/program.ts';
import { parseCount, parseDuration, parsePair, parseSize, parseText } from '../../services/cli/units.ts';
import { cases } from '../support/property.ts';

type Parse = (text: string) => unknown;

const duration: Parse = parseDuration({ min: 1_000, max: 600_000 });
const anyDuration: Parse = parseDuration({ min: 0, max: 1e15 });
const size: Parse = parseSize({ min: 1024, max: 1024 ** 4 });
const sizeOrZero: Parse = parseSize({ min: 1024 ** 2, max: 1024 ** 5, orZero: true });
const count: Parse = parseCount(1, 1_024);
const anyCount: Parse = parseCount(1);

test.each<[name: string, parse: Parse, text: string, value: number]>([
  ['duration', anyDuration, '1500ms', 1_500],
  ['duration', anyDuration, '1.5h', 5_400_000],
  ['duration', anyDuration, '1h30m', 5_400_000],
  ['duration', anyDuration, '1d', 86_400_000],
  ['duration', anyDuration, '366d', 31_622_400_000],
  ['duration', anyDuration, '0.1s', 100],
  ['duration', anyDuration, '0.07s', 70],
  ['duration', anyDuration, '1.005s', 1_005],
  ['duration', anyDuration, '0s', 0],
  ['duration', duration, '1s', 1_000],
  ['duration', duration, '10m', 600_000],
  ['size', size, '1024', 1024],
  ['size', size, '64KiB', 65_536],
  ['size', size, '64 kib', 65_536],
  ['size', size, '1GiB', 1024 ** 3],
  ['size', size, '1.5GB', 1_500_000_000],
  ['size', size, '10mb', 10_000_000],
  ['size', size, '2048B', 2_048],
  ['size', sizeOrZero, '0', 0],
  ['size', sizeOrZero, '0GiB', 0],
  ['count', count, '1', 1],
  ['count', count, '1024', 1_024],
  ['count', count, '007', 7],
  ['count', anyCount, '9007199254740991', Number.MAX_SAFE_INTEGER],
])('%s %#: "%s" is taken as it is', (_name, parse, text, value) => {
  expect(parse(text)).toBe(value);
});

const NO_DURATION = 'Give a number with ms, s, m, h or d, such as 30s, 1h30m or 7d.';
const NO_SIZE = 'Give bytes, or a number with KiB, MiB, GiB or TiB, such as 64KiB.';
const NO_COUNT = 'Give a whole number from 1 to 1,024, in digits.';

test.each<[parse: Parse, texts: readonly string[], says: string]>([
  [
    duration,
    ['', '5', '-1s', '+1s', '1 s', '1w', '1S', 's', '.5s', '1.s', '1e3s', '0x10s', 'NaN', 'Infinity', '1s '],
    NO_DURATION,
  ],
  [duration, ['0s', '999ms', '601s', '1d', `${'9'.repeat(400)}d`], 'It has to be from 1s to 10m.'],
  [duration, ['1000.5ms', '1.0001s'], 'Give whole milliseconds.'],
  [parseDuration({ min: 60_000, max: 366 * 86_400_000 }), ['59s', '367d'], 'It has to be from 1m to 366d.'],
  [size, ['', 'x', '1KB/s', '-1', '1K', '1e3', '0x10', 'NaN', '1,024', '1.5.5KiB', '1 2'], NO_SIZE],
  [size, ['0', '1023', '2TiB', '9'.repeat(400)], 'It has to be from 1 KiB to 1 TiB.'],
  [sizeOrZero, ['1', '1023KiB', '2000TiB'], 'It has to be from 1 MiB to 1,024 TiB, or 0.'],
  [size, ['1.3KiB'], 'That is 1331.2 bytes: give a whole number of bytes.'],
  [
    count,
    ['', '0', '-1', '1025', '4294967297', '1e3', '0x10', '1.5', '1.0', 'NaN', ' 1', '1,000', '1_000', '٣'],
    NO_COUNT,
  ],
  [anyCount, ['0', '9007199254740992', '9'.repeat(400)], 'Give a whole number of at least 1, in digits.'],
  [parseText(4), ['', 'abcde', 'äää'], ': give 1 to 4.'],
])('%# refused: %s %j', (parse, texts, says) => {
  for (const text of texts) {
    let error: unknown;
    try {
      expect(parse(text), `"${text}" is taken`).toBeUndefined();
    } catch (thrown) {
      error = thrown;
    }
    expect(error, `"${text}"`).toBeInstanceOf(InvalidArgumentError);
    expect((error as Error).message, `"${text}"`).toContain(says);
  }
});

test('a decimal fraction is what is written, not its nearest binary one', () => {
  fc.assert(
    fc.property(fc.nat(100_000), fc.nat(999), (whole, thousandths) => {
      const text = `${whole}.${String(thousandths).padStart(3, '0')}s`;
      expect(anyDuration(text)).toBe(whole * 1_000 + thousandths);
    }),
    cases(1_000),
  );
});

test('pairs: the first = divides, and no key is given twice', () => {
  expect(parsePair('a=b=c', { x: 'y' })).toEqual({ x: 'y', a: 'b=c' });
  expect(parsePair('a=')).toEqual({ a: '' });
  expect(Object.keys(parsePair('__proto__=x'))).toEqual(['__proto__']);
  for (const wrong of ['', 'a', '=b']) expect(() => parsePair(wrong)).toThrow('Give key=value.');
  expect(() => parsePair('a=2', { a: '1' })).toThrow('a is given twice.');
});

/** Every option of every command that takes a value that could be a number. */
function numericOptions() {
  const found: [command: string, flags: string, parse: (text: string, before: unknown) => unknown][] = [];
  const visit = (command: ReturnType<typeof createProgram>, path: string): void => {
    for (const { flags, parseArg } of command.options) {
      if (parseArg !== undefined && /<(count|number|duration|size|port)>/.test(flags))
        found.push([path, flags, parseArg as (text: string, before: unknown) => unknown]);
    }
    for (const child of command.commands) visit(child, `${path} ${child.name()}`);
  };
  visit(createProgram({ signal: new AbortController().signal }), 'fanfare');
  return found;
}

describe('odd numbers in every flag', () => {
  const options = numericOptions();
  test('there are some', () => expect(options.length).toBeGreaterThan(40));

  test.each(options)('%s %s', (_command, _flags, parse) => {
    for (const odd of [
      '',
      '-1',
      '-1s',
      '1e3',
      '0x10',
      'NaN',
      'Infinity',
      'ten',
      '1,000',
      `${'9'.repeat(30)}`,
    ]) {
      expect(() => parse(odd, undefined), `"${odd}"`).toThrow(InvalidArgumentError);
    }
    for (const huge of [`${'9'.repeat(30)}d`, `${'9'.repeat(30)}TiB`]) {
      expect(() => parse(huge, undefined), `"${huge}"`).toThrow(InvalidArgumentError);
    }
  });
});
