// Turns the counters of one subscription's Backlog (proto/fanfare/v1/admin.proto) into rates.
//
// Invariant: a rate is undefined until two measurements are known, and never wrong because a counter began
// anew: such an interval is left out.

/** The part of a Backlog that scaling needs, as numbers. */
export interface BacklogSample {
  readonly messages: number;
  readonly outstandingMessages: number;
  readonly oldestUnackedAgeMs?: number | undefined;
  readonly consumers: number;
  readonly appendedTotal: number;
  readonly ackedTotal: number;
  readonly redeliveredTotal: number;
  /** When it was measured, by the broker's clock. */
  readonly measureTimeMs: number;
}

/** What is known of a subscription's work. Rates are messages per second. */
export interface Load {
  /** When the newest measurement arrived, by the clock of whoever decides: the broker's may differ. */
  readonly receivedAtMs: number;
  /** Appended and not settled, outstanding ones included. */
  readonly messages: number;
  readonly outstanding: number;
  readonly oldestUnackedAgeMs?: number | undefined;
  /** Open streams. */
  readonly consumers: number;
  /** Arrival rates: over the last interval alone, over about 15 s and over about 2 min. */
  readonly arrivalNow?: number | undefined;
  readonly arrivalFast?: number | undefined;
  readonly arrivalSlow?: number | undefined;
  /** Messages settled since measuring began: it counts on when a counter begins anew. */
  readonly settledTotal: number;
  /** Messages settled per second, over about 15 s. */
  readonly ackRate?: number | undefined;
  readonly redeliveryRate?: number | undefined;
}

export interface RateState {
  readonly sample: BacklogSample;
  /** How much time the averages have behind them: until it is long, they are plain means. */
  readonly spanMs: number;
  readonly load: Load;
}

const FAST_MS = 15_000;
const SLOW_MS = 120_000;

/**
 * `receivedAtMs` is by the caller's clock. A measurement that is not newer than the last one changes nothing.
 */
export function foldBacklog(
  previous: RateState | undefined,
  sample: BacklogSample,
  receivedAtMs: number,
): RateState {
  const now = {
    receivedAtMs,
    messages: sample.messages,
    outstanding: Math.min(sample.outstandingMessages, sample.messages),
    oldestUnackedAgeMs: sample.oldestUnackedAgeMs,
    consumers: sample.consumers,
    settledTotal: previous?.load.settledTotal ?? 0,
  };
  if (previous === undefined) return { sample, spanMs: 0, load: now };
  const elapsedMs = sample.measureTimeMs - previous.sample.measureTimeMs;
  // The broker's clock was set back far: begin anew rather than wait until it has caught up.
  if (elapsedMs < -SLOW_MS) return { sample, spanMs: 0, load: now };
  if (elapsedMs <= 0) return previous;

  const appended = sample.appendedTotal - previous.sample.appendedTotal;
  const acked = sample.ackedTotal - previous.sample.ackedTotal;
  const redelivered = sample.redeliveredTotal - previous.sample.redeliveredTotal;
  const last = previous.load;
  if (appended < 0 || acked < 0 || redelivered < 0) {
    // A partition has another owner, whose counters begin at 0.
    return {
      sample,
      spanMs: previous.spanMs,
      load: {
        ...now,
        arrivalNow: last.arrivalFast,
        arrivalFast: last.arrivalFast,
        arrivalSlow: last.arrivalSlow,
        ackRate: last.ackRate,
        redeliveryRate: last.redeliveryRate,
      },
    };
  }
  const spanMs = Math.min(previous.spanMs + elapsedMs, SLOW_MS * 10);
  const perSecond = 1000 / elapsedMs;
  const fast = weight(elapsedMs, spanMs, FAST_MS);
  const slow = weight(elapsedMs, spanMs, SLOW_MS);
  const arrivalNow = appended * perSecond;
  return {
    sample,
    spanMs,
    load: {
      ...now,
      settledTotal: now.settledTotal + acked,
      arrivalNow,
      arrivalFast: blend(last.arrivalFast, arrivalNow, fast),
      arrivalSlow: blend(last.arrivalSlow, arrivalNow, slow),
      ackRate: blend(last.ackRate, acked * perSecond, fast),
      redeliveryRate: blend(last.redeliveryRate, redelivered * perSecond, fast),
    },
  };
}

/**
 * The weight of the newest interval in an exponential average; at first in a plain mean, so that 0 is not
 * taken for a measurement.
 */
function weight(elapsedMs: number, spanMs: number, timeConstantMs: number): number {
  return Math.max(1 - Math.exp(-elapsedMs / timeConstantMs), elapsedMs / spanMs);
}

function blend(old: number | undefined, value: number, share: number): number {
  return old === undefined ? value : old + share * (value - old);
}
