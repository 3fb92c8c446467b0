// The broker's log and audit, on pino: JSON lines for machines, short lines for terminals. Where lines go,
// and what becomes of those that nobody takes, is line-writer.ts.
import pino from 'pino';
import { printable, printableLines } from './core/printable.ts';

export type Log = pino.Logger;
export type LogFormat = 'json' | 'pretty';
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogSink {
  /** `kept`: not to be dropped before others. */
  write(line: string, sort: 'kept' | 'other'): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly sink: LogSink;
  /** Whether the pretty format has colours. */
  readonly color?: boolean;
  /** The ids of the active span, if there is one: each line then has them. */
  readonly traceIds?: () => { readonly traceId: string; readonly spanId: string } | undefined;
}

export function createLog(options: LogOptions): Log {
  const { level, format, traceIds, color = false, sink } = options;
  const destination = {
    // With this pino tells the level of each line.
    [pino.symbols.needsMetadataGsym]: true as const,
    lastLevel: 0,
    write(line: string): void {
      // Why the process ends is not lost.
      const sort = this.lastLevel >= FATAL ? 'kept' : 'other';
      sink.write(format === 'json' ? printableLines(line) : prettyLine(line, color), sort);
    },
  };
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
      mixin: () => {
        const ids = traceIds?.();
        return ids === undefined ? {} : { trace_id: ids.traceId, span_id: ids.spanId };
      },
    },
    destination,
  );
}

const FATAL = pino.levels.values.fatal!;

/** Writes audit lines: log lines with a group of fields. The sink is told which of them are kept. */
export function createAuditLog(options: LogOptions): (fields: object, kept: boolean) => void {
  const { sink } = options;
  const kept = createLog({ ...options, sink: { write: (line) => sink.write(line, 'kept') } });
  const others = createLog(options);
  return (fields, isKept) => (isKept ? kept : others).info({ audit: fields }, 'audit');
}

/** "12:03:04.567 info  listening  address=127.0.0.1:7443", and an error's stack below, indented. */
export function prettyLine(json: string, color: boolean): string {
  const { time, level, msg, error, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const paint = (code: string, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
  const shownLevel = paint(LEVEL_COLORS[String(level)] ?? '0', String(level).padEnd(5));
  const shownFields = Object.entries(fields).map(([key, value]) => `${paint('2', `${key}=`)}${show(value)}`);
  const parts = [
    paint('2', String(time).slice(11, 23)),
    shownLevel,
    printable(String(msg ?? '')),
    shownFields.join(' '),
  ];
  const stack =
    error === undefined ? '' : `\n    ${printableLines(stackOf(error)).replaceAll('\n', '\n    ')}`;
  return `${parts.filter((part) => part !== '').join(' ')}${stack}\n`;
}

const LEVEL_COLORS: Readonly<Record<string, string>> = {
  trace: '2',
  debug: '2',
  info: '32',
  warn: '33',
  error: '31',
  fatal: '41',
};

// Strings are quoted wherever they could be taken for something else, or could break the line.
function show(value: unknown): string {
  const isPlain = typeof value === 'string' && /^[^\s"=\p{C}]+$/u.test(value);
  return isPlain ? value : printable(JSON.stringify(value));
}

function stackOf(error: unknown): string {
  const { stack, message } = Object(error) as { stack?: unknown; message?: unknown };
  return typeof stack === 'string' ? stack : String(message ?? JSON.stringify(error));
}
