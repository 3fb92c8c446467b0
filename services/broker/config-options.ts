// The broker's options: name, default, help and check of each. There is no other list of them.
import { z } from 'zod';
import { parseStoreUrl, type StoreUrl } from './config-store.ts';
import {
  DEFAULT_CACHE_BYTES,
  DEFAULT_DRAIN_TIMEOUT_MS,
  DEFAULT_KEEPALIVE_MS,
  DEFAULT_MAX_CONNECTION_AGE_MS,
  DEFAULT_MAX_STREAM_AGE_MS,
  MIN_CACHE_BYTES,
  MIN_KEEPALIVE_MS,
  MIN_STREAM_AGE_MS,
} from './limits.ts';
import { LOG_LEVELS } from './log.ts';

export interface HostPort {
  /** An IPv6 address is without brackets. */
  readonly host: string;
  readonly port: number;
}

interface Option {
  /** Absent: the option is a switch. */
  readonly placeholder?: string;
  readonly fallback?: string;
  readonly help: string;
  /** Not in the help: for tests and experts. */
  readonly hidden?: boolean;
}

export const OPTIONS = {
  listen: {
    placeholder: 'HOST:PORT',
    fallback: '127.0.0.1:7443',
    help: 'where to serve gRPC; port 0 takes a free one',
  },
  advertise: {
    placeholder: 'HOST:PORT',
    help: 'where clients and brokers reach this one, if not where it listens',
  },
  name: { placeholder: 'NAME', help: 'of this broker, the same over restarts (host name and port)' },
  store: {
    placeholder: 'URL',
    fallback: 'lmdb:',
    help: 'where messages are kept; redis://HOST:PORT for a cluster of brokers',
  },
  'store-password-file': { placeholder: 'FILE', help: 'what holds its password' },
  'store-tls-ca': { placeholder: 'FILE', help: 'certificates that sign a rediss:// store, PEM' },
  'store-tls-cert': { placeholder: 'FILE', help: 'certificate to show to it, PEM' },
  'store-tls-key': { placeholder: 'FILE', help: 'its private key, PEM' },
  'init-cluster': { help: 'make a cluster of an empty store; without it an empty store is refused' },
  'cluster-id': { placeholder: 'ID', help: 'refuse a store that holds another cluster' },
  'broker-principals': {
    placeholder: 'PATTERNS',
    fallback: 'spiffe://fanfare/broker/*',
    help: 'whose certificates are brokers, by commas',
  },
  'data-dir': {
    placeholder: 'DIR',
    fallback: '.fanfare',
    help: 'the folder of the embedded store and development certificates',
  },
  'dev-certs': { help: 'development certificates on an address that other machines reach, too' },
  'tls-cert': { placeholder: 'FILE', help: 'certificate chain, PEM; without it, development certificates' },
  'tls-key': { placeholder: 'FILE', help: 'its private key, PEM' },
  'tls-ca': { placeholder: 'FILE', help: 'certificates that sign clients, PEM' },
  'tls-crl': { placeholder: 'FILE', help: 'lists of revoked client certificates, one of each CA, PEM' },
  'insecure-plaintext': { help: 'no TLS: only on a loopback address, never in production' },
  'max-stream-age': {
    placeholder: 'TIME',
    fallback: `${DEFAULT_MAX_STREAM_AGE_MS / 60_000}m`,
    help: 'streams are ended with UNAVAILABLE after it, so that load moves',
  },
  'max-connection-age': {
    placeholder: 'TIME',
    fallback: `${DEFAULT_MAX_CONNECTION_AGE_MS / 3_600_000}h`,
    help: 'clients are told to connect again after it; streams may go on as long once more',
  },
  keepalive: {
    placeholder: 'TIME',
    fallback: `${DEFAULT_KEEPALIVE_MS / 1000}s`,
    help: 'between pings on a connection',
  },
  'drain-timeout': {
    placeholder: 'TIME',
    fallback: `${DEFAULT_DRAIN_TIMEOUT_MS / 1000}s`,
    help: 'how long a stopping broker waits for its clients',
  },
  cache: {
    placeholder: 'SIZE',
    fallback: `${DEFAULT_CACHE_BYTES / 1024 ** 2}MiB`,
    help: 'recent messages kept in memory; in a container at most an eighth of its',
  },
  'health-listen': {
    placeholder: '[HOST:]PORT',
    help: 'GET /livez and /readyz for probes, such as 9465 (on 127.0.0.1); else none',
  },
  'metrics-listen': {
    placeholder: '[HOST:]PORT',
    help: 'Prometheus endpoint, such as 9464 (on 127.0.0.1); else none',
  },
  'metrics-token-file': { placeholder: 'FILE', help: 'holds the bearer token that scrapes must show' },
  'audit-log': { placeholder: 'FILE', help: 'where the audit goes, as JSON lines; else to the log' },
  'log-level': { placeholder: 'LEVEL', fallback: 'info', help: LOG_LEVELS.join(', ') },
  'log-format': { placeholder: 'FORMAT', help: 'json or pretty; pretty on a terminal' },
  lease: {
    placeholder: 'TIME',
    fallback: '2s',
    help: 'how long a broker that is not heard of keeps its partitions; the same on all brokers',
    hidden: true,
  },
  'hand-over-timeout': {
    placeholder: 'TIME',
    fallback: '5s',
    help: 'how long a partition is waited for before it is taken from a living broker',
    hidden: true,
  },
} as const satisfies Readonly<Record<string, Option>>;

