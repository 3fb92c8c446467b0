// The one error class of the client, and the one place where gRPC statuses become it. Every promise and iteration of the
// client that fails, fails with a FanfareError.
import { type ServiceError, status } from '@grpc/grpc-js';

export type FanfareErrorCode = Exclude<keyof typeof status, 'OK'>;

const RETRIABLE: ReadonlySet<FanfareErrorCode> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

export class FanfareError extends Error {
  override readonly name = 'FanfareError';
  /** As gRPC names them: NOT_FOUND, UNAVAILABLE, ... CANCELLED when a signal of the caller was aborted. */
  readonly code: FanfareErrorCode;
  /** Whether the same call may succeed later. Of a publish that failed UNAVAILABLE: it may have been stored. */
  readonly retriable: boolean;
  /** Of a call: no broker was connected to, so that none has heard of it. */
  readonly notSent: boolean;
  /** Of a unary call that was tried several times: an earlier try was sent and may have been done. */
  mayHaveBeenDone = false;

  constructor(code: FanfareErrorCode, message: string, options?: { cause?: unknown; notSent?: boolean }) {
    super(message, options);
    this.code = code;
    this.retriable = RETRIABLE.has(code);
    this.notSent = options?.notSent ?? false;
  }
}

/** Turns whatever a gRPC call failed with into a FanfareError. */
export function toFanfareError(error: unknown): FanfareError {
  if (error instanceof FanfareError) return error;
  const { code, details, message } = error as Partial<ServiceError>;
  if (typeof code === 'number') {
    const text = details || message || '';
    const notSent = text.startsWith(NOT_CONNECTED);
    return new FanfareError(codeName(code), explain(text), { cause: error, notSent });
  }
  return new FanfareError('UNKNOWN', message ?? String(error), { cause: error });
}

const NOT_CONNECTED = 'No connection established';

/** What grpc-js says of a connection that can't be made is for its own authors. */
function explain(details: string): string {
  const [, reason] =
    /^No connection established\. Last error: (?:Error: )?(.*?)\.? ?(?:Resolution note: ?)?$/s.exec(
      details,
    ) ?? [];
  if (reason !== undefined) return `the broker can't be reached: ${reason}`;
  return details || 'no reason was given';
}

/** The name of a google.rpc.Code. */
export function codeName(code: number): FanfareErrorCode {
  const name = status[code];
  return name === undefined || name === 'OK' ? 'UNKNOWN' : (name as FanfareErrorCode);
}

/** What a call ends with when its caller's signal was aborted. */
export function cancelledBy(signal: AbortSignal): FanfareError {
  return new FanfareError('CANCELLED', 'cancelled by the caller', { cause: signal.reason });
}
