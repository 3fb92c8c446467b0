// The broker's configuration: flags > FANFARE_ environment variables > config file > defaults, as one frozen
// object. All problems are reported together, each with where the value came from and what is allowed.
//
// A value is text wherever it comes from (in the file it may also be a number, true or false) and passes the
// same check. The options themselves are in config-options.ts.
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { tokenProblem } from './adapters/http/bearer-token.ts';
import {
  environmentName,
  type HostPort,
  OPTION_NAMES,
  type OptionName,
  type OptionValues,
  optionOf,
  optionsSchema,
  serveHelp,
} from './config-options.ts';
import { type RedisUrl, type StoreUrl, shownStore } from './config-store.ts';
import { BrokerError } from './core/errors.ts';
import { quote } from './core/names.ts';
import { CACHE_PART_OF_CONTAINER, DEFAULT_CACHE_BYTES, MIN_CACHE_BYTES } from './limits.ts';
import type { LogFormat, LogLevel } from './log.ts';

export interface Config {
  readonly listen: HostPort;
  /** Where clients reach this broker; undefined: where it listens. */
  readonly advertise: HostPort | undefined;
  /** The broker's name, the same over restarts; undefined: brokerName() makes one of host name and port. */
  readonly name: string | undefined;
  readonly store: StoreConfig;
  readonly dataDir: string;
  /** PEM files; undefined: development certificates in the data folder, or no TLS. */
  readonly tls:
    | { readonly cert: string; readonly key: string; readonly ca: string; readonly crl?: string }
    | undefined;
  /** No TLS at all; only ever true with a loopback listen address. */
  readonly insecurePlaintext: boolean;
  readonly maxStreamAgeMs: number;
  readonly maxConnectionAgeMs: number;
  readonly keepaliveMs: number;
  readonly drainTimeoutMs: number;
  readonly cacheBytes: number;
  /** Where Prometheus reads metrics; undefined: nowhere. */
  readonly metricsListen: HostPort | undefined;
  /** The bearer token that scrapes must show; undefined: none. Must not be logged. */
  readonly metricsToken: MetricsToken | undefined;
  /** Where probes ask; undefined: nowhere. */
  readonly healthListen: HostPort | undefined;
  /** The file that the audit is appended to; undefined: it goes to the log. */
  readonly auditLog: string | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** What works and had better be otherwise, each a sentence for the log. */
  readonly warnings: readonly string[];
}

export type MetricsToken = { readonly token: string } | { readonly file: string };

export type StoreConfig =
  | { readonly kind: 'embedded' }
  | {
      readonly kind: 'redis';
      /** The URL as given, without the password: fit for logs. */
      readonly url: string;
      /** Must not be logged. */
      readonly password: string | undefined;
      /**
       * PEM files; undefined: no TLS. Without `ca` the system's CAs count; without `cert` no certificate is
       * shown.
       */
      readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
      /** Whether a cluster is made of an empty store. */
      readonly initialize: boolean;
      /** The only cluster that is accepted; undefined: whichever the store holds. */
      readonly clusterId: string | undefined;
      /** Principals of brokers; `*` stands for letters, digits and ._- See principalMatcher. */
      readonly brokerPrincipals: readonly string[];
      /** The length of a member's lease; the same on all brokers. */
      readonly leaseMs: number;
      /** How long a partition is waited for before it is taken from a living member. */
      readonly handOverMs: number;
    };

export interface ConfigSources {
  /** The arguments behind node and script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether logs go to a terminal, which decides their default format. */
  readonly terminal: boolean;
  /** What the container may use; undefined: there is no limit. */
  readonly memoryBytes?: number | undefined;
}

/**
 * The configuration, or the help text if --help was given. INVALID_ARGUMENT with all problems, one a line.
 * Reads the file that --config or FANFARE_CONFIG names, and no other.
 */
