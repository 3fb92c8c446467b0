// fanfare top: how far behind each subscription is, live.
import type { Backlog } from '../../client/admin-types.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { type Columns, formatTable, printOver, printText } from '../output.ts';
import { withClient } from '../session.ts';
import { standardOutput } from '../standard-output.ts';
import { formatCount, formatDuration, formatSize } from '../units.ts';

export interface TopFlags extends CommonFlags {
  /** Milliseconds. */
  readonly interval: number;
  readonly once?: boolean;
}

/** A backlog with the rates since the answer before. */
interface Row extends Backlog {
  readonly appendedPerS: number;
  readonly deliveredPerS: number;
  readonly ackedPerS: number;
}

const COLUMNS: Columns<Row> = {
  subscription: (row) => row.subscription.slice(row.subscription.lastIndexOf('/') + 1),
  topic: (row) => row.topic.slice(row.topic.lastIndexOf('/') + 1),
  'publish/s': (row) => formatCount(row.appendedPerS),
  'deliver/s': (row) => formatCount(row.deliveredPerS),
  'ack/s': (row) => formatCount(row.ackedPerS),
  backlog: (row) => formatCount(row.messages),
  size: (row) => formatSize(row.bytes),
  outstanding: (row) => formatCount(row.outstandingMessages),
  'oldest unacked': (row) =>
    row.oldestUnackedAgeMs === undefined ? '-' : formatDuration(row.oldestUnackedAgeMs),
  consumers: (row) => row.consumers,
};

export async function top(
  subscriptions: readonly string[],
  flags: TopFlags,
  signal: AbortSignal,
): Promise<void> {
  await withClient(flags, async (client) => {
    await client.reach({ timeoutMs: flags.timeout, signal });
    let before: readonly Backlog[] = [];
    let answers = 0;
    for await (const backlogs of client.admin.watchBacklog({
      subscriptions,
      intervalMs: flags.interval,
      signal,
    })) {
      answers++;
      // Rates need two answers; --once shows the first that has them.
      if (!flags.once || answers > 1 || backlogs.length === 0) await print(rowsOf(backlogs, before), flags);
      if (flags.once && (answers > 1 || backlogs.length === 0)) return;
      before = backlogs;
    }
  });
  if (signal.aborted) throw new CliError('', EXIT.interrupted);
}

/** Computes rates from the difference of two answers; a counter that fell has begun anew. */
export function rowsOf(now: readonly Backlog[], before: readonly Backlog[]): Row[] {
  const earlier = new Map(before.map((backlog) => [backlog.subscription, backlog]));
  return now.map((backlog) => {
    const last = earlier.get(backlog.subscription);
    const seconds = ((backlog.measureTime?.getTime() ?? 0) - (last?.measureTime?.getTime() ?? 0)) / 1_000;
    const rate = (total: number, previous: number | undefined) => {
      if (previous === undefined || !(seconds > 0)) return 0;
      return (total < previous ? total : total - previous) / seconds;
    };
    return {
      ...backlog,
      appendedPerS: rate(backlog.appendedTotal, last?.appendedTotal),
      deliveredPerS: rate(backlog.deliveredTotal, last?.deliveredTotal),
      ackedPerS: rate(backlog.ackedTotal, last?.ackedTotal),
    };
  });
}

function print(rows: readonly Row[], flags: TopFlags): Promise<void> {
  if (flags.output === 'json') {
    if (rows.length === 0) return Promise.resolve();
    return printText(rows.map((row) => JSON.stringify(row)).join('\n'));
  }
  const text = rows.length === 0 ? 'no subscriptions' : formatTable(rows, COLUMNS);
  return standardOutput().isTerminal && !flags.once ? printOver(text) : printText(text);
}
