// Scale-down without redelivery, as a state machine: which pods are to go, whether what they hold is done,
// when replicas may fall, whether they have. Pure: the pods, what they hold, and the replicas are inputs.
//
//   state      input                                       next       step
//   none       fewer replicas desired                      draining   wait: the victims get no more work
//   none       the same, and no pod would have to go       none       write
//   draining   another number, below what there is         draining   wait: with other victims
//   draining   they hold nothing any more                  lowering   write
//   draining   timeoutMs passed                            lowering   write
//   lowering   replicas have fallen                        leaving    fallen: no work for them, to the end
//   lowering   they have not, and another number           draining   wait: with other victims
//   lowering   the write was refused, or LOWERING_MS       resting    release: the victims get work again
//   lowering   otherwise                                   lowering   write, again
//   both       as many desired as there are                none       release
//   leaving    the pods are gone, or LEAVING_MS passed     none       release
//   leaving    replicas were raised again                  leaving    wait: only for pods that are ending
//   leaving    otherwise                                   leaving    wait
//   resting    RESTING_MS passed                           none       none
//
// Invariants: replicas fall only in the step `write`, after the handshake; a write counts only when the
// fallen replicas are observed, so one that failed, in whatever way, is made again; consumers that a failing
// write keeps idle get work again after LOWERING_MS; while pods leave, no further ones are chosen.

export interface DrainPod {
  readonly name: string;
  readonly ips: readonly string[];
  readonly ready: boolean;
  readonly createdMs: number;
  /** It is being deleted already. */
  readonly ending: boolean;
}

interface Draining {
  readonly kind: 'draining';
  readonly to: number;
  readonly victims: readonly string[];
  readonly sinceMs: number;
}

interface Lowering extends Omit<Draining, 'kind'> {
  readonly kind: 'lowering';
  readonly from: number;
  /** Since when it has been tried. */
  readonly triedMs: number;
  /** The victims still held messages, or nobody knows. */
  readonly timedOut: boolean;
}

interface Leaving extends Omit<Draining, 'kind'> {
  readonly kind: 'leaving';
}

export type ScaleDownState =
  | { readonly kind: 'none' }
  | Draining
  | Lowering
  | Leaving
  /** A scale-down was given up: consumers work until the next try. */
  | { readonly kind: 'resting'; readonly sinceMs: number };

export interface ScaleDownObserved {
  /** How many replicas the target is set to, as the API server has said. */
  readonly current: number;
  readonly desired: number;
  readonly pods: readonly DrainPod[];
  /** StatefulSets lose the highest ordinals, whatever is marked. */
  readonly byOrdinal: boolean;
  /** What the victims hold, all brokers together, asked for after they were chosen. Undefined: not known. */
  readonly outstanding: number | undefined;
  /** When the API server refused a write last. Undefined: it never did. */
  readonly refusedMs: number | undefined;
  readonly timeoutMs: number;
  readonly nowMs: number;
}

export type ScaleDownStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'wait' }
  | { readonly kind: 'release' }
  | { readonly kind: 'write'; readonly to: number }
  | { readonly kind: 'fallen'; readonly from: number; readonly to: number; readonly timedOut: boolean };

interface Next {
  readonly state: ScaleDownState;
  readonly step: ScaleDownStep;
}

/** The bound of the wait: pods get their grace period, which is seldom longer. */
const LEAVING_MS = 120_000;
/** So long consumers without work wait for a write to be made; several tries fit in, even unanswered ones. */
export const LOWERING_MS = 30_000;
/** After a scale-down that was given up, the target works for so long with all its replicas. */
export const RESTING_MS = 60_000;

export const NO_SCALE_DOWN: ScaleDownState = { kind: 'none' };

