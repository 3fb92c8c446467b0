// The one error class of the client, and the one place where gRPC statuses become it. Every promise and
// iteration of the client that fails, fails with a FanfareError.
import { type ServiceError, status } from '@grpc/grpc-js';
import { type UnreachableReason, unreachableOf } from './unreachable.ts';

export type FanfareErrorCode = Exclude<keyof typeof status, 'OK'>;

const RETRIABLE: ReadonlySet<FanfareErrorCode> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

export class FanfareError extends Error {
  override readonly name = 'FanfareError';
  /** gRPC's name of the code: NOT_FOUND, UNAVAILABLE, …; CANCELLED when the caller's signal was aborted. */
  readonly code: FanfareErrorCode;
  /** Whether the same call may succeed later. A publish that failed with UNAVAILABLE may have been stored. */
  readonly retriable: boolean;
  /** Whether no broker was connected to, so that none has heard of the call. */
  readonly notSent: boolean;
  /** Why no broker could be connected to; the message says it in words. */
  readonly unreachable: UnreachableReason | undefined;
  /** Whether an earlier try of a unary call was sent, and may have been done. */
  mayHaveBeenDone = false;

  constructor(
    code: FanfareErrorCode,
    message: string,
    options?: { cause?: unknown; unreachable?: UnreachableReason | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.retriable = RETRIABLE.has(code);
    this.unreachable = options?.unreachable;
    this.notSent = this.unreachable !== undefined;
  }
}

/** Turns whatever a gRPC call failed with into a FanfareError. */
export function toFanfareError(error: unknown): FanfareError {
  if (error instanceof FanfareError) return error;
  const { code, details, message } = error as Partial<ServiceError>;
  if (typeof code === 'number') {
    const text = details || message || 'no reason was given';
    const unreachable = unreachableOf(text);
    return new FanfareError(codeName(code), unreachable?.text ?? text, {
      cause: error,
      unreachable: unreachable?.reason,
    });
  }
  return new FanfareError('UNKNOWN', message ?? String(error), { cause: error });
}

/** The name of a google.rpc.Code. */
export function codeName(code: number): FanfareErrorCode {
  const name = status[code];
  return name === undefined || name === 'OK' ? 'UNKNOWN' : (name as FanfareErrorCode);
}

/** What a publish fails with whose ordering key is stopped, since an earlier message failed with `cause`. */
export function keyStopped(orderingKey: string, cause: FanfareError): FanfareError {
  const shown = orderingKey.length > 60 ? `${orderingKey.slice(0, 60)}…` : orderingKey;
  return new FanfareError(
    'FAILED_PRECONDITION',
    `held back to keep the order: an earlier message of the ordering key "${shown}" failed with ${cause.code}; publisher.resumeKey() lets the key go on`,
    { cause },
  );
}

/**
 * Calls back into the program. What the callback throws becomes an uncaught exception, as in a listener of an
 * event, but in a turn of its own: it does not break off what we are doing.
 */
export function callBack<Args extends unknown[], Result>(
  callback: ((...args: Args) => Result) | undefined,
  ...args: Args
): Result | undefined {
  try {
    return callback?.(...args);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
    return undefined;
  }
}

/** What a call ends with when its caller's signal was aborted. */
export function cancelledBy(signal: AbortSignal): FanfareError {
  return new FanfareError('CANCELLED', 'cancelled by the caller', { cause: signal.reason });
}
