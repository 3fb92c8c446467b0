// URLs of Redis stores, and the slots of keys: what can be checked of the Redis adapter without a Redis.
import { describe, expect, test } from 'vitest';
import { slotOf } from '../../services/broker/adapters/redis/cluster-slot.ts';
import { parseTarget } from '../../services/broker/adapters/redis/target.ts';

describe('the URL of a Redis store', () => {
  test('one server', () => {
    expect(parseTarget('redis://localhost')).toEqual({
      kind: 'server',
      endpoints: [{ host: 'localhost', port: 6379 }],
      masterName: '',
      database: 0,
      tls: false,
      username: undefined,
      password: undefined,
      shown: 'redis://localhost',
    });
    expect(parseTarget('rediss://app:p%40ss:word@[::1]:7000/3')).toMatchObject({
      endpoints: [{ host: '::1', port: 7000 }],
      database: 3,
      tls: true,
      username: 'app',
      password: 'p@ss:word',
      shown: 'rediss://[::1]:7000/3',
    });
    expect(parseTarget('redis://:secret@h/')).toMatchObject({ username: undefined, password: 'secret' });
  });

  test('Sentinels and a Cluster', () => {
    expect(parseTarget('rediss+sentinel://a,b:1/mymaster')).toMatchObject({
      kind: 'sentinel',
      endpoints: [
        { host: 'a', port: 26379 },
        { host: 'b', port: 1 },
      ],
      masterName: 'mymaster',
      tls: true,
    });
    expect(parseTarget('redis+cluster://a:7000,b:7001')).toMatchObject({
      kind: 'cluster',
      endpoints: [
        { host: 'a', port: 7000 },
        { host: 'b', port: 7001 },
      ],
      tls: false,
    });
  });

  test('given credentials win over those of the URL', () => {
    expect(parseTarget('redis://a:b@h', { password: 'c' })).toMatchObject({ username: 'a', password: 'c' });
  });

  test.each([
    ['http://h', /known form/],
    ['redis://', /known form/],
    ['redis://h?x=1', /known form/],
    ['redis://a,b', /several servers/],
    ['redis://h:0', /HOST:PORT/],
    ['redis://h:70000', /HOST:PORT/],
    ['redis://h/x', /number of a database/],
    ['redis+sentinel://h', /call the master/],
    ['redis+cluster://h/1', /only database 0/],
    ['redis://u:%zz@h', /percent-encoded/],
  ])('%s is refused, and says why', (url, why) => {
    expect(() => parseTarget(url)).toThrow(why);
  });

  test('a refusal does not show the password', () => {
    expect(() => parseTarget('redis://user:secret@h:0')).toThrow(/^(?!.*secret).*$/);
    for (const url of [
      'nonsense://user:secret@h',
      'redis://us/er:secret@h',
      'redis+sentinel://us/er:secret@h',
      'redis:/u:secret@h',
      'u:secret@h:6379',
      'redis://h?password=secret',
      'redis://us,secret:x@h:0',
    ])
      expect(() => parseTarget(url)).toThrow(/^the store "[a-z+:]*…" (?!.*secret).*$/);
  });
});

test('slots are those of the Cluster specification', () => {
  // These are the answers of CLUSTER KEYSLOT of a Redis 7.0.
  expect(slotOf('123456789')).toBe(12_739);
  expect(slotOf('foo')).toBe(12_182);
  expect(slotOf('fanfare:{foo}:meta')).toBe(12_182);
  expect(slotOf('{}foo')).not.toBe(12_182);
  expect(slotOf('')).toBe(0);
});
