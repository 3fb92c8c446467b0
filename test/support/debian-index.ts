// Debian's package index as real input: tens of thousands of stanzas of about 1 KB, unevenly spread over some
// sixty sections.
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

/** One package: what is published, without the blank line that ends it. */
export interface Stanza {
  /** The stanza's section: its ordering key. */
  readonly section: string;
  readonly payload: Buffer;
}

/** An index with fewer is not that of a Debian release, but what is installed or a half-made download. */
const MIN_STANZAS = 20_000;
const FETCH_TIMEOUT_MS = 300_000;
const MAX_INDEX_BYTES = 1024 ** 3;

/**
 * The bytes of `apt-cache dumpavail`. Fetches the index first if it is not there and we may (as root);
 * otherwise fails and says what to do, because a test that passes without its input shows nothing.
 */
export async function readDebianIndex(): Promise<Buffer> {
  let dump = await dumpAvailable();
  if (isComplete(dump)) return dump;
  if (process.getuid?.() !== 0) {
    throw new Error(
      'the package index is empty: run `sudo apt-get update` first (this test publishes all of it)',
    );
  }
  await promisify(execFile)('apt-get', ['update'], { timeout: FETCH_TIMEOUT_MS });
  dump = await dumpAvailable();
  if (isComplete(dump)) return dump;
  throw new Error(
    `after \`apt-get update\` the package index has ${parseStanzas(dump).length} stanzas, expected at least ${MIN_STANZAS}: check /etc/apt/sources.list`,
  );
}

/** The stanzas, in the order of the index. */
export function parseStanzas(dump: Buffer): Stanza[] {
  const stanzas: Stanza[] = [];
  let start = 0;
  while (start < dump.length) {
    const blank = dump.indexOf('\n\n', start);
    const end = blank < 0 ? dump.length : blank + 1;
    if (end - start > 1) stanzas.push(stanzaOf(dump.subarray(start, end)));
    start = end + 1;
  }
  return stanzas;
}

function stanzaOf(payload: Buffer): Stanza {
  const field = payload.indexOf('\nSection: ');
  if (field < 0) return { section: 'none', payload };
  const start = field + '\nSection: '.length;
  return { section: payload.toString('utf8', start, payload.indexOf('\n', start)), payload };
}

function isComplete(dump: Buffer): boolean {
  return parseStanzas(dump).length >= MIN_STANZAS;
}

function dumpAvailable(): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn('apt-cache', ['dumpavail'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const parts: Buffer[] = [];
    let bytes = 0;
    child.stdout.on('data', (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes > MAX_INDEX_BYTES) child.kill();
    });
    child.once('error', (cause) => {
      reject(new Error('apt-cache can not be run: this test needs a Debian system', { cause }));
    });
    child.once('close', (code) => {
      if (code === 0) resolve(Buffer.concat(parts));
      else reject(new Error(`apt-cache dumpavail ended with ${code}`));
    });
  });
}
