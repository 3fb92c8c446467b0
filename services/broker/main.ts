// The broker as a process: reads the configuration, starts it, and stops it on a signal. Invariant: an
// expected failure is one sentence and an exit code, never a stack.
import { pathToFileURL } from 'node:url';
import { containerMemoryBytes } from '../node/memory.ts';
import { nodeClock } from './adapters/node/clock.ts';
import { countBuffersWithHeap } from './adapters/node/garbage-collection.ts';
import { type TelemetrySettings, telemetrySettings } from './adapters/otel/settings.ts';
import type { Telemetry } from './adapters/otel/telemetry.ts';
import { startBroker } from './compose.ts';
import { type Config, parseConfig } from './config.ts';
import { BrokerError } from './core/errors.ts';
import { printableLines } from './core/printable.ts';
import { greeting } from './development.ts';
import * as limits from './limits.ts';
import { createLog, type Log } from './log.ts';

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
    settings = telemetrySettings(process.env, config.metricsListen);
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    process.stderr.write(`fanfare: ${printableLines(error.message)}\n`);
    return 2;
  }
  countBuffersWithHeap(config.cacheBytes + limits.RECENT_BYTES + limits.MAX_UNCOMMITTED_BYTES);
  let telemetry: Telemetry | undefined;
  const log = createLog({
    traceIds: () => telemetry?.activeSpanIds(),
    level: config.logLevel,
    format: config.logFormat,
    color: process.stderr.isTTY === true && process.env.NO_COLOR === undefined,
  });
  for (const warning of config.warnings) log.warn(warning);
  try {
    telemetry = await loadTelemetry(settings, log);
    // A signal during the start is heard, too: it stops the broker in order once it has started.
    const stopped = stopSignal();
    const broker = await startBroker(config, log, telemetry);
    if (config.logFormat === 'pretty') process.stderr.write(greeting(config, broker.address));
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

/** OpenTelemetry takes longer to load than the rest of the broker, so it is loaded only if it is used. */
async function loadTelemetry(
  settings: TelemetrySettings | undefined,
  log: Log,
): Promise<Telemetry | undefined> {
  if (settings === undefined) return undefined;
  const { openTelemetry } = await import('./adapters/otel/telemetry.ts');
  return openTelemetry({ settings, logger: log, clock: nodeClock });
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
