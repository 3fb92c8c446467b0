// core/names.ts: which names are allowed, and what is said of others.
import { describe, expect, test } from 'vitest';
import { BrokerError } from '../../services/broker/core/errors.ts';
import {
  MAX_NAME_LENGTH,
  nameProblem,
  parseProjectName,
  parseSubscriptionName,
  parseTopicName,
} from '../../services/broker/core/names.ts';

describe('names', () => {
  test.each([
    'projects/p/topics/abc',
    'projects/default/topics/orders',
    'projects/a-b_c.d~e+f%g/topics/A-b_c.d~e+f%g0',
    `projects/${'p'.repeat(255)}/topics/${'t'.repeat(255)}`,
  ])('takes %s', (name) => {
    const [, project, , id] = name.split('/');
    expect(parseTopicName(name, 'topic')).toEqual({ project, id });
  });

  test.each([
    ['', 'must be projects/{project}/topics/{id}'],
    ['orders', 'must be projects/{project}/topics/{id}'],
    ['projects/p/subscriptions/abc', 'must be projects/{project}/topics/{id}'],
    ['projects/p/topics/abc/', 'must be projects/{project}/topics/{id}'],
    ['projects/p/topics/abc/d', 'must be projects/{project}/topics/{id}'],
    ['/projects/p/topics/abc', 'must be projects/{project}/topics/{id}'],
    ['x'.repeat(5_000_000), `at most ${MAX_NAME_LENGTH} characters`],
    ['projects/p/topics/ab', 'the id "ab" has 2 characters: must have 3 to 255'],
    [`projects/p/topics/${'t'.repeat(256)}`, 'has 256 characters: must have 3 to 255'],
    ['projects//topics/abc', 'the project "" has 0 characters: must have 1 to 255'],
    ['projects/p/topics/1abc', 'must begin with a letter'],
    ['projects/1/topics/abc', 'must begin with a letter'],
    ['projects/p/topics/a b', 'may contain only letters, digits and -_.~+%'],
    ['projects/p/topics/äbc', 'must begin with a letter'],
    ['projects/p/topics/abc\n', 'may contain only letters'],
    ['projects/p/topics/abc\0', 'may contain only letters'],
    ['projects/p/topics/google', 'must not begin with "goog"'],
    ['projects/googol/topics/abc', 'must not begin with "goog"'],
  ])('refuses %j', (name, problem) => {
    expect(() => parseTopicName(name, 'topic.name')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(problem) }),
    );
    expect(() => parseTopicName(name, 'topic.name')).toThrow(/^topic\.name: /);
  });

  test('a message stays short and on one line, whatever was given', () => {
    const problem = nameProblem(`projects/p/topics/\ud800${'\n'.repeat(400)}`, 'topics') ?? '';
    expect(problem.length).toBeLessThan(400);
    expect(problem).not.toContain('\n');
    expect(problem.isWellFormed()).toBe(true);
  });

  test('a message has no character that a terminal obeys', () => {
    const problem = nameProblem('projects/p/topics/\u009b2J\u0085\u2028\u202e\u007f', 'topics') ?? '';
    expect(problem).toContain('"\\u009b2J\\u0085\\u2028\\u202e\\u007f"');
  });

  test('projects and subscriptions', () => {
    expect(parseProjectName('projects/p', 'parent')).toBe('p');
    for (const bad of ['', 'p', 'projects/', 'projects/p/', 'projects/p/topics', 'projects/9']) {
      expect(() => parseProjectName(bad, 'parent')).toThrow(BrokerError);
    }
    expect(parseSubscriptionName('projects/p/subscriptions/abc', 's')).toEqual({ project: 'p', id: 'abc' });
    expect(() => parseSubscriptionName('projects/p/topics/abc', 's')).toThrow(BrokerError);
  });
});
