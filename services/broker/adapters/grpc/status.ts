// The sole converter between our errors and gRPC statuses.
import { status } from '@grpc/grpc-js';
import { BrokerError, type ErrorCode } from '../../core/errors.ts';
import { MAX_STATUS_DETAILS_BYTES } from '../../limits.ts';

export interface GrpcStatus {
  readonly code: number;
  readonly details: string;
}

/**
 * The status that the caller hears. For an error that nobody expected it is a bare INTERNAL: the error's text
 * may hold anything, and belongs in the log.
 */
export function statusOf(error: unknown): GrpcStatus {
  if (!(error instanceof BrokerError)) {
    return { code: status.INTERNAL, details: "internal error: see the broker's log" };
  }
  return { code: statusCodeOf(error.code), details: fitForHeader(error.message) };
}

/** The google.rpc.Code of an error code, also for answers that carry errors inside, such as PublishError. */
export function statusCodeOf(code: ErrorCode): number {
  return status[code];
}

/**
 * Cut where it would be too long for a header, in which grpc-js URI-encodes it: encodeURI throws on half a
 * surrogate pair.
 */
function fitForHeader(text: string): string {
  const wellFormed = text.toWellFormed();
  if (encodeURI(wellFormed).length <= MAX_STATUS_DETAILS_BYTES) return wellFormed;
  let fitting = '';
  let bytes = 0;
  for (const character of wellFormed) {
    bytes += encodeURI(character).length;
    if (bytes > MAX_STATUS_DETAILS_BYTES) return `${fitting}…`;
    fitting += character;
  }
  return fitting;
}
