// The two kinds of error. Expected ones are BrokerErrors with a gRPC code, for which somebody has an answer:
// the loop that tries again, or the gRPC adapter, which tells the caller. Impossible states are assertions,
// which end the process.

/** The gRPC status codes that the broker uses, by name. */
export type ErrorCode =
  | 'INVALID_ARGUMENT'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'UNAUTHENTICATED'
  | 'FAILED_PRECONDITION'
  /** Something is full (a store, a buffer, a quota): nothing was changed. */
  | 'RESOURCE_EXHAUSTED'
  /** A stale ownerEpoch or a lost race: this call changed nothing. */
  | 'ABORTED'
  | 'DEADLINE_EXCEEDED'
  /** The other side is away. The outcome of a write is unknown. */
  | 'UNAVAILABLE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL';

const RETRIABLE: ReadonlySet<ErrorCode> = new Set(['RESOURCE_EXHAUSTED', 'ABORTED', 'UNAVAILABLE']);

export class BrokerError extends Error {
  override readonly name = 'BrokerError';
  readonly code: ErrorCode;
  /** Whether the same call may succeed later; follows from the code. */
  readonly retriable: boolean;

  /** `message` is for the caller: what was wrong, the limit, what to do. The cause stays on this side. */
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.retriable = RETRIABLE.has(code);
  }
}

export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** States what cannot be otherwise. A failure is a bug in the broker and ends the process. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

export function assertNever(value: never): never {
  throw new AssertionError(`unexpected ${JSON.stringify(value)}`);
}
