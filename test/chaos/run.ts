// A chaos run from beginning to end: the stage, one fault after the other with a recovery between, and what
// must hold after each: the brokers own all partitions as assigned, everything that was answered is
// delivered, and all brokers know what was defined.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LogLine } from '../support/broker.ts';
import { type ChaosClients, startClients } from './clients.ts';
import { type ClusterStage, startClusterStage } from './cluster-stage.ts';
import { fillDisk } from './disk-stage.ts';
import type { Judge } from './judge.ts';

export const KINDS = ['kill', 'stop', 'suspend', 'lost-tail', 'lost-definitions', 'full-disk'] as const;
/** Not a fault to survive: something must be lost, and the verdict must say so. */
export const PLANTED = 'planted-loss';
export type Kind = (typeof KINDS)[number] | typeof PLANTED;

export interface RunOptions {
  readonly judge: Judge;
  readonly folder: string;
  readonly random: () => number;
  readonly kinds: readonly Kind[];
  readonly minutes: number;
}

/** What was answered until a fault was over is delivered within that time, or the run ends. */
const RECOVERY_MS = 60_000;
/** Each broker has heard within that time what was defined. */
const DEFINITIONS_MS = 20_000;
const POLL_MS = 50;
const MINUTE_MS = 60_000;

/** Resolves when the judge has heard everything. Rejects only if the run could not begin. */
export async function runChaos(options: RunOptions): Promise<void> {
  const { judge, folder, random } = options;
  await using clients = await startClients(join(folder, 'journal.jsonl'), judge, random);
  await using stage = await startClusterStage(clients, random);
  const run = new Run(options, clients, stage);
  // A run that breaks off is still given its end: what is not delivered yet may come, and lost is only what
  // never comes.
  for (const part of [() => run.faults(), () => run.end()]) {
    try {
      await part();
    } catch (error) {
      const { message } = clients.failure ?? (error as Error);
      console.log(`the run is over: ${message}`);
      await run.wrong(message);
    }
  }
  for (const { name, lines } of stage.logs()) await run.keepLog(name, lines);
}

class Run {
  readonly #options: RunOptions;
  readonly #clients: ChaosClients;
  readonly #stage: ClusterStage;
  readonly #beganMs = performance.now();

  constructor(options: RunOptions, clients: ChaosClients, stage: ClusterStage) {
    this.#options = options;
    this.#clients = clients;
    this.#stage = stage;
  }

  /** Carries out the faults in rounds: each kind once, in any order. The first round is always finished. */
  async faults(): Promise<void> {
    const { minutes, kinds, random } = this.#options;
    await this.#delivered();
    for (let round = 0; ; round += 1) {
      for (const kind of shuffled(kinds, random)) {
        if (round > 0 && performance.now() - this.#beganMs > minutes * MINUTE_MS) return;
        await this.#fault(kind);
        await delay(500 + random() * 2_500);
      }
    }
  }

  async end(): Promise<void> {
    await this.#stage.stopPublishing();
    await this.#delivered();
    await this.#stage.stopConsuming();
  }

  /** Notes it in the journal, or, if nobody is left to write that, tells the judge alone. */
  async wrong(what: string): Promise<void> {
    try {
      await this.#clients.note({ ev: 'wrong', what });
    } catch {
      // The clients are gone: that is what was wrong.
      this.#options.judge.hear({ ev: 'wrong', what, t: 0 });
    }
  }

  async keepLog(name: string, lines: readonly LogLine[]): Promise<void> {
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
    await writeFile(join(this.#options.folder, `${name}.log`), text);
  }

  async #fault(kind: Kind): Promise<void> {
    await this.#clients.note({ ev: 'fault', kind });
    const what = await this.#carryOut(kind);
    const overMs = performance.now();
    await this.#clients.note({ ev: 'over', kind });
    await this.#stage.settled();
    await this.#delivered();
    const recoveredMs = performance.now() - overMs;
    await this.#compareDefinitions();
    await this.#stage.tidy(() => this.#delivered());
    const { published, handled, redelivered, errors } = this.#options.judge.counts();
    console.log(
      `${this.#clock()}  ${kind.padEnd(17)}${what}; recovered ${(recoveredMs / 1000).toFixed(1)} s later\n` +
        `       so far published ${published}, delivered ${handled}, redelivered ${redelivered}, errors of clients ${errors}`,
    );
  }

  #carryOut(kind: Kind): Promise<string> {
    const stage = this.#stage;
    switch (kind) {
      case 'kill':
        return stage.kill();
      case 'stop':
        return stage.stop();
      case 'suspend':
        return stage.suspend();
      case 'lost-tail':
        return stage.loseTail();
      case 'lost-definitions':
        return stage.loseDefinitions();
      case PLANTED:
        return stage.plantLoss();
      case 'full-disk': {
        const { random } = this.#options;
        const keep = (name: string, lines: readonly LogLine[]) => this.keepLog(name, lines);
        return fillDisk(this.#clients, random, () => this.#delivered(), keep);
      }
    }
  }

  /** Resolves when everything is delivered that has been answered until now. */
  async #delivered(): Promise<void> {
    const { judge } = this.#options;
    // Only what was answered before this line counts.
    const nowAt = await this.#clients.note({ ev: 'waiting' });
    await this.#until(RECOVERY_MS, () => {
      const oldest = judge.oldestWaiting();
      return oldest === undefined || oldest.answeredAt > nowAt ? undefined : oldest.what;
    });
  }

  async #compareDefinitions(): Promise<void> {
    const { judge } = this.#options;
    const expected = judge.definitions().join();
    let lists: string[][] = [];
    const deadlineMs = performance.now() + DEFINITIONS_MS;
    do {
      await delay(POLL_MS);
      lists = await this.#stage.definitions();
    } while (performance.now() < deadlineMs && lists.some((names) => names.sort().join() !== expected));
    for (const names of lists) await this.#clients.note({ ev: 'listed', names });
  }

  /** Resolves when nothing is in the way any more. */
  async #until(timeoutMs: number, inTheWay: () => string | undefined): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const what = inTheWay();
      if (what === undefined) return;
      if (this.#clients.failure) throw this.#clients.failure;
      if (performance.now() > deadlineMs) throw new Error(`${timeoutMs / 1000} s later still: ${what}`);
      await delay(POLL_MS);
    }
  }

  #clock(): string {
    const seconds = Math.round((performance.now() - this.#beganMs) / 1000);
    return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(seconds % 60).padStart(2, '0')}`;
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const left = [...items];
  return items.map(() => left.splice(Math.floor(random() * left.length), 1)[0]!);
}
