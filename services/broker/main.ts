// The broker as a process: reads the configuration, starts it, and stops it on a signal. Invariant: an
// expected failure is one sentence and an exit code, never a stack.
import { pathToFileURL } from 'node:url';
import { containerMemoryBytes } from '../node/memory.ts';
import { type BearerToken, fixedToken, tokenOfFile } from './adapters/http/bearer-token.ts';
import type { HealthServer } from './adapters/http/health-server.ts';
import type { MetricsEndpoint } from './adapters/http/metrics-endpoint.ts';
import { nodeClock } from './adapters/node/clock.ts';
import { countBuffersWithHeap } from './adapters/node/garbage-collection.ts';
import type { LineFigures } from './adapters/otel/metric-catalog.ts';
import { type TelemetrySettings, telemetrySettings } from './adapters/otel/settings.ts';
import type { Telemetry } from './adapters/otel/telemetry.ts';
import { Audit } from './audit.ts';
import { startBroker } from './compose.ts';
import { type Config, type MetricsToken, parseConfig } from './config.ts';
import { BrokerError } from './core/errors.ts';
import { printableLines } from './core/printable.ts';
import { greeting } from './development.ts';
import * as limits from './limits.ts';
import type { LineWriter } from './line-writer.ts';
import { createAuditLog, createLog, type Log } from './log.ts';
import { openErrorLines, openFileLines } from './open-lines.ts';

/**
 * Starts a broker, and stops it on SIGTERM and SIGINT. Resolves to the exit code when it has stopped. `print`
 * gets what belongs on standard output: the help.
 */
export async function serve(
  argv: readonly string[],
  print: (text: string) => void = (text) => process.stdout.write(text),
): Promise<number> {
  let config: Config;
  let settings: TelemetrySettings | undefined;
  try {
    const parsed = parseConfig({
      argv,
      env: process.env,
      terminal: process.stderr.isTTY === true,
      memoryBytes: containerMemoryBytes(),
    });
    if ('help' in parsed) {
      print(parsed.help);
      return 0;
    }
    config = parsed.config;
    settings = telemetrySettings(process.env, config.metricsListen !== undefined);
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    process.stderr.write(`fanfare: ${printableLines(error.message)}\n`);
    return 2;
  }
  countBuffersWithHeap(config.cacheBytes + limits.RECENT_BYTES + limits.MAX_UNCOMMITTED_BYTES);
  let telemetry: Telemetry | undefined;
  const lines = openErrorLines();
  const logOptions = {
    traceIds: () => telemetry?.activeSpanIds(),
    level: config.logLevel,
    format: config.logFormat,
    color: process.stderr.isTTY === true && process.env.NO_COLOR === undefined,
    sink: lines,
  };
  const log = createLog(logOptions);
  for (const warning of config.warnings) log.warn(warning);
  await using around = new AsyncDisposableStack();
  try {
    const auditLines = config.auditLog === undefined ? undefined : openFileLines(config.auditLog);
    const audit = new Audit(
      nodeClock,
      createAuditLog(auditLines ? { ...AUDIT_FILE, sink: auditLines } : logOptions),
    );
    around.defer(() => audit.close());
    for (const each of [lines, ...(auditLines ? [auditLines] : [])]) {
      each.onDropped((dropped) =>
        log.warn({ lines: dropped }, 'lines were dropped: nobody took them in time'),
      );
    }
    const health = await openHealth(config, log);
    around.defer(() => health?.close());
    const metrics = await openMetrics(config, log);
    around.defer(() => metrics?.close());
    telemetry = await loadTelemetry(settings, log, metrics);
    // A signal during the start is heard, too: it stops the broker in order once it has started.
    const stopped = stopSignal();
    const broker = await startBroker(config, {
      log,
      audit: (entry) => audit.record(entry),
      lines: () => lineFigures(audit, lines, auditLines),
      telemetry,
      metrics,
      health,
    });
    if (config.logFormat === 'pretty') lines.write(greeting(config, broker.address));
    const signal = await stopped;
    log.info({ signal }, 'stopping');
    await broker.stop();
    log.info('stopped');
    return 0;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // An expected failure is one sentence. Anything else needs its stack.
    if (error instanceof BrokerError || error.name === 'CertificateError') log.fatal(error.message);
    else log.fatal({ error }, 'the broker failed');
    return 1;
  } finally {
    await telemetry?.close();
  }
}

/** The audit in a file of its own: all of it, for machines. */
const AUDIT_FILE = { level: 'info', format: 'json' } as const;

function lineFigures(audit: Audit, log: LineWriter, file: LineWriter | undefined): LineFigures {
  return {
    droppedLogLines: log.dropped.others + (file?.dropped.others ?? 0),
    droppedAuditLines: log.dropped.kept + (file?.dropped.kept ?? 0),
    summedRefusals: audit.summed,
  };
}

/** Probes are answered before there is a broker: it is alive and not serving. */
async function openHealth({ healthListen }: Config, log: Log): Promise<HealthServer | undefined> {
  if (healthListen === undefined) return undefined;
  const { openHealthServer } = await import('./adapters/http/health-server.ts');
  return openHealthServer(healthListen, (error) => log.error({ error }, 'the health port failed'));
}

async function openMetrics(config: Config, log: Log): Promise<MetricsEndpoint | undefined> {
  const { metricsListen, metricsToken } = config;
  if (metricsListen === undefined) return undefined;
  const { openMetricsEndpoint } = await import('./adapters/http/metrics-endpoint.ts');
  return openMetricsEndpoint({
    listen: metricsListen,
    token: metricsToken && (await openToken(metricsToken, log)),
    clock: nodeClock,
    onProblem: (error) => log.error({ error }, 'the metrics endpoint failed'),
  });
}

function openToken(token: MetricsToken, log: Log): BearerToken | Promise<BearerToken> {
  if ('token' in token) return fixedToken(token.token);
  return tokenOfFile(token.file, nodeClock, (error) => log.error(`${error.message}: the former one goes on`));
}

/** OpenTelemetry takes longer to load than the rest of the broker, so it is loaded only if it is used. */
async function loadTelemetry(
  settings: TelemetrySettings | undefined,
  log: Log,
  page: MetricsEndpoint | undefined,
): Promise<Telemetry | undefined> {
  if (settings === undefined) return undefined;
  const { openTelemetry } = await import('./adapters/otel/telemetry.ts');
  return openTelemetry({ settings, logger: log, clock: nodeClock, page });
}

function stopSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await serve(process.argv.slice(2));
}