export function parseConfig(sources: ConfigSources): { readonly config: Config } | { readonly help: string } {
  const problems: string[] = [];
  const flags = readFlags(sources.argv, problems);
  if (flags.help === 'true') return { help: serveHelp() };
  const path = flags.config ?? sources.env.FANFARE_CONFIG;
  const fileValues = path === undefined ? {} : readFile(path, problems);

  const values: Partial<Record<OptionName, string>> = {};
  const origins: Partial<Record<OptionName, string>> = {};
  for (const name of OPTION_NAMES) {
    const candidates: [string, string | undefined][] = [
      [`--${name}`, flags[name]],
      [environmentName(name), sources.env[environmentName(name)]],
      [`${name} in ${path}`, fileValues[name]],
      [`--${name}`, fallbackOf(name, sources.memoryBytes)],
    ];
    for (const [origin, value] of candidates) {
      if (value === undefined) continue;
      origins[name] = origin;
      values[name] = value;
      break;
    }
  }

  const parsed = optionsSchema.safeParse(values);
  for (const issue of parsed.error?.issues ?? []) {
    const name = issue.path[0] as OptionName;
    problems.push(`${origins[name]} is ${quote(shown(name, values[name] ?? ''))}: ${issue.message}`);
  }
  const passwords =
    parsed.data === undefined ? {} : passwordsOf(parsed.data, sources.env.FANFARE_STORE_PASSWORD, problems);
  const token = sources.env.FANFARE_METRICS_TOKEN || undefined;
  if (parsed.data !== undefined)
    problems.push(...contradictions(parsed.data, passwords), ...tokenContradictions(parsed.data, token));
  if (problems.length > 0 || parsed.data === undefined) {
    throw new BrokerError('INVALID_ARGUMENT', problems.join('\n'));
  }
  const [password] = Object.values(passwords);
  const warnings = secretWarnings(parsed.data.store, password, origins.store === '--store');
  return { config: configOf(parsed.data, { password, token, warnings, terminal: sources.terminal }) };
}

/** --cache has a default that goes by the container; all others are as the help says. */
function fallbackOf(name: OptionName, memoryBytes: number | undefined): string | undefined {
  if (name !== 'cache' || memoryBytes === undefined) return optionOf(name).fallback;
  const bytes = Math.min(DEFAULT_CACHE_BYTES, memoryBytes * CACHE_PART_OF_CONTAINER);
  return `${Math.floor(Math.max(bytes, MIN_CACHE_BYTES))}B`;
}

/** A value that is refused, as a message may show it: without what could be a secret in the wrong place. */
function shown(name: OptionName, value: string): string {
  if (name === 'store') return shownStore(value);
  return name !== 'broker-principals' && /@|:\/\//.test(value) ? '…' : value;
}

/** "host:port", an IPv6 address in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** host:port at which clients reach a broker that got `port` to listen on. */
export function advertisedAddress(config: Pick<Config, 'advertise' | 'listen'>, port: number): string {
  if (config.advertise !== undefined) return formatHostPort(config.advertise);
  const { host } = config.listen;
  const wildcard = host === '0.0.0.0' || host === '::';
  return formatHostPort({ host: wildcard ? hostname() : host, port });
}

/**
 * The broker's name: as configured, or made of the host's name and the port that it got. 1 to 128 letters,
 * digits, ._-
 */
export function brokerName(config: Pick<Config, 'name'>, port: number): string {
  if (config.name !== undefined) return config.name;
  const host =
    hostname()
      .replaceAll(/[^A-Za-z0-9._-]/g, '-')
      .replace(/^[^A-Za-z0-9]+/, '') || 'broker';
  return `${host.slice(0, 120)}-${port}`;
}

/** Whether a principal matches one of the patterns, in which `*` stands for letters, digits and ._- */
export function principalMatcher(patterns: readonly string[]): (principal: string) => boolean {
  const expressions = patterns.map((pattern) => {
    const parts = pattern.split('*').map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
    return new RegExp(`^${parts.join('[A-Za-z0-9._-]+')}$`);
  });
  return (principal) => expressions.some((expression) => expression.test(principal));
}

type Texts = Record<string, string | undefined>;

function readFlags(argv: readonly string[], problems: string[]): Texts {
  const known = OPTION_NAMES.map((name) => {
    const type = optionOf(name).placeholder === undefined ? ('boolean' as const) : ('string' as const);
    return [name, { type }] as const;
  });
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        ...Object.fromEntries(known),
        config: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
      allowNegative: true,
    });
    return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
  } catch (error) {
    problems.push(`${flagProblem(error)}; see --help`);
    return {};
  }
}

/** What parseArgs has found: it names the flag, and tells of one problem at a time. */
function flagProblem(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  // The argument itself may be a secret, such as a store's URL without its flag before it.
  if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL') return 'an argument belongs to no option';
  return /@|:\/\//.test(message) ? 'an option is not known' : message;
}

