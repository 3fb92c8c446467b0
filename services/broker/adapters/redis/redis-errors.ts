// How the failures of Redis and of its driver become BrokerErrors.
//
// Redis' own refusals begin with a word in capitals. Everything else comes from the driver or the network:
// then it is not known whether the command was carried out.
import { BrokerError, type ErrorCode } from '../../core/errors.ts';
import type { Condition } from './conditions.ts';

/** No answer in time. The command may still be carried out, even later. */
export class RedisTimeout extends Error {
  override readonly name = 'RedisTimeout';
}

interface Meaning {
  readonly code: ErrorCode;
  readonly condition: Condition;
}

const REFUSALS: Readonly<Record<string, Meaning>> = {
  OOM: { code: 'RESOURCE_EXHAUSTED', condition: 'full' },
  READONLY: { code: 'UNAVAILABLE', condition: 'readonly' },
  LOADING: { code: 'UNAVAILABLE', condition: 'loading' },
  MASTERDOWN: { code: 'UNAVAILABLE', condition: 'loading' },
  UNBLOCKED: { code: 'UNAVAILABLE', condition: 'readonly' },
  CLUSTERDOWN: { code: 'UNAVAILABLE', condition: 'down' },
  TRYAGAIN: { code: 'UNAVAILABLE', condition: 'down' },
  MOVED: { code: 'UNAVAILABLE', condition: 'down' },
  ASK: { code: 'UNAVAILABLE', condition: 'down' },
  NOREPLICAS: { code: 'UNAVAILABLE', condition: 'alone' },
  MISCONF: { code: 'UNAVAILABLE', condition: 'disk' },
  BUSY: { code: 'UNAVAILABLE', condition: 'busy' },
  UNKILLABLE: { code: 'UNAVAILABLE', condition: 'busy' },
  NOSCRIPT: { code: 'UNAVAILABLE', condition: 'unreachable' },
  NOAUTH: { code: 'UNAVAILABLE', condition: 'denied' },
  WRONGPASS: { code: 'UNAVAILABLE', condition: 'denied' },
  NOPERM: { code: 'UNAVAILABLE', condition: 'denied' },
};
const OTHER_REFUSAL: Meaning = { code: 'INTERNAL', condition: 'confused' };
const NO_ANSWER: Meaning = { code: 'UNAVAILABLE', condition: 'unreachable' };
const LATE: Meaning = { code: 'UNAVAILABLE', condition: 'slow' };

export function meaningOf(error: unknown): Meaning {
  if (error instanceof RedisTimeout) return LATE;
  if (!isReply(error)) return NO_ANSWER;
  const word = /^-?([A-Z]+)/.exec(error.message)?.[1] ?? '';
  const meaning = REFUSALS[word];
  if (meaning) return meaning;
  if (/can't run this command/.test(error.message)) return REFUSALS.NOPERM!;
  // A script wraps the refusal of a command of its own in many words.
  for (const [known, found] of Object.entries(REFUSALS)) {
    if (new RegExp(`\\b${known}\\b`).test(error.message)) return found;
  }
  return OTHER_REFUSAL;
}

/** `action` as in "Redis did not answer to …". */
export function toBrokerError(action: string, meaning: Meaning, cause: unknown): BrokerError {
  const reason = messageOf(cause);
  switch (meaning.code) {
    case 'RESOURCE_EXHAUSTED':
      return new BrokerError(
        'RESOURCE_EXHAUSTED',
        'the store is out of memory: try again later; its operator can raise maxmemory or shorten retention',
        { cause },
      );
    case 'UNAVAILABLE':
      return new BrokerError('UNAVAILABLE', `the store does not work (${action}: ${reason}): try again`, {
        cause,
      });
    default:
      return new BrokerError('INTERNAL', `the store refused ${action}: ${reason}`, { cause });
  }
}

/** Whether Redis refuses our credentials: that needs a person, trying again does not help. */
export function isRefusedLogin(error: unknown): boolean {
  return /^(NOAUTH|WRONGPASS|NOPERM)\b/.test(messageOf(error));
}

/** The error's message on one line: OpenSSL's have several. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/\s+/g, ' ').trim();
}

function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}