export function stepScaleDown(state: ScaleDownState, observed: ScaleDownObserved): Next {
  const { current, desired, pods, nowMs } = observed;
  switch (state.kind) {
    case 'none': {
      if (desired >= current) return { state, step: { kind: 'none' } };
      const victims = chosen(observed, []);
      // Nobody is there to ask about: no pod could be found, or none is there yet.
      if (victims.length === 0) return { state, step: { kind: 'write', to: desired } };
      return {
        state: { kind: 'draining', to: desired, victims, sinceMs: nowMs },
        step: { kind: 'wait' },
      };
    }
    case 'draining': {
      if (desired >= current) return released();
      if (desired !== state.to) return redrained(state, observed);
      const timedOut = observed.outstanding !== 0;
      if (timedOut && nowMs - state.sinceMs < observed.timeoutMs) return { state, step: { kind: 'wait' } };
      const { to, victims, sinceMs } = state;
      return {
        state: { kind: 'lowering', from: current, to, victims, sinceMs, triedMs: nowMs, timedOut },
        step: { kind: 'write', to },
      };
    }
    case 'lowering': {
      const { from, to, victims, timedOut } = state;
      if (current <= to) {
        return {
          state: { kind: 'leaving', to, victims, sinceMs: nowMs },
          step: { kind: 'fallen', from, to, timedOut },
        };
      }
      if (desired >= current) return released();
      if (desired !== to) return redrained(state, observed);
      const isRefused = (observed.refusedMs ?? Number.NEGATIVE_INFINITY) >= state.triedMs;
      if (isRefused || nowMs - state.triedMs >= LOWERING_MS) {
        return { state: { kind: 'resting', sinceMs: nowMs }, step: { kind: 'release' } };
      }
      return { state, step: { kind: 'write', to } };
    }
    case 'leaving': {
      const there = pods.filter(({ name }) => state.victims.includes(name));
      // Replicas were raised again: those that Kubernetes has not taken by now stay.
      const leaving = current > state.to ? there.filter(({ ending }) => ending) : there;
      if (leaving.length === 0 || nowMs - state.sinceMs >= LEAVING_MS) return released();
      if (leaving.length === there.length) return { state, step: { kind: 'wait' } };
      const victims = leaving.map(({ name }) => name);
      return { state: { ...state, victims }, step: { kind: 'wait' } };
    }
    case 'resting': {
      const isOver = nowMs - state.sinceMs >= RESTING_MS;
      return { state: isOver ? NO_SCALE_DOWN : state, step: { kind: 'none' } };
    }
  }
}

export function victimsOf(state: ScaleDownState): readonly string[] {
  return 'victims' in state ? state.victims : [];
}

function released(): Next {
  return { state: NO_SCALE_DOWN, step: { kind: 'release' } };
}

/** Another number is desired: other victims, of whom those chosen before are some. The clock runs on. */
function redrained({ victims, sinceMs }: Draining | Lowering, observed: ScaleDownObserved): Next {
  return {
    state: { kind: 'draining', to: observed.desired, victims: chosen(observed, victims), sinceMs },
    step: { kind: 'wait' },
  };
}

/**
 * As many pods as are too many: those that Kubernetes would take first anyhow, then those chosen before, then
 * the youngest.
 */
function chosen(
  { current, desired, pods, byOrdinal }: ScaleDownObserved,
  before: readonly string[],
): readonly string[] {
  const living = pods.filter(({ ending }) => !ending);
  const ranked = byOrdinal
    ? living.sort((a, b) => ordinal(b.name) - ordinal(a.name))
    : living.sort(
        (a, b) =>
          Number(a.ready) - Number(b.ready) ||
          Number(before.includes(b.name)) - Number(before.includes(a.name)) ||
          b.createdMs - a.createdMs ||
          a.name.localeCompare(b.name),
      );
  // Replicas that have no pod yet go first, without anybody's help.
  const missing = Math.max(0, current - living.length);
  return ranked.slice(0, Math.max(0, current - desired - missing)).map(({ name }) => name);
}

function ordinal(name: string): number {
  const [, number] = /-(\d+)$/.exec(name) ?? [];
  return number === undefined ? -1 : Number(number);
}