function readFile(path: string, problems: string[]): Texts {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    problems.push(`the config file ${path} can't be read: ${fileProblem(error)}`);
    return {};
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    problems.push(`the config file ${path} must hold one JSON object`);
    return {};
  }
  const texts: Texts = {};
  for (const [name, value] of Object.entries(content)) {
    if (!OPTION_NAMES.some((option) => option === name)) {
      problems.push(`${JSON.stringify(name)} in ${path} is no option: must be of ${OPTION_NAMES.join(', ')}`);
    } else if (['string', 'number', 'boolean'].includes(typeof value)) {
      texts[name] = String(value);
    } else {
      problems.push(`${name} in ${path} must be a string, a number, true or false`);
    }
  }
  return texts;
}

/** A SyntaxError quotes the file, in which there may be secrets. */
function fileProblem(error: unknown): string {
  if (!(error instanceof SyntaxError)) return error instanceof Error ? error.message : String(error);
  return `it is not JSON${/ at position \d+(?: \(line \d+ column \d+\))?/.exec(error.message)?.[0] ?? ''}`;
}

/** Where the store's password was given, and what it is. More than one are a contradiction. */
type Passwords = Readonly<Record<string, string>>;

function passwordsOf(values: OptionValues, variable: string | undefined, problems: string[]): Passwords {
  const { store, 'store-password-file': path } = values;
  const inUrl = store.kind === 'redis' ? store.password : undefined;
  const inFile = path === undefined ? undefined : readPassword(path, problems);
  return {
    ...(inUrl !== undefined && { '--store': inUrl }),
    ...(variable && { FANFARE_STORE_PASSWORD: variable }),
    ...(inFile !== undefined && { '--store-password-file': inFile }),
  };
}

/** The file's content without the newline that editors put at the end. */
function readPassword(path: string, problems: string[]): string | undefined {
  try {
    const text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
    if (text !== '') return text;
    problems.push(`--store-password-file ${path} is empty`);
  } catch (error) {
    problems.push(`--store-password-file can't be read: ${error instanceof Error ? error.message : error}`);
  }
  return undefined;
}

function secretWarnings(store: StoreUrl, password: string | undefined, isFlag: boolean): string[] {
  if (store.kind === 'embedded') return [];
  const warnings: string[] = [];
  if (store.password !== undefined && isFlag) {
    warnings.push(
      '--store holds a password, which every user of this machine can see in the list of processes: give it as FANFARE_STORE_PASSWORD or --store-password-file',
    );
  }
  if (password !== undefined && !store.tls && !isOnThisMachine(store)) {
    warnings.push(
      `the password for ${store.url} and all messages go over the network without TLS: write rediss instead of redis`,
    );
  }
  return warnings;
}

