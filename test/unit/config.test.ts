// The broker's configuration: flags, environment, file and defaults, and all problems reported together.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import {
  advertisedAddress,
  brokerName,
  type Config,
  parseConfig,
  principalMatcher,
} from '../../services/broker/config.ts';
import { serveHelp } from '../../services/broker/config-options.ts';

const dir = mkdtempSync(join(tmpdir(), 'fanfare-config-'));
afterAll(() => rmSync(dir, { recursive: true }));

function parse(argv: string[] = [], env: Record<string, string> = {}, terminal = false): Config {
  const parsed = parseConfig({ argv, env, terminal });
  if ('help' in parsed) throw new Error('it printed help');
  return parsed.config;
}

function configFile(content: string): string {
  const path = join(dir, 'fanfare.json');
  writeFileSync(path, content);
  return path;
}

describe('configuration', () => {
  test('defaults', () => {
    const config = parse();
    expect(config).toEqual({
      listen: { host: '127.0.0.1', port: 7443 },
      advertise: undefined,
      name: undefined,
      store: { kind: 'embedded' },
      dataDir: '.fanfare',
      tls: undefined,
      insecurePlaintext: false,
      maxStreamAgeMs: 30 * 60_000,
      maxConnectionAgeMs: 12 * 60 * 60_000,
      keepaliveMs: 30_000,
      drainTimeoutMs: 10_000,
      cacheBytes: 256 * 1024 ** 2,
      metricsListen: undefined,
      metricsToken: undefined,
      healthListen: undefined,
      auditLog: undefined,
      logLevel: 'info',
      logFormat: 'json',
      warnings: [],
    });
    expect(parse([], {}, true).logFormat).toBe('pretty');
    expect(Object.isFrozen(config) && Object.isFrozen(config.listen)).toBe(true);
  });

  test('a flag wins over the environment, that over the file, that over the default', () => {
    const path = configFile(
      '{"listen": "[::1]:1", "keepalive": "1m", "cache": "1GiB", "insecure-plaintext": true}',
    );
    const env = { FANFARE_CONFIG: path, FANFARE_LISTEN: '127.0.0.2:2', FANFARE_KEEPALIVE: '2m' };
    expect(parse(['--listen', '127.0.0.3:3'], env)).toMatchObject({
      listen: { host: '127.0.0.3', port: 3 },
      keepaliveMs: 120_000,
      cacheBytes: 1024 ** 3,
      insecurePlaintext: true,
    });
    expect(parse(['--config', path, '--no-insecure-plaintext']).insecurePlaintext).toBe(false);
    expect(parse(['--config', path]).listen).toEqual({ host: '::1', port: 1 });
  });

  test('all problems are reported together, with origin and what is allowed', () => {
    const path = configFile('{"keepalive": "never", "colour": "blue", "cache": ["1GiB"]}');
    const env = {
      FANFARE_MAX_STREAM_AGE: '30',
      FANFARE_LOG_LEVEL: 'loud',
      FANFARE_INSECURE_PLAINTEXT: 'maybe',
    };
    const argv = ['--config', path, '--listen', 'nowhere', '--drain-timeout=-1s'];
    expect(() => parse(argv, env)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    let message = '';
    try {
      parse(argv, env);
    } catch (error) {
      message = String(error);
    }
    for (const part of [
      `"colour" in ${path} is no option`,
      `cache in ${path} must be a string, a number, true or false`,
      '--listen is "nowhere": must be HOST:PORT',
      `keepalive in ${path} is "never": must be 1s to 24h`,
      'FANFARE_MAX_STREAM_AGE is "30": must be 1s to 7d',
      'FANFARE_LOG_LEVEL is "loud": must be one of trace',
      'FANFARE_INSECURE_PLAINTEXT is "maybe": must be true or false',
      '--drain-timeout is "-1s": must be 0s to 1h',
    ]) {
      expect(message).toContain(part);
    }
  });

  test.each([
    [
      ['--insecure-plaintext', '--listen', '0.0.0.0:7443'],
      /loopback address only, and --listen is 0\.0\.0\.0:7443/,
    ],
    [['--insecure-plaintext', '--listen', '[::]:7443'], /loopback address only/],
    [['--insecure-plaintext', '--listen', '127.evil.example:1'], /loopback address only/],
    [['--insecure-plaintext', '--tls-cert', 'a', '--tls-key', 'b', '--tls-ca', 'c'], /contradict each other/],
    [['--tls-cert', 'a', '--tls-ca', 'c'], /belong together, and only tls-cert, tls-ca is set/],
    [
      ['--listen', '0.0.0.0:7443'],
      /other machines reach 0\.0\.0\.0:7443, so give --tls-cert.*or --dev-certs/,
    ],
    [['--listen', 'broker.example:7443', '--store', 'redis://a:1'], /other machines reach broker\.example/],
    [['--dev-certs', '--insecure-plaintext'], /--dev-certs contradicts/],
    [['--dev-certs', '--tls-cert', 'a', '--tls-key', 'b', '--tls-ca', 'c'], /--dev-certs contradicts/],
    [['--store-password-file', 'x'], /--store-password-file can't be read: ENOENT/],
    [['--listen', '127.0.0.1:65536'], /port up to 65535/],
    [['--listen', '::1:7443'], /must be HOST:PORT/],
    [['--cache', '1MiB'], /8MiB to 1TiB/],
    [['--cache', '256'], /8MiB to 1TiB/],
    [['--colour', 'blue'], /--colour/],
    [['--data-dir', ''], /must name a folder/],
    [['--config', '/nonexistent/fanfare.json'], /config file \/nonexistent.* can't be read/],
    [['stray'], /^an argument belongs to no option; see --help$/],
    [['--store', 'mysql://x'], /--store is "…": must be lmdb: or redis:/],
    [['--store', 'redis://a:1,b:2'], /must name one server/],
    [['--store', 'redis://a:70000'], /port up to 65535/],
    [['--store', 'redis+sentinel://a:1,b:2'], /what the Sentinels call the master/],
    [['--store', 'redis+cluster://a:1,b:2/3'], /only database 0/],
    [['--store', 'redis://a:1', '--store-tls-ca', 'c'], /--store-tls-ca needs TLS.*write rediss/],
    [['--store', 'rediss://a:1', '--store-tls-cert', 'c'], /belong together, and only one is set/],
    [['--store', 'redis://a:1', '--insecure-plaintext'], /by their certificates/],
    [['--init-cluster', '--cluster-id', 'x'], /--init-cluster, --cluster-id is for brokers on Redis/],
    [['--name', 'über'], /--name is "über": must be 1 to 128 letters/],
    [['--broker-principals', '*'], /none of which may begin with \*/],
    [['--lease', '1ms'], /300ms to 60s/],
    [['--hand-over-timeout', '2m'], /0s to 60s/],
    [
      ['--health-listen', 'x'],
      /--health-listen is "x": must be a port up to 65535, such as 9464, or HOST:PORT/,
    ],
    [['--metrics-listen', '65536'], /--metrics-listen is "65536": must be a port up to 65535/],
    [['--metrics-listen', ':9464'], /--metrics-listen is ":9464": must be a port/],
    [['--metrics-token-file', 'f'], /a token for scrapes of metrics, and no --metrics-listen/],
    [['--audit-log', ''], /must name a file/],
  ])('refuses %o', (argv, message) => {
    expect(() => parse(argv)).toThrow(message);
  });

  test('a port alone is one of this machine’s own', () => {
    const argv = ['--health-listen', '9465', '--metrics-listen', '9464', '--audit-log', 'audit.jsonl'];
    expect(parse(argv)).toMatchObject({
      healthListen: { host: '127.0.0.1', port: 9465 },
      metricsListen: { host: '127.0.0.1', port: 9464 },
      auditLog: 'audit.jsonl',
    });
    expect(parse(['--metrics-listen', '0.0.0.0:1']).metricsListen).toEqual({ host: '0.0.0.0', port: 1 });
  });

  test('a token for scrapes comes from a file or the environment, never from flags, and is never shown', () => {
    const listen = ['--metrics-listen', '1'];
    const token = (argv: string[], FANFARE_METRICS_TOKEN: string) =>
      parse([...listen, ...argv], { FANFARE_METRICS_TOKEN }).metricsToken;
    expect(token([], '0123456789abcdef')).toEqual({ token: '0123456789abcdef' });
    expect(token(['--metrics-token-file', 'f'], '')).toEqual({ file: 'f' });
    expect(token([], '')).toBeUndefined();
    expect(() => token(['--metrics-token-file', 'f'], '0123456789abcdef')).toThrow('both set');
    expect(() => token([], 'hush')).toThrow(/^FANFARE_METRICS_TOKEN has 4 characters: must have 16 to 1024$/);
    expect(() => token(['--metrics-token', 'x'], '')).toThrow('--metrics-token');
  });

  test('TLS files come as one', () => {
    const argv = ['--tls-cert', 'a', '--tls-key', 'b', '--tls-ca', 'c', '--listen', '0.0.0.0:1'];
    expect(parse(argv).tls).toEqual({ cert: 'a', key: 'b', ca: 'c' });
    expect(parse(['--listen', '0.0.0.0:1', '--dev-certs']).tls).toBeUndefined();
  });

  test('a store that brokers share', () => {
    const argv = ['--store', 'redis://me:s%20cret@redis:6379/1', '--init-cluster', '--cluster-id', 'c-1'];
    expect(parse([...argv, '--name', 'b-1', '--lease', '1s'])).toMatchObject({
      name: 'b-1',
      store: {
        kind: 'redis',
        url: 'redis://me@redis:6379/1',
        password: 's cret',
        tls: undefined,
        initialize: true,
        clusterId: 'c-1',
        brokerPrincipals: ['spiffe://fanfare/broker/*'],
        leaseMs: 1_000,
        handOverMs: 5_000,
      },
    });
    const files = ['--store-tls-ca', 'a', '--store-tls-cert', 'b', '--store-tls-key', 'c'];
    const store = (url: string, ...more: string[]) =>
      parse(['--store', url, ...more], { FANFARE_STORE_PASSWORD: 'p' }).store;
    expect(store('rediss+sentinel://a:1,[::1]:2/mymaster', ...files)).toMatchObject({
      url: 'rediss+sentinel://a:1,[::1]:2/mymaster',
      password: 'p',
      tls: { ca: 'a', cert: 'b', key: 'c' },
      initialize: false,
    });
    expect(store('rediss+cluster://a:1,b:2')).toMatchObject({ tls: {} });
    expect(store('redis://a')).toMatchObject({ url: 'redis://a', tls: undefined });
  });

  test('a password comes from one of three places, and its way is looked at', () => {
    const file = join(dir, 'password');
    writeFileSync(file, 'p w\n');
    const store = ['--store', 'rediss://a:1'];
    expect(parse([...store, '--store-password-file', file])).toMatchObject({
      store: { password: 'p w' },
      warnings: [],
    });
    expect(parse(store, { FANFARE_STORE_PASSWORD_FILE: file }).store).toMatchObject({ password: 'p w' });
    const all = ['--store', 'rediss://:q@a:1', '--store-password-file', file];
    expect(() => parse(all, { FANFARE_STORE_PASSWORD: 'r' })).toThrow(
      "the store's password is given by --store and FANFARE_STORE_PASSWORD and --store-password-file: leave only one of them",
    );
    writeFileSync(file, '\n');
    expect(() => parse([...store, '--store-password-file', file])).toThrow(/password is empty/);
    expect(() => parse(['--store-password-file', file])).toThrow(/is for brokers on Redis/);
  });

  const seen = /every user of this machine can see in the list of processes.*--store-password-file/;
  const open = /^the password for redis\S* and all messages go over the network without TLS: write rediss/;
  test.each([
    ['--store', 'rediss://:hush@a:1', [seen]],
    ['--store', 'redis://:hush@a:1', [seen, open]],
    ['--store', 'redis://:hush@localhost', [seen]],
    ['FANFARE_STORE', 'rediss://:hush@a:1', []],
    ['FANFARE_STORE', 'redis+sentinel://:hush@127.0.0.1:1,a:2/m', [open]],
    ['FANFARE_STORE', 'redis+cluster://:hush@127.0.0.1:1,[::1]:2', []],
    ['FANFARE_STORE', 'redis://a', []],
  ])('a password by %s in %s is warned of', (by, url, expected) => {
    const { warnings } = by === '--store' ? parse([by, url]) : parse([], { [by]: url });
    expect(warnings).toHaveLength(expected.length);
    for (const [at, pattern] of expected.entries()) expect(warnings[at]).toMatch(pattern);
    expect(warnings.join()).not.toContain('hush');
  });

  test.each([
    [['--store=redis://us/er:hush@h']],
    [['--store=redis+sentinel://us/er:hush@h/m']],
    [['--store=redis+sentinel://a/er:hush@h']],
    [['--store=redis:/u:hush@h']],
    [['--store=u:hush@h:6379']],
    [['--store=redis://h?password=hush']],
    [['--store=redis://h#hush']],
    [['--store=hush']],
    [['--store=redis://u:hush@h/x']],
    [['--store=lmdb:hush']],
    [['--store=redis://u:hush h:1']],
    [['--storeredis://u:hush@h']],
    [['redis://u:hush@h']],
    [['hush']],
    [['--name=redis://u:hush@h']],
    [['--listen=u:hush@h:6379']],
  ])('%o never shows the secret', (argv) => {
    expect(() => parse(argv)).toThrow(/^(?!.*hush)/s);
    expect(() => parse(argv)).toThrow(/./);
  });

  test('a file that is no JSON is not quoted', () => {
    const path = configFile('{"store": "redis://u:hush@h",}');
    expect(() => parse(['--config', path])).toThrow(/can't be read: it is not JSON at position \d+/);
    expect(() => parse(['--config', path])).toThrow(/^(?!.*hush)/s);
  });

  test.each([
    ['redis://me:hush@a:b', {}],
    ['redis://:hush@a:1', { FANFARE_STORE_PASSWORD: 'hush' }],
    ['redis://:hush%@a:1', {}],
    ['redis://me:hu/hush@a:1', {}],
    ['redis://me:hu@hush@a:1/x', {}],
  ])('a problem with %s never shows the password', (url, env) => {
    let message = '';
    try {
      parse(['--store', url], env as Record<string, string>);
    } catch (error) {
      message = String(error);
    }
    expect(message).toMatch(/--store|FANFARE_STORE_PASSWORD/);
    expect(message).not.toContain('hush');
  });

  test('principals of brokers: a star is letters, digits and ._-', () => {
    const isBroker = principalMatcher(['spiffe://fanfare/broker/*', 'dns:b-*.example', 'cn:x']);
    for (const yes of ['spiffe://fanfare/broker/1', 'dns:b-1.example', 'cn:x'])
      expect(isBroker(yes)).toBe(true);
    for (const no of [
      'spiffe://fanfare/broker/',
      'spiffe://fanfare/broker/1/admin',
      'spiffe://fanfare/brokerx1',
      'dns:b-1xexample',
      'spiffe://fanfare/broker/x\0.alice',
      'spiffe://fanfare/broker/x\n',
      'spiffe://fanfare/broker/x?y',
      'spiffe://fanfare/broker/x y',
      'spiffe://fanfare/broker/über',
      'cn:xx',
      'spiffe://evil/spiffe://fanfare/broker/1',
    ])
      expect(isBroker(no)).toBe(false);
  });

  test('a broker without a name is called after its host and port', () => {
    expect(brokerName({ name: 'b' }, 1)).toBe('b');
    expect(brokerName({ name: undefined }, 7443)).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]*-7443$/);
  });

  test('help names every option and fits a terminal', () => {
    expect(parseConfig({ argv: ['-h', '--listen', 'x'], env: {}, terminal: true })).toEqual({
      help: serveHelp(),
    });
    expect(serveHelp()).toContain('--metrics-listen [HOST:]PORT');
    expect(serveHelp()).not.toContain('--lease');
    for (const line of serveHelp().split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });

  test('the advertised address can be connected to', () => {
    expect(advertisedAddress(parse(), 7000)).toBe('127.0.0.1:7000');
    expect(advertisedAddress(parse(['--listen', '[::1]:0']), 7000)).toBe('[::1]:7000');
    expect(advertisedAddress(parse(['--listen', '0.0.0.0:0', '--dev-certs']), 7000)).not.toMatch(/^0\.0/);
    expect(advertisedAddress(parse(['--advertise', 'b1.example:443']), 7000)).toBe('b1.example:443');
  });
});
