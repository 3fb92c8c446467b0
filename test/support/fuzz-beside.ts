// The well-behaved clients beside a flood: one publisher with ordering keys, 200 messages a second, and its
// subscriber, on a topic of their own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { BrokerProcess } from './broker.ts';

export interface BesideReport {
  readonly published: number;
  readonly received: number;
  /** Lost order, duplicates, errors and retries, as sentences. */
  readonly problems: readonly string[];
  /** Milliseconds from the call of publish to the handler. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Beside extends Disposable {
  /**
   * Stops publishing, waits at most 20 s until all has arrived, and resolves with what the clients noticed.
   */
  stop(): Promise<BesideReport>;
}

/** Resolves when topic and subscription are there. */
export async function startBeside({ address, tls }: BrokerProcess): Promise<Beside> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'fuzz-beside-child.ts'), JSON.stringify({ address, tls })],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the clients beside the flood ended by themselves');
    return value;
  };
  await next();
  return {
    async stop() {
      child.stdin.write('stop\n');
      const report: BesideReport = JSON.parse(await next());
      if (child.exitCode === null) await once(child, 'exit');
      return report;
    },
    [Symbol.dispose]: () => void child.kill('SIGKILL'),
  };
}
