// The commands that test/first-contact/texts.ts takes out of the README and of greetings.
import { expect, test } from 'vitest';
import { commandsOfGreeting, commandsOfReadme } from '../first-contact/texts.ts';

const README = [
  '# Product',
  '',
  '## One',
  '',
  'Words, `inline code`:',
  '',
  '```',
  'npm ci && npm start      # a broker',
  "printf 'a #1\\n' | ./fanfare pub orders --key-field 1",
  '```',
  '',
  '```ts',
  'await client.close();',
  '```',
  '',
  '```',
  './fanfare top',
  '```',
  '',
  '## Two',
  '',
  '```',
  './fanfare cluster',
  '```',
  '',
].join('\n');

test('commands of a section of the README: its code blocks without a language, as they stand, without comments', () => {
  expect(commandsOfReadme(README, 'One')).toEqual([
    'npm ci && npm start',
    "printf 'a #1\\n' | ./fanfare pub orders --key-field 1",
    './fanfare top',
  ]);
  expect(commandsOfReadme(README, 'Two')).toEqual(['./fanfare cluster']);
});

test('a section that is not there, or has no commands, is an error', () => {
  expect(() => commandsOfReadme(README, 'Three')).toThrow('no section "Three"');
  expect(() => commandsOfReadme('# P\n\n## One\n\nWords.\n', 'One')).toThrow('"One" has no commands');
});

test('commands of a greeting', () => {
  const said =
    '    not this\n  Ready on 127.0.0.1:1\n\n  In a second terminal, in this folder:\n    ./fanfare sub audit\n  In a third:\n    kill -9 12   # comes back\n\n  Ctrl-C stops it.\n';
  expect(commandsOfGreeting(said)).toEqual(['./fanfare sub audit', 'kill -9 12']);
  expect(() => commandsOfGreeting('it failed')).toThrow('no greeting');
});
