// What every moving part of the engine needs: time, limits, counters, a voice.
import type { Clock } from '../ports/clock.ts';
import type { MessageTracing } from '../ports/telemetry.ts';
import type { Stats } from './stats.ts';
import type { SteadyClock } from './steady-clock.ts';

/** What the engine tells people. The log format and destination are somebody else's. */
export interface EngineLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Bytes and counts that bound the engine's memory; milliseconds that bound its patience. main.ts fills them in. */
export interface EngineLimits {
  /** Messages as published that make one chunk; a single larger message makes a chunk of its own. */
  readonly maxChunkBytes: number;
  /** How many, where they are small: at least one publish. */
  readonly maxChunkMessages: number;
  /** Messages handed to the store in one append, at most; the rest waits for the next. */
  readonly maxAppendBytes: number;
  /** Published and not yet appended, over all partitions: beyond, publishes are refused. */
  readonly maxUncommittedBytes: number;
  readonly cacheBytes: number;
  /** Appended lately, kept in case the store goes back; 0: it can't. */
  readonly recentBytes: number;
  /** Read from the store at once by a dispatcher behind the tail. */
  readonly readBytes: number;
  readonly maxHoles: number;
  readonly maxQueued: number;
  readonly maxUnsettled: number;
  readonly maxRun: number;
  /** From an ack to the commit of its cursor, at most: what a crash may deliver again. */
  readonly cursorCommitMs: number;
  /** How exactly leases end. */
  readonly leaseSweepMs: number;
  /** How long publishers wait for a store that does not say whether it has appended. */
  readonly unknownOutcomeMs: number;
  readonly retentionSweepMs: number;
}

export interface EngineContext {
  readonly clock: Clock;
  /** Dates messages and tells their age. */
  readonly steady: SteadyClock;
  readonly limits: EngineLimits;
  readonly stats: Stats;
  readonly logger: EngineLogger;
  /** Undefined: tracing is off. */
  readonly tracing: MessageTracing | undefined;
  /**
   * Whether this broker's lease holds this very moment; absent: it is alone. A process that stood still has much to do when it
   * goes on, and may come to give something out before it comes to notice that others have had its partitions.
   */
  readonly mayServe?: (() => boolean) | undefined;
}
