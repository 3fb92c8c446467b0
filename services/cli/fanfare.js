#!/usr/bin/env node
// The `fanfare` command, in plain JavaScript so that any node can begin it: an older one than 24 starts the one that was
// installed beside it, and that one runs main.ts.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MIN_NODE = 24;

if (Number(process.versions.node.split('.')[0]) >= MIN_NODE) {
  // Stripped and compiled code is kept from one start to the next: half of the start-up time.
  module.enableCompileCache?.();
  await import('./main.ts');
} else {
  const node = installedNode(dirname(fileURLToPath(import.meta.url)));
  if (node === undefined) {
    console.error(
      `fanfare: it needs node ${MIN_NODE} or newer and this is ${process.version}: run npm ci again, or install a newer node`,
    );
    process.exit(1);
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: 'inherit' });
  // The terminal sends Ctrl-C to both; other senders know only us. Either way the child decides.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal));
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === 'SIGKILL' ? 9 : 15);
  });
}

/** @param {string} from @returns {string | undefined} */
function installedNode(from) {
  const name = `node-${process.platform}-${process.arch}`;
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name, 'bin', 'node');
    if (existsSync(candidate)) return candidate;
    if (folder === dirname(folder)) return undefined;
  }
}
