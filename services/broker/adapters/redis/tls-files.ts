// The certificates with which a rediss:// store is reached, from files that are looked at again now and then.
//
// Invariant: what is in force could be read and made a TLS context of. Files that can't are reported once and
// otherwise ignored: connections go on being made with the former ones.
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { BrokerError } from '../../core/errors.ts';
import { TLS_RELOAD_INTERVAL_MS } from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import type { OnWarning } from './conditions.ts';
import { messageOf } from './redis-errors.ts';

/** Paths of PEM files. */
export interface RedisTlsFiles {
  /** Authorities that sign the servers' certificates; undefined: those that Node trusts. */
  readonly ca?: string | undefined;
  /** The certificate to show to the servers, with its key; undefined: none. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface TlsContent {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export class TlsFiles {
  readonly #files: RedisTlsFiles;
  readonly #clock: Clock;
  readonly #warn: OnWarning;
  #content: TlsContent;
  #reported = '';
  #stopped = false;
  #cancelTimer: () => void = () => {};

  /** Use openTlsFiles. */
  constructor(files: RedisTlsFiles, content: TlsContent, clock: Clock, warn: OnWarning) {
    this.#files = files;
    this.#content = content;
    this.#clock = clock;
    this.#warn = warn;
  }

  get content(): TlsContent {
    return this.#content;
  }

  /** Calls back after each change, until stop(). */
  watch(changed: () => Promise<void>): void {
    this.#cancelTimer = this.#clock.setTimer(TLS_RELOAD_INTERVAL_MS, async () => {
      if (await this.reload()) await changed();
      if (!this.#stopped) this.watch(changed);
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  /** Looks at the files now. True if they have something new that can be used. */
  async reload(): Promise<boolean> {
    try {
      const content = await read(this.#files);
      if (same(content, this.#content)) return false;
      this.#content = content;
      this.#reported = '';
      this.#warn('the certificates for Redis were replaced', { ...this.#files });
      return true;
    } catch (error) {
      const reason = messageOf(error);
      if (reason !== this.#reported) {
        this.#warn('the new certificates for Redis cannot be used: the former ones stay in force', {
          reason,
        });
      }
      this.#reported = reason;
      return false;
    }
  }
}

/** FAILED_PRECONDITION if the files can't be used. */
export async function openTlsFiles(files: RedisTlsFiles, clock: Clock, warn: OnWarning): Promise<TlsFiles> {
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      'a certificate for Redis needs its key, and a key its certificate',
    );
  }
  return new TlsFiles(files, await read(files), clock, warn);
}

async function read(files: RedisTlsFiles): Promise<TlsContent> {
  const content: Record<string, Buffer> = {};
  for (const [what, path] of Object.entries(files)) {
    if (path !== undefined) content[what] = await readOne(path);
  }
  try {
    createSecureContext(content);
  } catch (cause) {
    const named = Object.values(files).filter((path) => path !== undefined);
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `${named.join(', ')} cannot be used together for Redis: ${messageOf(cause)}`,
      { cause },
    );
  }
  return content;
}

async function readOne(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new BrokerError('FAILED_PRECONDITION', `can't read a file for Redis' TLS: ${messageOf(cause)}`, {
      cause,
    });
  }
}

function same(a: TlsContent, b: TlsContent): boolean {
  const equal = (x: Buffer | undefined, y: Buffer | undefined) => (x && y ? x.equals(y) : x === y);
  return equal(a.ca, b.ca) && equal(a.cert, b.cert) && equal(a.key, b.key);
}
