// The one kind of error that talking to the API server raises. The runtime catches it at four borders: the
// loops of the reflector, the elector and the event recorder, and the worker. Anything else that is thrown is
// a bug; the worker logs it in full.

/** Kubernetes' own reasons (metav1.StatusReason), and ours for requests without a usable answer. */
export type KubeErrorReason =
  /** No connection, or it broke: the outcome of a write is unknown. */
  | 'Unreachable'
  /** No answer in time: the outcome of a write is unknown. */
  | 'Timeout'
  /** An answer, or a frame of a watch, that is no JSON or too large. */
  | 'BadAnswer'
  /** This process does not lead, or not any more: a write was not sent, or work was aborted. */
  | 'NotLeader'
  | 'NotFound'
  | 'Conflict'
  | 'AlreadyExists'
  | 'Gone'
  | 'Expired'
  | 'Invalid'
  | 'Forbidden'
  | 'Unauthorized'
  | 'TooManyRequests'
  | (string & {});

export interface KubeErrorOptions {
  readonly cause?: unknown;
  /** How long the server asked to be left alone. */
  readonly retryAfterMs?: number | undefined;
  /** What the server said, parsed: a metav1.Status or anything else. */
  readonly body?: unknown;
}

export class KubeError extends Error {
  override readonly name = 'KubeError';
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  readonly reason: KubeErrorReason;
  readonly retryAfterMs: number | undefined;
  readonly body: unknown;

  constructor(status: number, reason: KubeErrorReason, message: string, options: KubeErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
    this.body = options.body;
  }

  /** The server is away or overloaded, as opposed to having refused this request. */
  get transient(): boolean {
    return this.status === 0 ? this.reason !== 'NotLeader' : this.status === 429 || this.status >= 500;
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof KubeError && error.status === 404;
}

/** Somebody else wrote first: read again. */
export function isConflict(error: unknown): boolean {
  return error instanceof KubeError && error.status === 409 && error.reason !== 'AlreadyExists';
}

/** The resourceVersion asked for is older than the server's memory: list again. */
export function isGone(error: unknown): boolean {
  return error instanceof KubeError && (error.status === 410 || error.reason === 'Expired');
}

/**
 * An error from an answer or an ERROR frame. `answer` is a metav1.Status if the server kept to its own rules.
 */
export function errorFromStatus(
  status: number,
  answer: unknown,
  what: string,
  retryAfterHeader?: string,
  nowMs = 0,
): KubeError {
  const body = isObject(answer) ? answer : {};
  const details = isObject(body.details) ? body.details : {};
  const code = typeof body.code === 'number' ? body.code : status;
  const said =
    typeof body.message === 'string' ? body.message : typeof answer === 'string' ? answer.slice(0, 500) : '';
  const reason = typeof body.reason === 'string' && body.reason !== '' ? body.reason : reasonOf(code);
  return new KubeError(code, reason, `${what}: ${code} ${reason}${said === '' ? '' : `: ${said}`}`, {
    body: answer,
    retryAfterMs: retryAfter(details.retryAfterSeconds ?? retryAfterHeader, nowMs),
  });
}

/** The longest wait that a server may ask for: a wrong date would put the operator to sleep for ever. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/** `value` is in seconds, or an HTTP date. */
function retryAfter(value: unknown, nowMs: number): number | undefined {
  if (value === undefined || value === '' || value === 0) return undefined;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(String(value)) - nowMs;
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), LONGEST_RETRY_AFTER_MS) : undefined;
}

function reasonOf(status: number): KubeErrorReason {
  const known: Readonly<Record<number, KubeErrorReason>> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
    409: 'Conflict',
    410: 'Gone',
    422: 'Invalid',
    429: 'TooManyRequests',
  };
  return known[status] ?? 'Unknown';
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
