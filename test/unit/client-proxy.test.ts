// Which brokers are reached through the proxy that the environment names, and which directly.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseAddress } from '../../services/client/address.ts';
import { type Environment, proxyFor } from '../../services/client/proxy.ts';

const PROXY = { https_proxy: 'http://proxy.example:3128' };
const at = (address: string, env: Environment) => proxyFor(parseAddress(address), env);

test.each([
  [{ grpc_proxy: 'http://g', https_proxy: 'http://s', http_proxy: 'http://h' }, 'g', 80, 'grpc_proxy'],
  [{ https_proxy: 'http://s:1', http_proxy: 'http://h' }, 's', 1, 'https_proxy'],
  [{ grpc_proxy: '', http_proxy: 'http://h:65535/' }, 'h', 65_535, 'http_proxy'],
  [{ http_proxy: 'proxy:3128' }, 'proxy', 3128, 'http_proxy'],
  [{ http_proxy: 'http://[::2]:3128' }, '::2', 3128, 'http_proxy'],
])('%j', (env, host, port, variable) => {
  expect(at('broker:7443', env)).toEqual({ kind: 'proxy', host, port, variable, credentials: undefined });
});

test('credentials are decoded', () => {
  expect(at('broker', { http_proxy: 'http://me%40x:p%3Aw@h' })).toMatchObject({ credentials: 'me@x:p:w' });
});

test.each(['https://proxy:1', 'socks5://user:secret@proxy:1', 'http://', 'http://a b'])(
  '%s can not be used',
  (value) => {
    const proxy = at('broker', { https_proxy: value });
    expect(proxy).toMatchObject({ kind: 'unusable', problem: expect.stringContaining('https_proxy is') });
    expect(JSON.stringify(proxy)).not.toContain('secret');
    expect(at('localhost', { https_proxy: value })).toBeUndefined();
  },
);

test('without variables, and to loopback with any, there is no proxy', () => {
  expect(at('broker', {})).toBeUndefined();
  expect(at('broker', { HTTPS_PROXY: 'http://upper' })).toBeUndefined();
  const variable = fc.constantFrom(
    'grpc_proxy',
    'https_proxy',
    'http_proxy',
    'no_proxy',
    'NO_PROXY',
    'no_grpc_proxy',
  );
  const env = fc.dictionary(
    variable,
    fc.oneof(
      fc.string(),
      fc.constantFrom('http://proxy:3128', 'socks5://x', 'localhost', '*', '127.0.0.1/8'),
    ),
  );
  const loopback = fc.constantFrom(
    'localhost',
    '127.0.0.1',
    '127.8.9.10:1',
    '[::1]:7443',
    '::1',
    'a.localhost',
  );
  fc.assert(
    fc.property(env, loopback, (variables, address) => {
      expect(at(address, variables)).toBeUndefined();
    }),
  );
});

test.each([
  ['*', 'broker.example', true],
  ['broker.example', 'broker.example', true],
  ['BROKER.example', 'broker.example:1', true],
  ['broker.example:7443', 'broker.example', true],
  ['broker.example:7443', 'broker.example:7444', false],
  ['broker.example', 'broker.example.', true],
  ['example', 'broker.example', true],
  ['.example', 'broker.example', true],
  ['*.example', 'broker.example', true],
  ['.example', 'example', true],
  ['xample', 'broker.example', false],
  ['roker.example', 'broker.example', false],
  ['a.example', 'broker.example', false],
  ['other, broker.example', 'broker.example', true],
  ['other broker.example', 'broker.example', true],
  [' , ,', 'broker.example', false],
  ['10.0.0.1', '10.0.0.1', true],
  ['10.0.0.1:7443', '10.0.0.1', true],
  ['10.0.0.1:7444', '10.0.0.1', false],
  ['10.0.0.1', '10.0.0.11', false],
  ['0.0.0.1', '10.0.0.1', false],
  ['10.0.0.0/8', '10.200.3.4', true],
  ['10.0.0.0/8', '11.0.0.1', false],
  ['10.0.0.0/0', '11.0.0.1', true],
  ['10.0.0.0/33', '10.0.0.0', false],
  ['10.0.0.0/x', '10.0.0.0', false],
  ['10.0.0.0/8', 'broker.example', false],
  ['fd00::/8', '[fd12::1]:7443', true],
  ['fd00::/8', '[fe80::1]:7443', false],
  ['fd00:0::1', 'fd00::1', true],
  ['[fd00::1]:7443', 'fd00::1', true],
  ['[fd00::1]:1', 'fd00::1', false],
])('no_proxy=%j, %s: directly %s', (value, address, directly) => {
  for (const name of ['no_proxy', 'NO_PROXY', 'no_grpc_proxy']) {
    expect(at(address, { ...PROXY, [name]: value }) === undefined).toBe(directly);
  }
});

test('no_proxy and NO_PROXY count both; no_grpc_proxy counts instead of them', () => {
  const env = { ...PROXY, no_proxy: 'a.example', NO_PROXY: 'b.example' };
  expect(at('a.example', env)).toBeUndefined();
  expect(at('b.example', env)).toBeUndefined();
  expect(at('a.example', { ...env, no_grpc_proxy: 'c.example' })).toMatchObject({ kind: 'proxy' });
});