function isOnThisMachine({ hosts }: RedisUrl): boolean {
  return hosts.every((host) => isLoopback(host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')));
}

function contradictions(values: OptionValues, passwords: Passwords): string[] {
  const problems = storeContradictions(values, passwords);
  const tls = (['tls-cert', 'tls-key', 'tls-ca'] as const).filter((name) => values[name] !== undefined);
  if (values['tls-crl'] !== undefined && tls.length === 0)
    problems.push(
      '--tls-crl says which certificates of --tls-ca are revoked: set --tls-cert, --tls-key and --tls-ca',
    );
  if (tls.length > 0 && tls.length < 3) {
    problems.push(`--tls-cert, --tls-key and --tls-ca belong together, and only ${tls.join(', ')} is set`);
  }
  if (values['dev-certs'] === true && (tls.length > 0 || values['insecure-plaintext'] === true)) {
    problems.push('--dev-certs contradicts TLS files and --insecure-plaintext: leave one out');
  }
  const isDevelopment = tls.length === 0 && values['insecure-plaintext'] !== true;
  if (isDevelopment && values['dev-certs'] !== true && !isLoopback(values.listen.host)) {
    problems.push(
      `other machines reach ${formatHostPort(values.listen)}, so give --tls-cert, --tls-key and --tls-ca (or --dev-certs: ` +
        'who can read the data folder can then do everything here)',
    );
  }
  if (values['insecure-plaintext'] === true) {
    if (tls.length > 0)
      problems.push('--insecure-plaintext and TLS files contradict each other: leave one out');
    if (!isLoopback(values.listen.host)) {
      problems.push(
        `--insecure-plaintext is allowed on a loopback address only, and --listen is ${formatHostPort(values.listen)}: ` +
          'use TLS, or listen on 127.0.0.1',
      );
    }
  }
  return problems;
}

function storeContradictions(values: OptionValues, passwords: Passwords): string[] {
  const { store } = values;
  const given = (...names: OptionName[]) =>
    names.filter((name) => values[name] !== undefined && values[name] !== false);
  const files = given('store-tls-ca', 'store-tls-cert', 'store-tls-key');
  const flags = (names: readonly string[]) => names.map((name) => `--${name}`).join(', ');
  if (store.kind === 'embedded') {
    const useless = [...files, ...given('store-password-file', 'init-cluster', 'cluster-id')];
    return useless.length === 0
      ? []
      : [`${flags(useless)} is for brokers on Redis, and --store is lmdb: give --store redis://HOST:PORT`];
  }
  const problems: string[] = [];
  if (files.length > 0 && !store.tls) {
    problems.push(`${flags(files)} needs TLS, and --store is ${store.url}: write rediss instead of redis`);
  }
  if ((values['store-tls-cert'] === undefined) !== (values['store-tls-key'] === undefined)) {
    problems.push('--store-tls-cert and --store-tls-key belong together, and only one is set');
  }
  const sources = Object.keys(passwords);
  if (sources.length > 1) {
    problems.push(`the store's password is given by ${sources.join(' and ')}: leave only one of them`);
  }
  if (values['insecure-plaintext'] === true) {
    problems.push(
      '--insecure-plaintext is for the embedded store only: brokers on Redis know each other by their certificates',
    );
  }
  return problems;
}

function tokenContradictions(values: OptionValues, token: string | undefined): string[] {
  const { 'metrics-token-file': file, 'metrics-listen': listen } = values;
  if (file === undefined && token === undefined) return [];
  const problem = token === undefined ? undefined : tokenProblem(token);
  return [
    ...(problem === undefined ? [] : [`FANFARE_METRICS_TOKEN ${problem}`]),
    ...(file !== undefined && token !== undefined
      ? ['--metrics-token-file and FANFARE_METRICS_TOKEN are both set: leave one out']
      : []),
    ...(listen === undefined
      ? ['there is a token for scrapes of metrics, and no --metrics-listen: set that, or leave the token out']
      : []),
  ];
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function storeOf(values: OptionValues, password: string | undefined): StoreConfig {
  const store: StoreUrl = values.store;
  if (store.kind === 'embedded') return store;
  const { 'store-tls-ca': ca, 'store-tls-cert': cert, 'store-tls-key': key } = values;
  return Object.freeze({
    kind: store.kind,
    url: store.url,
    password,
    tls: store.tls ? Object.freeze({ ...(ca && { ca }), ...(cert && key && { cert, key }) }) : undefined,
    initialize: values['init-cluster'] ?? false,
    clusterId: values['cluster-id'],
    brokerPrincipals: values['broker-principals'],
    leaseMs: values.lease,
    handOverMs: values['hand-over-timeout'],
  });
}

interface Given {
  readonly password: string | undefined;
  readonly token: string | undefined;
  readonly warnings: readonly string[];
  readonly terminal: boolean;
}

function configOf(values: OptionValues, { password, token, warnings, terminal }: Given): Config {
  const {
    'tls-cert': cert,
    'tls-key': key,
    'tls-ca': ca,
    'tls-crl': crl,
    'metrics-token-file': file,
  } = values;
  return Object.freeze({
    listen: values.listen,
    advertise: values.advertise,
    name: values.name,
    store: storeOf(values, password),
    dataDir: values['data-dir'],
    tls: cert && key && ca ? Object.freeze({ cert, key, ca, ...(crl && { crl }) }) : undefined,
    insecurePlaintext: values['insecure-plaintext'] ?? false,
    maxStreamAgeMs: values['max-stream-age'],
    maxConnectionAgeMs: values['max-connection-age'],
    keepaliveMs: values.keepalive,
    drainTimeoutMs: values['drain-timeout'],
    cacheBytes: values.cache,
    metricsListen: values['metrics-listen'],
    metricsToken: file ? Object.freeze({ file }) : token ? Object.freeze({ token }) : undefined,
    healthListen: values['health-listen'],
    auditLog: values['audit-log'],
    logLevel: values['log-level'],
    logFormat: values['log-format'] ?? (terminal ? 'pretty' : 'json'),
    warnings: Object.freeze(warnings),
  });
}
