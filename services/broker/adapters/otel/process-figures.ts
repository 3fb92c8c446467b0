// How the process itself is doing: CPU, memory, and how late its event loop is.
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';

export interface ProcessFigures {
  readonly cpuSeconds: { readonly user: number; readonly system: number };
  readonly residentBytes: number;
  readonly heapUsedBytes: number;
  readonly uptimeSeconds: number;
  readonly loopSeconds: { readonly active: number; readonly idle: number };
  /** Seconds. */
  readonly loopDelay: { readonly p50: number; readonly p99: number; readonly max: number };
}

/** How often a timer measures how late it comes: fine enough, and no load for an idle process. */
const RESOLUTION_MS = 20;
/**
 * The histogram begins anew at most this often: several may collect, and none is to see only what another
 * left.
 */
const MIN_WINDOW_MS = 10_000;
const NS_PER_S = 1e9;

export class ProcessMeter {
  readonly #delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  #windowBeganMs = performance.now();

  constructor() {
    this.#delay.enable();
  }

  read(): ProcessFigures {
    const cpu = process.cpuUsage();
    const memory = process.memoryUsage();
    const loop = performance.eventLoopUtilization();
    const loopDelay = {
      p50: this.#lateness(this.#delay.percentile(50)),
      p99: this.#lateness(this.#delay.percentile(99)),
      max: this.#lateness(this.#delay.max),
    };
    if (performance.now() - this.#windowBeganMs >= MIN_WINDOW_MS) {
      this.#delay.reset();
      this.#windowBeganMs = performance.now();
    }
    return {
      cpuSeconds: { user: cpu.user / 1e6, system: cpu.system / 1e6 },
      residentBytes: memory.rss,
      heapUsedBytes: memory.heapUsed,
      uptimeSeconds: process.uptime(),
      loopSeconds: { active: loop.active / 1000, idle: loop.idle / 1000 },
      loopDelay,
    };
  }

  stop(): void {
    this.#delay.disable();
  }

  /**
   * The lateness in seconds: the histogram's nanoseconds without the interval itself; 0 while it is empty.
   */
  #lateness(nanoseconds: number): number {
    if (this.#delay.count === 0) return 0;
    return Math.max(0, nanoseconds / NS_PER_S - RESOLUTION_MS / 1000);
  }
}
