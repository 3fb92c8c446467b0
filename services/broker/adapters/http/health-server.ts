// The health port: GET /livez (the event loop turns) and GET /readyz (the broker serves, as gRPC health
// says), plain HTTP with nothing else in it. A thread of its own answers (health-worker.ts): whatever the
// broker is busy with, the kubelet hears in time that it lives, and whoever floods the port takes nothing of
// the broker's event loop. Only a loop that has not turned for MAX_STANDSTILL_MS is reported as not alive.
import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import {
  HEARTBEAT_MS,
  MAX_HEALTH_CONNECTIONS,
  MAX_HEALTH_REQUEST_BYTES,
  MAX_SILENT_MS,
  MAX_STANDSTILL_MS,
} from '../../limits.ts';
import { BEATS, type HealthLimits, type HealthWorkerData, SERVING, STATE_BYTES } from './health-state.ts';
import { type ListenAddress, listenError } from './listen-error.ts';

export const HEALTH_LIMITS: HealthLimits = Object.freeze({
  maxConnections: MAX_HEALTH_CONNECTIONS,
  maxRequestBytes: MAX_HEALTH_REQUEST_BYTES,
  maxSilentMs: MAX_SILENT_MS,
  maxStandstillMs: MAX_STANDSTILL_MS,
  heartbeatMs: HEARTBEAT_MS,
});

/** The thread needs a few MiB: it must not be the one that fills the container. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 8 };

export interface HealthServer {
  /** What it listens on; port 0 has become a real one. */
  readonly host: string;
  readonly port: number;
  /** Before the first call it is not serving. */
  setServing(isServing: boolean): void;
  close(): Promise<void>;
}

type Told =
  | { readonly port: number }
  | { readonly failed: { readonly code: string; readonly message: string } };

/**
 * FAILED_PRECONDITION if it can't listen on the address; the message says why. `onProblem` is called with
 * what fails later.
 */
export async function openHealthServer(
  listen: ListenAddress,
  onProblem: (error: unknown) => void,
  limits: HealthLimits = HEALTH_LIMITS,
): Promise<HealthServer> {
  const memory = new SharedArrayBuffer(STATE_BYTES);
  const state = new Int32Array(memory);
  const data: HealthWorkerData = { listen, state: memory, limits };
  const worker = new Worker(new URL('./health-worker.ts', import.meta.url), {
    workerData: data,
    // Flags of the broker's that are for one thread, such as what it is to load first.
    execArgv: [],
    env: environment(),
    resourceLimits: RESOURCE_LIMITS,
    name: 'health',
  });
  const beat = setInterval(() => Atomics.add(state, BEATS, 1), limits.heartbeatMs);
  // The port never keeps a broker alive that has stopped, or has failed to start.
  beat.unref();
  try {
    const told = await new Promise<Told>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    if ('failed' in told) throw listenError('--health-listen', listen, told.failed);
    worker.removeAllListeners('error');
    worker.unref();
    worker.on('error', onProblem);
    worker.on('message', onProblem);
    return {
      host: listen.host,
      port: told.port,
      setServing: (isServing) => void Atomics.store(state, SERVING, isServing ? 1 : 0),
      async close() {
        clearInterval(beat);
        await worker.terminate();
      },
    };
  } catch (error) {
    clearInterval(beat);
    await worker.terminate();
    throw error;
  }
}

/** Nothing of the broker's but its compile cache, with which the thread takes half the memory to start. */
function environment(): NodeJS.ProcessEnv {
  const folder = getCompileCacheDir();
  return folder === undefined ? {} : { NODE_COMPILE_CACHE: dirname(folder) };
}
