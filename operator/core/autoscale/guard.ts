// Notices that more replicas don't help: something they all use (a database, a licence, a rate limit) is the
// bottleneck. Then ups are held at the number that did as much, for five minutes, and twice as long each
// further time, up to an hour. The idea is the Flink autoscaler's ineffective scale-up detection.
//
// (state) -event-> (state):
//   (idle)  -an up is wanted while saturated->                        (watching, from how many and how much)
//   (watching) -as many are ready, and settle less->                  (watching, from that)
//   (watching) -25 % more are ready, and settle about the same->      (holding, ceiling)
//   (watching) -they settle more, or are no longer saturated->        (idle)
//   (holding) -the time is over, or half again as much is settled->   (idle; the next hold is longer or not)
import type { CapacityState } from './capacity.ts';
import { settledReady } from './capacity.ts';
import type { Load } from './rates.ts';

export interface GuardState {
  readonly watching?: { readonly ready: number; readonly ackRate: number } | undefined;
  readonly holding?:
    | { readonly untilMs: number; readonly ceiling: number; readonly ackRate: number }
    | undefined;
  /** How long the next hold is. */
  readonly holdMs: number;
}

const FIRST_HOLD_MS = 300_000;
const LONGEST_HOLD_MS = 3_600_000;
/** The effect of a smaller growth could be lost in the noise. */
const TELLING_GROWTH = 1.25;
const USELESS_GAIN = 0.1;
const RECOVERED = 1.5;

export const UNGUARDED: GuardState = { holdMs: FIRST_HOLD_MS };

/** `wantsMore`: the rules ask for more replicas than there are. */
export function watchScaleUp(
  old: GuardState,
  capacity: CapacityState,
  load: Load,
  wantsMore: boolean,
  nowMs: number,
): GuardState {
  const ackRate = load.ackRate;
  if (ackRate === undefined) return old;
  if (old.holding !== undefined) {
    const recovered = ackRate > old.holding.ackRate * RECOVERED;
    if (nowMs < old.holding.untilMs && !recovered) return old;
    return { holdMs: recovered ? FIRST_HOLD_MS : old.holdMs };
  }
  const ready = settledReady(capacity);
  if (old.watching === undefined) {
    const starts = wantsMore && capacity.saturated && ready > 0 && ackRate > 0;
    return starts ? { ...old, watching: { ready, ackRate } } : old;
  }
  if (!capacity.saturated) return wantsMore ? { holdMs: old.holdMs } : UNGUARDED;
  if (ready === old.watching.ready && ackRate < old.watching.ackRate) {
    // Replicas may have become slower: what more of them do is to be compared with that.
    return { ...old, watching: { ready, ackRate } };
  }
  if (ready < Math.max(old.watching.ready + 1, old.watching.ready * TELLING_GROWTH)) return old;
  const expected = ready / old.watching.ready - 1;
  const gain = ackRate / old.watching.ackRate - 1;
  if (gain >= USELESS_GAIN * expected) return { holdMs: FIRST_HOLD_MS };
  return {
    holding: { untilMs: nowMs + old.holdMs, ceiling: old.watching.ready, ackRate },
    holdMs: Math.min(LONGEST_HOLD_MS, old.holdMs * 2),
  };
}
