// Which telemetry is asked for, from --metrics-listen and the standard OTEL_ variables. It loads nothing of
// OpenTelemetry: a broker that nobody observes starts without that.
//
// One thing differs from the specification's defaults: without OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER
// a signal is exported over OTLP only if an OTLP endpoint is set. A broker must not try to reach
// localhost:4318 unasked.
import { BrokerError } from '../../core/errors.ts';

const TRACES_EXPORTERS = ['otlp', 'console', 'none'] as const;
const METRICS_EXPORTERS = ['otlp', 'console', 'prometheus', 'none'] as const;
const OTLP_PROTOCOLS = ['grpc', 'http/protobuf', 'http/json'] as const;
const DEFAULT_METRIC_INTERVAL_MS = 60_000;
const DEFAULT_METRIC_TIMEOUT_MS = 30_000;

export type PushExporter = 'otlp' | 'console';
export type OtlpProtocol = (typeof OTLP_PROTOCOLS)[number];

export interface TelemetrySettings {
  /** The SDK reads OTEL_TRACES_EXPORTER and all else about traces itself. */
  readonly traces: boolean;
  readonly metrics: {
    readonly exporters: readonly PushExporter[];
    readonly protocol: OtlpProtocol;
    readonly intervalMs: number;
    /** At most intervalMs. */
    readonly timeoutMs: number;
  };
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Undefined if no telemetry is asked for. INVALID_ARGUMENT names the variables whose values are not
 * supported.
 */
export function telemetrySettings(env: Environment, hasMetricsPort: boolean): TelemetrySettings | undefined {
  const problems: string[] = [];
  const disabled = read(env, 'OTEL_SDK_DISABLED')?.toLowerCase() === 'true';
  const traces = disabled ? [] : exporters(env, 'TRACES', TRACES_EXPORTERS, problems);
  const metrics = disabled ? [] : exporters(env, 'METRICS', METRICS_EXPORTERS, problems);
  if (metrics.includes('prometheus') && !hasMetricsPort) {
    problems.push('OTEL_METRICS_EXPORTER is "prometheus": say where it listens with --metrics-listen');
  }
  const protocolName = firstSet(env, 'OTEL_EXPORTER_OTLP_METRICS_PROTOCOL', 'OTEL_EXPORTER_OTLP_PROTOCOL');
  const protocol = protocolName === undefined ? 'http/protobuf' : read(env, protocolName);
  if (!isOneOf(protocol, OTLP_PROTOCOLS)) {
    problems.push(`${protocolName} is "${protocol}": must be one of ${OTLP_PROTOCOLS.join(', ')}`);
  }
  const intervalMs = milliseconds(env, 'OTEL_METRIC_EXPORT_INTERVAL', DEFAULT_METRIC_INTERVAL_MS, problems);
  const timeoutMs = milliseconds(env, 'OTEL_METRIC_EXPORT_TIMEOUT', DEFAULT_METRIC_TIMEOUT_MS, problems);
  if (problems.length > 0) throw new BrokerError('INVALID_ARGUMENT', problems.join('\n'));

  const pushed = metrics.filter((name): name is PushExporter => name === 'otlp' || name === 'console');
  if (traces.length === 0 && pushed.length === 0 && !hasMetricsPort) return undefined;
  return {
    traces: traces.length > 0,
    metrics: {
      exporters: pushed,
      protocol: protocol as OtlpProtocol,
      intervalMs,
      timeoutMs: Math.min(timeoutMs, intervalMs),
    },
  };
}

function exporters<Name extends string>(
  env: Environment,
  signal: 'TRACES' | 'METRICS',
  allowed: readonly Name[],
  problems: string[],
): Name[] {
  const variable = `OTEL_${signal}_EXPORTER`;
  const list = read(env, variable);
  if (list === undefined) {
    const endpoint = firstSet(env, `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`, 'OTEL_EXPORTER_OTLP_ENDPOINT');
    return endpoint === undefined ? [] : ['otlp' as Name];
  }
  const names = new Set(list.split(',').map((name) => name.trim()));
  const known = [...names].filter((name) => isOneOf(name, allowed));
  if (known.length < names.size)
    problems.push(`${variable} is "${list}": must be of ${allowed.join(', ')}, with commas between`);
  return names.has('none') ? [] : known;
}

function milliseconds(env: Environment, variable: string, fallback: number, problems: string[]): number {
  const text = read(env, variable);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 86_400_000) return value;
  problems.push(`${variable} is "${text}": must be milliseconds, 1 to 86400000`);
  return fallback;
}

/** Reads a variable. The specification says that an empty one is as good as none. */
function read(env: Environment, variable: string): string | undefined {
  const value = env[variable]?.trim();
  return value === '' ? undefined : value;
}

function firstSet(env: Environment, ...variables: string[]): string | undefined {
  return variables.find((variable) => read(env, variable) !== undefined);
}

function isOneOf<Name extends string>(value: string | undefined, names: readonly Name[]): value is Name {
  return names.some((name) => name === value);
}