export type OptionName = keyof typeof OPTIONS;
export const OPTION_NAMES = Object.keys(OPTIONS) as readonly OptionName[];

export function optionOf(name: OptionName): Option {
  return OPTIONS[name];
}

export function environmentName(name: string): string {
  return `FANFARE_${name.replaceAll('-', '_').toUpperCase()}`;
}

const DURATION_UNITS_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE_UNITS_BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 };
const HOUR_MS = DURATION_UNITS_MS.h;
const DAY_MS = DURATION_UNITS_MS.d;

const hostPort = z.string().transform((text, context): HostPort => {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port <= 65_535) return Object.freeze({ host, port });
  return refuse(context, 'must be HOST:PORT, such as 127.0.0.1:7443 or [::1]:7443, with a port up to 65535');
});

/** As hostPort, and a port alone is one of this machine's own. */
const localPort = z.string().transform((text, context): HostPort => {
  const parsed = hostPort.safeParse(/^\d+$/.test(text) ? `127.0.0.1:${text}` : text);
  if (parsed.success) return parsed.data;
  return refuse(
    context,
    'must be a port up to 65535, such as 9464, or HOST:PORT, such as 127.0.0.1:9464 or [::1]:9464',
  );
});

const toggle = z.string().transform((text, context): boolean => {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  return refuse(context, 'must be true or false');
});

const file = z.string().min(1, 'must name a file');

const storeUrl = z.string().transform((text, context): StoreUrl => {
  const parsed = parseStoreUrl(text);
  return typeof parsed === 'string' ? refuse(context, parsed) : Object.freeze(parsed);
});

const name = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
    'must be 1 to 128 letters, digits and ._-, not beginning with ._-',
  );

const MAX_PRINCIPAL_PATTERNS = 64;

/** Patterns from "a, b/*", in which `*` stands for letters, digits and ._- */
const principalPatterns = z.string().transform((text, context): readonly string[] => {
  const patterns = text.split(',').map((pattern) => pattern.trim());
  const good = patterns.every((pattern) => /^[^\s*][^\s]{0,511}$/.test(pattern));
  if (good && patterns.length <= MAX_PRINCIPAL_PATTERNS) return Object.freeze(patterns);
  return refuse(
    context,
    `must be 1 to ${MAX_PRINCIPAL_PATTERNS} principals by commas, such as spiffe://fanfare/broker/*, none of which may begin with *`,
  );
});

