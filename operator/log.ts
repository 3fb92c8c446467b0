// The operator's log, on pino: JSON lines for machines or short lines for terminals, on standard error.
import pino from 'pino';
import type { LogFormat, LogLevel } from './config.ts';
import type { Logger } from './kube/logger.ts';

export function createLog(level: LogLevel, format: LogFormat): Logger {
  // Synchronous, so that the last lines of a dying process are not lost.
  const sink = pino.destination({ dest: 2, sync: true });
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    format === 'json' ? sink : { write: (line: string) => sink.write(prettyLine(line)) },
  );
  return {
    info: (fields, message) => log.info(fields, message),
    warn: (fields, message) => log.warn(fields, message),
    error: (fields, message) => log.error(fields, message),
  };
}

/** "12:03:04.567 info  scaled target=billing": an error's stack stands below, indented. */
export function prettyLine(json: string): string {
  const { time, level, msg, error, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const shown = Object.entries(fields).map(([key, value]) =>
    typeof value === 'string' && /^[^\s"=\p{C}]+$/u.test(value)
      ? `${key}=${value}`
      : `${key}=${JSON.stringify(value)}`,
  );
  const line = [String(time).slice(11, 23), String(level).padEnd(5), String(msg), ...shown].join(' ');
  const { stack } = Object(error) as { stack?: string };
  return stack === undefined ? `${line}\n` : `${line}\n    ${stack.replaceAll('\n', '\n    ')}\n`;
}
