// Builds the clients of test/clients (Go, Python, Java) and says how to start them.
//
// Each is built from proto/ and its sources, with its language's ordinary tools, into a folder of its own
// outside the work tree: ${XDG_CACHE_HOME:-~/.cache}/fanfare-test/clients/{language}-{hash}. The hash covers
// all that goes into the build, and a folder gets its name only when it is complete, so a folder of that name
// is always the right one.

import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, cp, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join, relative } from 'node:path';
import { findGo, findJava, findMaven, findPython, progress, run, step } from './foreign-toolchains.ts';

export const foreignLanguages = ['go', 'python', 'java'] as const;
export type ForeignLanguage = (typeof foreignLanguages)[number];

// Start it with `command` and `args` before the arguments of test/clients/README.md.
export type ForeignClient = { language: ForeignLanguage; command: string; args: string[] };

// How many older builds of a language stay, for those who change between branches.
const KEPT_BUILDS = 3;

const repository = join(import.meta.dirname, '..', '..');
const protoDir = join(repository, 'proto');
const buf = join(repository, 'node_modules', '@bufbuild', 'buf', 'bin', 'buf');
const cacheDir = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fanfare-test');
const buildsDir = join(cacheDir, 'clients');

type Recipe = {
  // The executable's path in the build's folder; its presence and permission to run are checked before a
  // cached build is taken.
  executable: string;
  // Builds in `dir`, which holds a copy of the sources. `dir` is renamed afterwards.
  build(dir: string): Promise<void>;
  client(dir: string): Promise<Omit<ForeignClient, 'language'>>;
};

const recipes: Record<ForeignLanguage, Recipe> = {
  go: {
    executable: 'fanfareclient',
    async build(dir) {
      const env = await findGo(join(cacheDir, 'toolchains'));
      await run(process.execPath, [buf, 'generate', protoDir, '--path', join(protoDir, 'fanfare')], {
        cwd: dir,
        env,
      });
      await run('go', ['build', '-buildvcs=false', '-o', 'fanfareclient', '.'], { cwd: dir, env });
      await run('go', ['build', '-buildvcs=false', '-o', 'chaosclient', './chaos'], { cwd: dir, env });
    },
    client: async (dir) => ({ command: join(dir, 'fanfareclient'), args: [] }),
  },
  python: {
    executable: join('venv', 'bin', 'python'),
    async build(dir) {
      const python = join(dir, 'venv', 'bin', 'python');
      await run(await findPython(), ['-m', 'venv', join(dir, 'venv')]);
      await run(python, ['-m', 'pip', 'install', '-q', '--no-deps', '-r', join(dir, 'requirements.lock')]);
      const protos = (await filesOf(protoDir)).filter((file) => file.endsWith('.proto'));
      const outputs = [`--python_out=${dir}`, `--grpc_python_out=${dir}`];
      await run(python, ['-m', 'grpc_tools.protoc', '-I', protoDir, ...outputs, ...protos], {
        cwd: protoDir,
      });
    },
    client: async (dir) => ({ command: join(dir, 'venv', 'bin', 'python'), args: [join(dir, 'main.py')] }),
  },
  java: {
    executable: join('target', 'fanfareclient.jar'),
    async build(dir) {
      await run(await findMaven(), ['-B', '-q', '-ntp', 'package', `-Dproto.root=${protoDir}`], { cwd: dir });
    },
    async client(dir) {
      const classPath = [join(dir, 'target', 'fanfareclient.jar'), join(dir, 'target', 'lib', '*')];
      // Only the quick compiler: the program runs for a second.
      const args = [
        '-XX:TieredStopAtLevel=1',
        '-Xmx256m',
        '-cp',
        classPath.join(delimiter),
        'fanfareclient.Main',
      ];
      return { command: await findJava(), args };
    },
  },
};

// Returns the client of a language, built if need be: about half a minute each the first time, with the
// network; then at once. Says on stderr what it does. Fails with what is missing and what to install.
export async function setUpForeignClient(language: ForeignLanguage): Promise<ForeignClient> {
  const recipe = recipes[language];
  const dir = join(buildsDir, `${language}-${await inputHash(language)}`);
  try {
    // A virtual environment whose Python was removed is built anew.
    await access(join(dir, recipe.executable), language === 'java' ? constants.R_OK : constants.X_OK);
  } catch {
    await step(`building the ${language} client`, () => build(language, dir));
  }
  return { language, ...(await recipe.client(dir)) };
}

async function build(language: ForeignLanguage, dir: string): Promise<void> {
  const partial = `${dir}.partial-${process.pid}`;
  await mkdir(buildsDir, { recursive: true });
  try {
    await cp(join(repository, 'test', 'clients', language), partial, { recursive: true });
    await recipes[language].build(partial);
    await rm(dir, { recursive: true, force: true });
    await rename(partial, dir);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  await removeOldBuilds(language);
}

async function removeOldBuilds(language: ForeignLanguage): Promise<void> {
  const names = (await readdir(buildsDir)).filter((name) => name.startsWith(`${language}-`));
  const builds = await Promise.all(
    names.map(async (name) => ({ name, mtimeMs: (await stat(join(buildsDir, name))).mtimeMs })),
  );
  builds.sort((a, b) => b.mtimeMs - a.mtimeMs);
  for (const { name } of builds.slice(1 + KEPT_BUILDS)) {
    progress(`removing the old build ${name}`);
    await rm(join(buildsDir, name), { recursive: true, force: true });
  }
}

// The hash of everything that goes into a build: proto, sources and lock files, these two modules, and the
// kind of machine.
async function inputHash(language: ForeignLanguage): Promise<string> {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}\n`);
  const recipe = [import.meta.filename, join(import.meta.dirname, 'foreign-toolchains.ts')];
  const inputs = [
    ...(await filesOf(protoDir)),
    ...(await filesOf(join(repository, 'test', 'clients', language))),
  ];
  for (const file of [...recipe, ...inputs]) {
    const content = await readFile(file);
    hash.update(`${relative(repository, file)} ${content.length}\n`).update(content);
  }
  return hash.digest('hex').slice(0, 16);
}

// All files below a folder, with their full paths, in a fixed order.
async function filesOf(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
