// The forms in which people write addresses of brokers, and what is said of those that are none.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAddress, isLoopback, parseAddress, parseAddresses } from '../../services/client/address.ts';

test.each([
  ['localhost', 'localhost:7443'],
  ['localhost:1', 'localhost:1'],
  ['Broker.Example:65535', 'broker.example:65535'],
  ['broker.example.', 'broker.example.:7443'],
  ['127.0.0.1', '127.0.0.1:7443'],
  ['127.0.0.1:7443', '127.0.0.1:7443'],
  [':7531', 'localhost:7531'],
  ['::1', '[::1]:7443'],
  ['[::1]', '[::1]:7443'],
  ['[::1]:7531', '[::1]:7531'],
  ['2001:DB8::A', '[2001:db8::a]:7443'],
  ['https://broker.example:7531/', 'broker.example:7531'],
  ['https://broker.example', 'broker.example:7443'],
  ['https://[::1]:7531', '[::1]:7531'],
  ['dns:///broker.example:7531', 'broker.example:7531'],
  ['dns:broker.example', 'broker.example:7443'],
  ['dns:7531', 'dns:7531'],
  ['unix:7531', 'unix:7531'],
  ['ipv4:127.0.0.1:7531', '127.0.0.1:7531'],
  ['ipv6:[::1]:7531', '[::1]:7531'],
  ['  broker:7531\t', 'broker:7531'],
  ['compose_broker_1:7531', 'compose_broker_1:7531'],
  ['bücher.example:7531', 'xn--bcher-kva.example:7531'],
])('%j is %j', (text, canonical) => {
  expect(formatAddress(parseAddress(text))).toBe(canonical);
  expect(parseAddresses(text)).toEqual([canonical]);
});

test.each([
  ['', 'is empty'],
  [' ,, ', 'is empty'],
  ['host:99999', 'has port "99999": a port is 1 to 65535'],
  ['host:0', 'has port "0": a port is 1 to 65535'],
  [':0', 'has port "0": a port is 1 to 65535'],
  ['host:abc', 'has port "abc": a port is 1 to 65535'],
  ['host:-1', 'has port "-1": a port is 1 to 65535'],
  ['host:', 'has port "": a port is 1 to 65535'],
  [':', 'has port "": a port is 1 to 65535'],
  ['host:7443/path', 'has port "7443/path": a port is 1 to 65535'],
  ['host:1:2', 'has port "1:2": a port is 1 to 65535'],
  ['[::1', 'an IPv6 address with a port is written in brackets'],
  ['[host]:7443', 'has no IPv6 address between its brackets'],
  ['[::1%eth0]:7443', 'has a zone of an IPv6 address'],
  ['http://host:7443', 'begins with http://'],
  ['redis://host:7443', 'begins with redis://'],
  ['https://', 'names no host'],
  ['dns://8.8.8.8/host:7443', 'names a DNS server'],
  ['ipv4:host:7443', 'names no IPv4 address'],
  ['ipv6:127.0.0.1:7443', 'names no IPv6 address'],
  ['unix:/run/fanfare.sock', 'is a Unix socket'],
  ['unix:///run/fanfare.sock', 'is a Unix socket'],
  ['/run/fanfare.sock', 'has "/" in its host name'],
  ['me@host:7443', 'has "@" in its host name'],
  ['two words:7443', 'has " " in its host name'],
  ['host\u0000:7443', 'has no valid host name'],
  ['-host:7443', 'has no valid host name'],
  ['a..b:7443', 'has no valid host name'],
  [`${'a'.repeat(64)}:7443`, 'has no valid host name'],
  [`${'a.'.repeat(127)}a:7443`, 'has a host name of more than 253 characters'],
  ['127.1:7443', 'names neither a host nor a whole IPv4 address'],
  ['999.1.1.1:7443', 'names neither a host nor a whole IPv4 address'],
])('%j is refused: it %s', (text, why) => {
  expect(() => parseAddresses(text)).toThrow(
    expect.objectContaining({
      name: 'FanfareError',
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(why),
    }),
  );
});

test('several addresses: in order, once each, with commas to spare', () => {
  expect(parseAddresses('b:1, a , b:1,a:7443,')).toEqual(['b:1', 'a:7443']);
  const many = (count: number) => Array.from({ length: count }, (_, n) => `b${n}`).join(',');
  expect(parseAddresses(many(64))).toHaveLength(64);
  expect(() => parseAddresses(many(65))).toThrow('are 65 addresses: at most 64');
});

test('whatever is typed: an address in its one form, or INVALID_ARGUMENT', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc
      .array(
        fc.constantFrom(
          ':',
          '[',
          ']',
          '/',
          '.',
          ',',
          '1',
          '::1',
          'a',
          'dns',
          'ipv4',
          'https://',
          '127.0.0.1',
          ':7443',
        ),
      )
      .map((parts) => parts.join('')),
    fc.ipV6(),
  );
  fc.assert(
    fc.property(text, (typed) => {
      let addresses: readonly string[];
      try {
        addresses = parseAddresses(typed);
      } catch (error) {
        expect(error).toMatchObject({ name: 'FanfareError', code: 'INVALID_ARGUMENT' });
        return;
      }
      expect(parseAddresses(addresses.join(','))).toEqual(addresses);
      for (const address of addresses) expect(address).toMatch(/^(\[[0-9a-f:.]+\]|[a-z0-9._-]+):\d+$/);
    }),
  );
}, 20_000);

test.each([
  ['localhost', true],
  ['my.localhost', true],
  ['127.0.0.1', true],
  ['127.255.1.2', true],
  ['::1', true],
  ['0:0:0:0:0:0:0:1', true],
  ['::ffff:127.0.0.1', true],
  ['::2', false],
  ['128.0.0.1', false],
  ['0.0.0.0', false],
  ['localhost.example', false],
  ['127.example', false],
])('%s is this machine: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});
