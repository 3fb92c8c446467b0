// What the scaler refuses, and why. Thrown by external-scaler.ts, made into a gRPC status by server.ts.
import { status } from '@grpc/grpc-js';

export type ScalerErrorCode =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'UNAVAILABLE'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION';

export class ScalerError extends Error {
  override readonly name = 'ScalerError';
  readonly code: ScalerErrorCode;

  /** `message` is for whoever reads KEDA's log: what was wrong, what to do. */
  constructor(code: ScalerErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** Of an error that nobody expected KEDA hears INTERNAL only: its text belongs into the operator's log. */
export function statusOf(error: unknown): { code: number; details: string } {
  if (error instanceof ScalerError)
    return { code: status[error.code], details: error.message.toWellFormed() };
  return { code: status.INTERNAL, details: "internal error: see the operator's log" };
}
