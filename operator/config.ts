// The operator's configuration: environment variables, as the chart sets them, checked once into a frozen
// object. All problems are reported together, each with the variable and what is allowed.
import { hostname } from 'node:os';
import { brokerAddresses } from './broker/broker-address.ts';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = 'json' | 'pretty';

export interface HostPort {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface Config {
  /** This process's name, for people: the pod's. */
  readonly name: string;
  /** The namespace of the lease. */
  readonly namespace: string;
  /**
   * The broker for resources without a Fanfare: host:port, or several with commas between. Undefined: there
   * is none, every resource needs a Fanfare.
   */
  readonly address: string | undefined;
  /** Paths of PEM files; set whenever address or kedaListen is. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
  readonly probesListen: HostPort;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly finalizers: boolean;
  readonly finalizerTimeoutMs: number;
  readonly podDeletionCost: boolean;
  /** Empty: all namespaces. */
  readonly watchNamespaces: readonly string[];
  /** Undefined: no scaler for KEDA. */
  readonly kedaListen: HostPort | undefined;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const PREFIX = 'FANFARE_OPERATOR_';
const MAX_FINALIZER_TIMEOUT_MS = 7 * 24 * 3_600_000;
const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** What each variable means, for --help. */
export const VARIABLES: Readonly<Record<string, string>> = {
  NAME: "this process, for people: the pod's name (default: the host's)",
  NAMESPACE: 'where the lease for leader election is (default: default)',
  ADDRESS: 'host:port of the broker for resources without a Fanfare (default: none)',
  TLS_CERT: "PEM file: the operator's certificate; needed with ADDRESS and KEDA_LISTEN",
  TLS_KEY: 'PEM file: its key',
  TLS_CA: "PEM file: who signs brokers' certificates, and KEDA's",
  PROBES_LISTEN: 'host:port of /readyz, /livez and /metrics (default: 127.0.0.1:8081)',
  LOG_LEVEL: `${LOG_LEVELS.join(', ')} (default: info)`,
  LOG_FORMAT: 'json or pretty (default: json)',
  FINALIZERS:
    'true, or false: deleting a resource never waits, and deletes nothing in a broker (default: true)',
  FINALIZER_TIMEOUT:
    'how long a namespace that is being deleted waits for a broker, such as 10m: 1 s to 7 days (default: 10m)',
  POD_DELETION_COST: 'true: mark the pods that should go first (default: true)',
  WATCH_NAMESPACES: 'names with commas between them (default: all)',
  KEDA_LISTEN: "host:port of KEDA's external scaler (default: none)",
};

/** Throws ConfigError with all problems, one a line. */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = [];
  const read = (name: string): string | undefined => env[PREFIX + name]?.trim() || undefined;
  const checked = <T>(
    name: string,
    fallback: T,
    allowed: string,
    parse: (text: string) => T | undefined,
  ): T => {
    const text = read(name);
    if (text === undefined) return fallback;
    const value = parse(text);
    if (value !== undefined) return value;
    problems.push(`${PREFIX}${name} is ${JSON.stringify(text)}: must be ${allowed}`);
    return fallback;
  };
  const known = new Set(Object.keys(VARIABLES).map((name) => PREFIX + name));
  for (const name of Object.keys(env)) {
    // SERVICE_… and PORT… are Kubernetes' own, in a namespace with a Service fanfare-operator.
    if (
      name.startsWith(PREFIX) &&
      !known.has(name) &&
      !/^(SERVICE|PORT)(_|$)/.test(name.slice(PREFIX.length))
    ) {
      problems.push(`${name} is not known: there are ${[...known].join(', ')}`);
    }
  }
  const listen = 'host:port, an IPv6 address in brackets';
  const files = { cert: read('TLS_CERT'), key: read('TLS_KEY'), ca: read('TLS_CA') };
  const address = checked('ADDRESS', undefined, 'host:port, or several with commas between', brokerAddresses);
  const kedaListen = checked('KEDA_LISTEN', undefined, listen, hostPort);
  const { cert, key, ca } = files;
  const tls = cert && key && ca ? { cert, key, ca } : undefined;
  if (tls === undefined && (address !== undefined || kedaListen !== undefined || cert || key || ca)) {
    const missing = Object.entries(files).filter(([, path]) => path === undefined);
    const names = missing.map(([name]) => `${PREFIX}TLS_${name.toUpperCase()}`).join(', ');
    problems.push(`${names} missing: brokers and KEDA are talked to over mutual TLS only`);
  }
  const flag = (text: string): boolean | undefined =>
    text === 'true' ? true : text === 'false' ? false : undefined;
  const config: Config = {
    name: checked('NAME', hostname(), 'at most 128 characters', (text) =>
      text.length <= 128 ? text : undefined,
    ),
    namespace: checked('NAMESPACE', 'default', 'the name of a namespace', namespaceName),
    address,
    tls,
    probesListen: checked('PROBES_LISTEN', { host: '127.0.0.1', port: 8081 }, listen, hostPort),
    logLevel: checked<LogLevel>('LOG_LEVEL', 'info', LOG_LEVELS.join(', '), (text) =>
      LOG_LEVELS.find((level) => level === text),
    ),
    logFormat: checked<LogFormat>('LOG_FORMAT', 'json', 'json or pretty', (text) =>
      text === 'json' || text === 'pretty' ? text : undefined,
    ),
    finalizers: checked('FINALIZERS', true, 'true or false', flag),
    finalizerTimeoutMs: checked('FINALIZER_TIMEOUT', 600_000, '1s to 168h, such as 90s or 10m', (text) => {
      const ms = durationMs(text);
      return ms !== undefined && ms >= 1_000 && ms <= MAX_FINALIZER_TIMEOUT_MS ? ms : undefined;
    }),
    podDeletionCost: checked('POD_DELETION_COST', true, 'true or false', flag),
    watchNamespaces: checked<readonly string[]>(
      'WATCH_NAMESPACES',
      [],
      'names of namespaces with commas between',
      (text) => {
        const names = text.split(',').map((name) => name.trim());
        return names.every((name) => namespaceName(name) !== undefined) ? [...new Set(names)] : undefined;
      },
    ),
    kedaListen,
  };
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return Object.freeze(config);
}

function hostPort(text: string): HostPort | undefined {
  const [, bracketed, plain, digits] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const host = bracketed ?? plain;
  return host === undefined || !(port <= 65_535) ? undefined : { host, port };
}

function namespaceName(text: string): string | undefined {
  return /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(text) ? text : undefined;
}

function durationMs(text: string): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * UNITS_MS[unit!]!;
}
