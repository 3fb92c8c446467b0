// What the scripts on partitions reply, as errors and values.
import { BrokerError } from '../../core/errors.ts';
import { formatPartitionId, type PartitionId } from '../../core/partition.ts';
import type { LogBounds } from '../../ports/log-store.ts';
import { readChunkInfo } from './chunk-entry.ts';
import type { Reply } from './connection.ts';

/** A list that begins with a word: 'OK', or why not. */
export type Verdict = readonly [word: string, ...rest: Reply[]];

export function verdictOf(reply: Reply): Verdict {
  return reply as unknown as Verdict;
}

/**
 * The error for a script's refusal. ABORTED: the claim is stale, or the topic was dropped.
 * FAILED_PRECONDITION: the store went back, or the log ends elsewhere. UNAVAILABLE: a later write was faster.
 */
export function refusalError(partition: PartitionId, ownerEpoch: number, verdict: Verdict): BrokerError {
  const name = formatPartitionId(partition);
  const [word, first, second] = verdict;
  switch (word) {
    case 'STALE': {
      const holder = second === '' ? 'it was released' : `it is ${String(second)}'s`;
      return new BrokerError(
        'ABORTED',
        `ownerEpoch ${ownerEpoch} of ${name} is stale: ${holder}, at ${String(first)}`,
      );
    }
    case 'DROPPED':
      return new BrokerError('ABORTED', `the topic of ${name} was dropped`);
    case 'BEHIND':
      return new BrokerError(
        'FAILED_PRECONDITION',
        `the store went back: it knows ownerEpoch ${String(first)} of ${name}, not ${ownerEpoch}`,
      );
    case 'END':
      return new BrokerError('FAILED_PRECONDITION', `${name} ends at ${String(first)}`);
    case 'LATE':
      return new BrokerError('UNAVAILABLE', `a later write to ${name} was faster: try again`);
    default:
      return new BrokerError('INTERNAL', `a script replied ${JSON.stringify(verdict)}`);
  }
}

/** Reads what lua/partition.lua's bounds() returns. */
export function boundsOf(reply: readonly Reply[]): LogBounds {
  const [end, endBytes, firstId, firstInfo] = reply;
  const endOffset = Number(end);
  const endByte = Number(endBytes);
  if (typeof firstId !== 'string') return { headOffset: endOffset, endOffset, headByte: endByte, endByte };
  const first = readChunkInfo(firstId, String(firstInfo));
  if (first === undefined)
    throw new BrokerError(
      'INTERNAL',
      `the first entry of a log is no chunk: ${firstId} ${String(firstInfo)}`,
    );
  return { headOffset: first.firstOffset, endOffset, headByte: first.startByte, endByte };
}
