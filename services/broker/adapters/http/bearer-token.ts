// The token that whoever scrapes metrics has to show: given as it is, or in a file that may be replaced.
// Invariant: it is compared in constant time, and appears in no message.
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { BrokerError } from '../../core/errors.ts';
import { MAX_TOKEN_BYTES, MIN_TOKEN_BYTES, TOKEN_RELOAD_MS } from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';

export interface BearerToken {
  /** `authorization`: the header as it came. */
  isShownBy(authorization: string | undefined): Promise<boolean>;
}

/** What is wrong with a token; undefined: nothing. */
export function tokenProblem(token: string): string | undefined {
  if (!/^[\x21-\x7e]*$/.test(token)) return 'may have only visible ASCII characters';
  if (token.length >= MIN_TOKEN_BYTES && token.length <= MAX_TOKEN_BYTES) return undefined;
  return `has ${token.length} characters: must have ${MIN_TOKEN_BYTES} to ${MAX_TOKEN_BYTES}`;
}

export function fixedToken(token: string): BearerToken {
  const expected = digest(`Bearer ${token}`);
  return {
    isShownBy: async (authorization) =>
      authorization !== undefined && timingSafeEqual(digest(canonical(authorization)), expected),
  };
}

/**
 * The token in the file, without the white space around it, looked at again every TOKEN_RELOAD_MS while
 * somebody asks. FAILED_PRECONDITION if it can't be read, or is none. `onProblem` is told if that happens
 * later: then the former token goes on.
 */
export async function tokenOfFile(
  path: string,
  clock: Clock,
  onProblem: (error: BrokerError) => void,
): Promise<BearerToken> {
  let current = await read(path);
  let readMs = clock.monotonicMs();
  return {
    async isShownBy(authorization) {
      if (clock.monotonicMs() - readMs >= TOKEN_RELOAD_MS) {
        readMs = clock.monotonicMs();
        try {
          current = await read(path);
        } catch (error) {
          onProblem(error as BrokerError);
        }
      }
      return current.isShownBy(authorization);
    },
  };
}

async function read(path: string): Promise<BearerToken> {
  const refuse = (why: string, cause?: unknown) =>
    new BrokerError('FAILED_PRECONDITION', `the token in --metrics-token-file ${path} ${why}`, { cause });
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    throw refuse(`can't be read: ${error instanceof Error ? error.message : error}`, error);
  }
  const problem = tokenProblem(text);
  if (problem !== undefined) throw refuse(problem);
  return fixedToken(text);
}

/** The scheme's name may be written in capitals or not. */
function canonical(authorization: string): string {
  return authorization.replace(/^bearer +/i, 'Bearer ');
}

/** So that what is compared is of one length. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
