// What KEDA's external scaler refuses, and why, as gRPC statuses.
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

/** KEDA hears only INTERNAL of an error that nobody expected: its text belongs in the operator's log. */
export function statusOf(error: unknown): { code: number; details: string } {
  if (error instanceof ScalerError)
    return { code: status[error.code], details: error.message.toWellFormed() };
  return { code: status.INTERNAL, details: "internal error: see the operator's log" };
}