/** Turns each option's text into its type. A message says what is allowed; what was given is not in it. */
export const optionsSchema = z.object({
  listen: hostPort,
  advertise: hostPort.optional(),
  name: name.optional(),
  store: storeUrl,
  'store-password-file': file.optional(),
  'store-tls-ca': file.optional(),
  'store-tls-cert': file.optional(),
  'store-tls-key': file.optional(),
  'init-cluster': toggle.optional(),
  'cluster-id': name.optional(),
  'broker-principals': principalPatterns,
  'data-dir': z.string().min(1, 'must name a folder'),
  'dev-certs': toggle.optional(),
  'tls-cert': file.optional(),
  'tls-key': file.optional(),
  'tls-ca': file.optional(),
  'tls-crl': file.optional(),
  'insecure-plaintext': toggle.optional(),
  'max-stream-age': amount(DURATION_UNITS_MS, MIN_STREAM_AGE_MS, 7 * DAY_MS, '1s to 7d, such as 30m'),
  'max-connection-age': amount(DURATION_UNITS_MS, MIN_STREAM_AGE_MS, 30 * DAY_MS, '1s to 30d, such as 12h'),
  keepalive: amount(DURATION_UNITS_MS, MIN_KEEPALIVE_MS, DAY_MS, '1s to 24h, such as 30s'),
  'drain-timeout': amount(DURATION_UNITS_MS, 0, HOUR_MS, '0s to 1h, such as 10s'),
  cache: amount(SIZE_UNITS_BYTES, MIN_CACHE_BYTES, SIZE_UNITS_BYTES.TiB, '8MiB to 1TiB, such as 256MiB'),
  'health-listen': localPort.optional(),
  'metrics-listen': localPort.optional(),
  'metrics-token-file': file.optional(),
  'audit-log': file.optional(),
  'log-level': z.enum(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`),
  'log-format': z.enum(['json', 'pretty'], 'must be json or pretty').optional(),
  lease: amount(DURATION_UNITS_MS, 300, 60_000, '300ms to 60s, such as 2s'),
  'hand-over-timeout': amount(DURATION_UNITS_MS, 0, 60_000, '0s to 60s, such as 5s'),
} satisfies Record<OptionName, unknown>);

export type OptionValues = z.infer<typeof optionsSchema>;

/** What `fanfare serve --help` prints. */
export function serveHelp(): string {
  const shown = OPTION_NAMES.filter((name) => optionOf(name).hidden !== true);
  const rows = shown.map((name): [string, string] => {
    const { placeholder, fallback, help } = optionOf(name);
    const usage = placeholder === undefined ? `--${name}` : `--${name} ${placeholder}`;
    return [usage, fallback === undefined ? help : `${help} (${fallback})`];
  });
  rows.push(['--config FILE', 'a JSON file with any of these, such as {"listen": "127.0.0.1:7443"}']);
  const width = Math.max(...rows.map(([usage]) => usage.length));
  return [
    'Usage: fanfare serve [options]',
    '',
    'Runs a broker. Ctrl-C drains and stops it.',
    '',
    ...rows.map(([usage, help]) => `  ${usage.padEnd(width)}  ${help}`),
    '',
    'Every option has an environment variable: --data-dir is FANFARE_DATA_DIR. A flag wins over the variable, the',
    'variable over the file. Times are like 500ms, 30s, 5m, 1h; sizes like 64MiB or 1GiB.',
    '',
    'Stores: lmdb: (in the data folder, one broker), redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER,',
    'redis+cluster://HOST:PORT,HOST:PORT, and these three with rediss for TLS. Its password is FANFARE_STORE_PASSWORD or in',
    '--store-password-file: in --store every user of the machine could see it in the list of processes.',
    'The token that scrapes of metrics must show can be FANFARE_METRICS_TOKEN, too.',
    '',
    'Examples:',
    '  fanfare serve',
    '  fanfare serve --listen 0.0.0.0:7443 --tls-cert tls.crt --tls-key tls.key --tls-ca ca.crt',
    '  fanfare serve --store redis://redis:6379 --init-cluster --name broker-1 --tls-cert …',
    '',
  ].join('\n');
}

/** Takes a number with one of the units; the value is in the smallest of them. */
function amount(units: Readonly<Record<string, number>>, min: number, max: number, allowed: string) {
  return z.string().transform((text, context): number => {
    const match = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text);
    const value = Math.round(Number(match?.[1]) * (units[match?.[2] ?? ''] ?? Number.NaN));
    return value >= min && value <= max ? value : refuse(context, `must be ${allowed}`);
  });
}

function refuse(context: { addIssue(message: string): void }, message: string): never {
  context.addIssue(message);
  return z.NEVER;
}
