// The broker's log, on pino: JSON lines for machines, short lines for terminals. A line is written before the
// call returns.
import pino from 'pino';
import { printable, printableLines } from './core/printable.ts';

export type Log = pino.Logger;
export type LogFormat = 'json' | 'pretty';
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogSink {
  write(line: string): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Where lines go; standard error by default, so that standard output stays the user's. */
  readonly sink?: LogSink;
  /** Whether the pretty format has colours. */
  readonly color?: boolean;
  /** The ids of the active span, if there is one: each line then has them. */
  readonly traceIds?: () => { readonly traceId: string; readonly spanId: string } | undefined;
}

export function createLog(options: LogOptions): Log {
  const { level, format, traceIds, color = false } = options;
  // Synchronous, so that the last lines of a dying process are not lost. The hot path logs nothing.
  const sink: LogSink = options.sink ?? pino.destination({ dest: 2, sync: true });
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
    { write: (line) => sink.write(format === 'json' ? printableLines(line) : prettyLine(line, color)) },
  );
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
