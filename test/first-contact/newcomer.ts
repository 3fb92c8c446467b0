// What somebody does who sees Fanfare for the first time: types the commands of the README as they stand, the
// first one in a terminal of its own, then those of the greetings. EXPECTED says what each must print; a
// command that it does not know is a failure.
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freePorts } from '../support/free-ports.ts';
import type { Machine } from './machine.ts';
import { Terminal } from './terminal.ts';
import { commandsOfGreeting, commandsOfReadme } from './texts.ts';

interface Expectation {
  readonly command: RegExp;
  readonly prints: RegExp;
  /** The command runs on until Ctrl-C. */
  readonly endless?: boolean;
}

/** The first expectation whose command fits applies. */
const EXPECTED: readonly Expectation[] = [
  { command: /fanfare topic create orders/, prints: /name: +projects\/default\/topics\/orders\n/ },
  {
    command: /fanfare subscription create audit/,
    prints: /name: +projects\/default\/subscriptions\/audit\n/,
  },
  // A quick publish prints nothing.
  { command: /fanfare pub orders/, prints: /^(\d[\d,k]* published.*)?$/s },
  // The messages of a key come in order, the keys in any order.
  {
    command: /fanfare sub audit --exit-at-end$/,
    prints: /^(?=.*^us 2$)(?=.*^eu 1$.*^eu 3$)([a-z]{2} \d\n){3}$/ms,
  },
  { command: /fanfare sub audit$/, prints: /^(hello|100000)$/m, endless: true },
  { command: /fanfare top$/, prints: /^audit +orders /m, endless: true },
  { command: /fanfare cluster$/, prints: /^broker-2 /m },
  { command: /fanfare cluster --watch$/, prints: /^broker-2 /m, endless: true },
  { command: /fanfare cluster drain broker-\d --(wait|revoke)$/, prints: /^/ },
  { command: /^kill -9 \d+$/, prints: /^$/ },
];

const INSTALL_MS = 300_000;
const TESTS_MS = 300_000;
const COMMAND_MS = 60_000;

export class Newcomer {
  readonly #machine: Machine;
  readonly #readme: string;
  readonly #report: (line: string, seconds: number) => void;

  constructor(machine: Machine, report: (line: string, seconds: number) => void) {
    this.#machine = machine;
    this.#readme = readFileSync(join(machine.shell.cwd, 'README.md'), 'utf8');
    this.#report = report;
  }

  /** Rejects with the first failure and all that was printed then. */
  async everything(): Promise<void> {
    await this.#firstMinute();
    await this.#greetingOfBroker();
    await this.#severalBrokers();
    await this.#tests();
    await this.#otherScripts();
  }

  async #firstMinute(): Promise<void> {
    const [start] = commandsOfReadme(this.#readme, 'Two commands');
    await using broker = await this.#open(start!, /Ctrl-C stops it/, INSTALL_MS);
    if (this.#machine.takesDefaultPort && !broker.text.includes('127.0.0.1:7443')) {
      throw broker.failure('does not listen where the README says');
    }
    await this.#typeAll(commandsOfReadme(this.#readme, 'The first minute'));
    await this.#stop(broker, / stopped\n/);
  }

  async #greetingOfBroker(): Promise<void> {
    await rm(join(this.#machine.shell.cwd, '.fanfare'), { recursive: true });
    await using broker = await this.#open('npm start', /Ctrl-C stops it/, COMMAND_MS);
    await this.#typeAll(commandsOfGreeting(broker.text));
    await this.#stop(broker, / stopped\n/);
  }

  async #severalBrokers(): Promise<void> {
    const [start, ...others] = commandsOfReadme(this.#readme, 'Several brokers');
    const line = `${start} -- --port ${await freePorts(3)}`;
    if (!this.#machine.hasRedis) {
      await this.#type(line, { prints: /^fanfare: redis-server is not in PATH: install /m, code: 1 });
      return;
    }
    await using cluster = await this.#open(line, /Ctrl-C stops all/, COMMAND_MS);
    await this.#typeAll([...commandsOfGreeting(cluster.text), ...others]);
    await this.#stop(cluster, /broker-1 +\| stopped/);
  }

  /** Only a quick tier: all of them run elsewhere. */
  async #tests(): Promise<void> {
    const [, test] = commandsOfReadme(this.#readme, 'Two commands');
    await this.#type(`${test} -- golden`, { prints: /^[1-9]\d* passed, 0 failed$/m, timeoutMs: TESTS_MS });
  }

  /** The other commands that the README and other texts name. */
  async #otherScripts(): Promise<void> {
    await this.#type('npm run check', { prints: /No fixes applied/ });
    await this.#type('npm run generate', { prints: /buf generate/ });
    await this.#type('npm run bench -- --quick --case idle', { prints: /rssMb/ });
    await this.#type('npx vitest run test/golden', { prints: /Tests +[1-9]\d* passed/ });
    // Some are used to npx: it runs ours, and asks the registry for no other.
    await this.#type('npx --no fanfare -- --version', { prints: /^\W*\d+\.\d+\.\d+$/m });
  }

  /** Types one line after the other; endless commands stay open until the others are done. */
  async #typeAll(lines: readonly string[]): Promise<void> {
    await using open = new AsyncDisposableStack();
    const endless: (() => Promise<void>)[] = [];
    for (const line of lines) {
      const expected = EXPECTED.find(({ command }) => command.test(line));
      if (expected === undefined) throw new Error(`nobody says what \`${line}\` must print: see newcomer.ts`);
      if (!expected.endless) await this.#type(line, expected);
      else {
        const terminal = open.use(new Terminal(this.#machine.shell, line));
        endless.push(async () => {
          await terminal.until(expected.prints, COMMAND_MS);
          await this.#stop(terminal);
        });
      }
    }
    for (const finish of endless) await finish();
  }

  async #type(
    line: string,
    expected: { readonly prints: RegExp; readonly code?: number; readonly timeoutMs?: number },
  ): Promise<void> {
    const startMs = performance.now();
    await using terminal = new Terminal(this.#machine.shell, line);
    const code = await terminal.ended(expected.timeoutMs ?? COMMAND_MS);
    if (code !== (expected.code ?? 0)) throw terminal.failure(`ended with exit code ${code}`);
    if (!expected.prints.test(terminal.text)) throw terminal.failure(`did not print ${expected.prints}`);
    this.#report(line, (performance.now() - startMs) / 1_000);
  }

  async #open(line: string, ready: RegExp, timeoutMs: number): Promise<Terminal> {
    const startMs = performance.now();
    await using opened = new AsyncDisposableStack();
    const terminal = opened.use(new Terminal(this.#machine.shell, line));
    await terminal.until(ready, timeoutMs);
    opened.move();
    this.#report(line, (performance.now() - startMs) / 1_000);
    return terminal;
  }

  async #stop(terminal: Terminal, says = /^/): Promise<void> {
    terminal.ctrlC();
    const code = await terminal.ended(COMMAND_MS);
    // npm and shells differ in the exit code of what was interrupted.
    if (code !== 0 && code !== 130) throw terminal.failure(`ended with exit code ${code} after Ctrl-C`);
    if (!says.test(terminal.text)) throw terminal.failure(`did not print ${says} after Ctrl-C`);
    this.#report(`${terminal.line} (Ctrl-C)`, 0);
  }
}
