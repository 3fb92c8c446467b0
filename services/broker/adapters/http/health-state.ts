// What the broker and its health thread share: two numbers in shared memory, each written by the broker
// alone, and what the thread is started with.

/** Where in the memory the number of turns is that the event loop has shown; it wraps around. */
export const BEATS = 0;
/** Where it is whether the broker serves: 1, or 0. */
export const SERVING = 1;
export const STATE_BYTES = 2 * Int32Array.BYTES_PER_ELEMENT;

export interface HealthWorkerData {
  readonly listen: { readonly host: string; readonly port: number };
  readonly state: SharedArrayBuffer;
  readonly limits: HealthLimits;
}

export interface HealthLimits {
  readonly maxConnections: number;
  readonly maxRequestBytes: number;
  readonly maxSilentMs: number;
  readonly maxStandstillMs: number;
  readonly heartbeatMs: number;
}
