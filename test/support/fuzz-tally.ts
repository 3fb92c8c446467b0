// What became of all that a fuzz test sent: counts by RPC, and every outcome that no client should see.
import type { Outcome } from './fuzz-connection.ts';

/**
 * Statuses that say something to the sender of a bad request. Not among them: UNKNOWN, INTERNAL,
 * DEADLINE_EXCEEDED.
 */
const PROPER = new Set([
  ...['OK', 'INVALID_ARGUMENT', 'NOT_FOUND', 'ALREADY_EXISTS', 'FAILED_PRECONDITION'],
  ...['RESOURCE_EXHAUSTED', 'UNIMPLEMENTED', 'UNAVAILABLE'],
]);
/**
 * What gRPC itself has to say INTERNAL to (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), before
 * any of our code is reached, in the transport's own words.
 */
const TRANSPORT_INTERNAL = /^(Failed to decompress message|Invalid grpc-timeout value ".*")$/;
const MAX_WRONG = 20;

export class Tally {
  total = 0;
  /** Requests and frames by RPC, or by the kind of attack on the transport. */
  readonly counts = new Map<string, number>();
  readonly ends = new Map<string, number>();
  /** What must not be, as sentences with the bytes that caused it. */
  readonly wrong: string[] = [];

  count(what: string, requests: number): void {
    this.total += requests;
    this.counts.set(what, (this.counts.get(what) ?? 0) + requests);
  }

  /** Judges how a call ended. 'DROPPED' is what the caller asked for. */
  judge(path: string, sent: Buffer, { end, details }: Outcome): void {
    this.ends.set(end, (this.ends.get(end) ?? 0) + 1);
    if (PROPER.has(end) || end === 'DROPPED' || (end === 'INTERNAL' && TRANSPORT_INTERNAL.test(details)))
      return;
    this.complain(`${path} ended with ${end} (${details})`, sent);
  }

  complain(what: string, sent?: Buffer): void {
    if (this.wrong.length >= MAX_WRONG) return;
    const bytes =
      sent === undefined ? '' : ` after ${sent.length} bytes ${sent.subarray(0, 200).toString('hex')}`;
    this.wrong.push(`${what}${bytes}`);
  }
}
