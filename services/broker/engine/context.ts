// What every moving part of the engine is given: time, limits, counters, tracing and a logger. Types only.
import type { Clock } from '../ports/clock.ts';
import type { MessageTracing } from '../ports/telemetry.ts';
import type { Stats } from './stats.ts';
import type { SteadyClock } from './steady-clock.ts';

/** Messages for people. Their format and destination are no concern of the engine. */
export interface EngineLogger {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/**
 * Bytes and counts that bound the engine's memory; milliseconds that bound its patience. The values are in
 * limits.ts.
 */
export interface EngineLimits {
  /**
   * The most bytes of messages, as published, in one chunk; a single larger message makes a chunk of its own.
   */
  readonly maxChunkBytes: number;
  /** The most messages in one chunk, where they are small. Not less than one publish may have. */
  readonly maxChunkMessages: number;
  /** The most bytes of messages handed to the store in one append; the rest waits for the next. */
  readonly maxAppendBytes: number;
  /** The most bytes published and not yet appended, over all partitions; beyond, publishes are refused. */
  readonly maxUncommittedBytes: number;
  readonly cacheBytes: number;
  /** The most bytes of chunks appended lately and kept in case the store goes back; 0: it cannot go back. */
  readonly recentBytes: number;
  /** Bytes read from the store at once for a dispatcher behind the tail. */
  readonly readBytes: number;
  readonly maxHoles: number;
  readonly maxQueued: number;
  readonly maxUnsettled: number;
  readonly maxRun: number;
  /**
   * The longest time from an ack to the commit of its cursor: what was acked within it a crash may deliver
   * again.
   */
  readonly cursorCommitMs: number;
  /** How late a lease may end: the interval at which deadlines are checked. */
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
   * Whether this broker's membership lease holds at this very moment; absent: the broker is alone. A process
   * that stood still has much to do when it goes on, and could give something out before it notices that
   * others have had its partitions.
   */
  readonly mayServe?: (() => boolean) | undefined;
}
