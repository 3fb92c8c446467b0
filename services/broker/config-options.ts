// The broker's options: name, default, help and the check of each. config.ts reads them from flags, environment and file;
// this table is the only list of them.
import { z } from 'zod';
import {
  DEFAULT_CACHE_BYTES,
  DEFAULT_DRAIN_TIMEOUT_MS,
  DEFAULT_KEEPALIVE_MS,
  DEFAULT_MAX_STREAM_AGE_MS,
  MIN_CACHE_BYTES,
  MIN_KEEPALIVE_MS,
  MIN_STREAM_AGE_MS,
} from './limits.ts';
import { LOG_LEVELS } from './log.ts';

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

interface Option {
  /** Without one it is a switch. */
  readonly placeholder?: string;
  readonly fallback?: string;
  readonly help: string;
}

export const OPTIONS = {
  listen: {
    placeholder: 'HOST:PORT',
    fallback: '127.0.0.1:7443',
    help: 'where to serve gRPC; port 0 takes a free one',
  },
  advertise: { placeholder: 'HOST:PORT', help: 'where clients reach this broker, if not where it listens' },
  'data-dir': { placeholder: 'DIR', fallback: '.fanfare', help: 'the folder that holds everything' },
  'tls-cert': { placeholder: 'FILE', help: 'certificate chain, PEM; without it, development certificates' },
  'tls-key': { placeholder: 'FILE', help: 'its private key, PEM' },
  'tls-ca': { placeholder: 'FILE', help: 'certificates that sign clients, PEM' },
  'insecure-plaintext': { help: 'no TLS: only on a loopback address, never in production' },
  'max-stream-age': {
    placeholder: 'TIME',
    fallback: `${DEFAULT_MAX_STREAM_AGE_MS / 60_000}m`,
    help: 'streams are ended with UNAVAILABLE after it, so that load moves',
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
    help: 'recent messages kept in memory',
  },
  'metrics-listen': {
    placeholder: 'HOST:PORT',
    help: 'Prometheus endpoint, such as 127.0.0.1:9464; else none',
  },
  'log-level': { placeholder: 'LEVEL', fallback: 'info', help: LOG_LEVELS.join(', ') },
  'log-format': { placeholder: 'FORMAT', help: 'json or pretty; pretty on a terminal' },
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

const toggle = z.string().transform((text, context): boolean => {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  return refuse(context, 'must be true or false');
});

const file = z.string().min(1, 'must name a file');

/** A value of each option as text → its type. A message says what is allowed, config.ts what was given and where. */
export const optionsSchema = z.object({
  listen: hostPort,
  advertise: hostPort.optional(),
  'data-dir': z.string().min(1, 'must name a folder'),
  'tls-cert': file.optional(),
  'tls-key': file.optional(),
  'tls-ca': file.optional(),
  'insecure-plaintext': toggle.optional(),
  'max-stream-age': amount(DURATION_UNITS_MS, MIN_STREAM_AGE_MS, 7 * DAY_MS, '1s to 7d, such as 30m'),
  keepalive: amount(DURATION_UNITS_MS, MIN_KEEPALIVE_MS, DAY_MS, '1s to 24h, such as 30s'),
  'drain-timeout': amount(DURATION_UNITS_MS, 0, HOUR_MS, '0s to 1h, such as 10s'),
  cache: amount(SIZE_UNITS_BYTES, MIN_CACHE_BYTES, SIZE_UNITS_BYTES.TiB, '8MiB to 1TiB, such as 256MiB'),
  'metrics-listen': hostPort.optional(),
  'log-level': z.enum(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`),
  'log-format': z.enum(['json', 'pretty'], 'must be json or pretty').optional(),
} satisfies Record<OptionName, unknown>);

export type OptionValues = z.infer<typeof optionsSchema>;

/** What `fanfare serve --help` prints. */
export function serveHelp(): string {
  const rows = OPTION_NAMES.map((name): [string, string] => {
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
    'Examples:',
    '  fanfare serve',
    '  fanfare serve --listen 0.0.0.0:7443 --tls-cert tls.crt --tls-key tls.key --tls-ca ca.crt',
    '',
  ].join('\n');
}

/** A number with one of the units, in the smallest unit. */
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
