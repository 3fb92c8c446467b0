// What retention may delete, and what it has to. One part of cluster-checker.ts.
//
//   not early    a message goes only if it is older, or more is behind it, than a setting allows that is in
//                force, or was a moment ago: not every broker has heard of a change, and a failover may have
//                brought an older one back
//   not late     what the setting in force does not allow is gone after a while
import type { TopicDefinition } from '../../../services/broker/core/definitions.ts';
import { Violation } from '../violation.ts';
import { InForce } from './in-force.ts';
import type { Logged, PartitionTruth } from './partition-truth.ts';

interface Retention {
  readonly retentionMs: number;
  /** 0: no limit. */
  readonly retentionBytes: number;
}

/** A broker dates by its own clock: by so much they differ at first, and with the time. */
const SKEW_MS = 4_000;
const DRIFT = 0.2;
/** Owners sweep each few seconds, and wait for the store. */
const LATE_MS = 10_000;
/** Retention that no simulation reaches. */
const LONG_MS = 3_600_000;

export class RetentionTruth {
  /** Steps of clocks, and suspensions, may make what others have dated look older than it is. */
  readonly #clocksStep: boolean;
  /** By logEpoch. */
  readonly #settings = new InForce<Retention>();

  constructor(clocksStep: boolean) {
    this.#clocksStep = clocksStep;
  }

  /** The store has this definition now. */
  defined({ logEpoch, retentionMs, retentionBytesPerPartition }: TopicDefinition, nowMs: number): void {
    this.#settings.set(logEpoch, { retentionMs, retentionBytes: retentionBytesPerPartition }, nowMs);
  }

  checkpoint(): (nowMs: number) => void {
    return this.#settings.checkpoint();
  }

  /** `last`: the newest of the messages that were deleted, and when it was sent first. */
  checkTrimmed(truth: PartitionTruth, last: Logged, sentMs: number, nowMs: number): void {
    const behind = truth.furthestEndByte - last.chunk.startByte;
    const ageMs = nowMs - sentMs;
    const settings = this.#settings.lately(truth.id.logEpoch, nowMs);
    for (const { retentionMs, retentionBytes } of settings) {
      if (retentionBytes > 0 && behind > retentionBytes) return;
      if (retentionMs >= LONG_MS) continue;
      const leastMs = (retentionMs - SKEW_MS - DRIFT * nowMs) / (1 + DRIFT);
      if (this.#clocksStep || ageMs >= leastMs) return;
    }
    const allowed = settings.map(
      ({ retentionMs, retentionBytes }) => `${retentionMs} ms, ${retentionBytes} bytes`,
    );
    throw new Violation(
      `${truth.name}: retention (${allowed.join('; ')}) deletes ${last.sent.identity}, ${ageMs} ms old, ${behind} bytes from the end`,
    );
  }

  /** The first message of the partition that should have been deleted by now. */
  overdue(truth: PartitionTruth, nowMs: number): string | undefined {
    const setting = this.#settings.present(truth.id.logEpoch);
    const first = truth.log[truth.headOffset];
    const last = truth.log.at(-1);
    if (setting === undefined || first === undefined || last === undefined) return undefined;
    const behind = last.chunk.endByte - first.chunk.startByte;
    const isExcess = setting.retentionBytes > 0 && behind > setting.retentionBytes;
    // By the next owner's clock from when it has the partition, if the former one's was ahead.
    const oldMs = 2 * setting.retentionMs + LATE_MS;
    const isOld = nowMs - Math.max(first.firstAppendedMs, truth.acquiredMs) > oldMs;
    if (!isExcess && !isOld) return undefined;
    return `retention has not deleted ${truth.name}-${truth.headOffset}`;
  }
}
