// Scale-down without redelivery, as a state machine: which pods are to go, whether what they hold is done,
// when replicas may fall. Pure: the pods, and what they hold, are inputs.
//
//   state      input                                       next       step
//   none       fewer replicas wanted                       draining   wait: the victims get no more work
//   none       the same, and no pod would have to go       none       scale
//   draining   another number, below what there is         draining   wait: with other victims
//   draining   they hold nothing any more                  leaving    scale
//   draining   timeoutMs passed                            leaving    scale, and say so
//   draining   as many wanted as there are                 none       release: they get work again
//   leaving    their pods are gone, or LEAVING_MS passed   none       release
//   leaving    otherwise                                   leaving    wait: no work for them, to the end
//
// Invariant: replicas fall only in the step `scale`; while pods leave, no further ones are chosen.

export interface DrainPod {
  readonly name: string;
  readonly ips: readonly string[];
  readonly ready: boolean;
  readonly createdMs: number;
  /** It is being deleted already. */
  readonly ending: boolean;
}

export type DrainState =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'draining';
      readonly to: number;
      readonly victims: readonly string[];
      readonly sinceMs: number;
    }
  | { readonly kind: 'leaving'; readonly victims: readonly string[]; readonly sinceMs: number };

export interface DrainInputs {
  readonly current: number;
  readonly desired: number;
  readonly pods: readonly DrainPod[];
  /** StatefulSets lose the highest ordinals, whatever is marked. */
  readonly byOrdinal: boolean;
  /** What the victims hold, all brokers together, asked for after they were chosen. Undefined: not known. */
  readonly outstanding: number | undefined;
  readonly timeoutMs: number;
  readonly nowMs: number;
}

export type DrainStep =
  | { readonly kind: 'none' }
  | { readonly kind: 'wait' }
  | { readonly kind: 'release' }
  | { readonly kind: 'scale'; readonly to: number; readonly timedOut: boolean };

/** The bound of the wait: pods get their grace period, which is seldom longer. */
const LEAVING_MS = 120_000;

export const NO_DRAIN: DrainState = { kind: 'none' };

export function stepDrain(
  state: DrainState,
  inputs: DrainInputs,
): { readonly state: DrainState; readonly step: DrainStep } {
  const { current, desired, pods, nowMs } = inputs;
  switch (state.kind) {
    case 'none': {
      if (desired >= current) return { state, step: { kind: 'none' } };
      const victims = victimsOf(inputs, []);
      // Nobody is there to ask about: no pod could be found, or none is there yet.
      if (victims.length === 0) return lower(inputs, [], false);
      return {
        state: { kind: 'draining', to: desired, victims, sinceMs: nowMs },
        step: { kind: 'wait' },
      };
    }
    case 'draining': {
      if (desired >= current) return { state: NO_DRAIN, step: { kind: 'release' } };
      if (desired !== state.to) {
        const victims = victimsOf(inputs, state.victims);
        return { state: { ...state, to: desired, victims }, step: { kind: 'wait' } };
      }
      if (inputs.outstanding === 0) return lower(inputs, state.victims, false);
      if (nowMs - state.sinceMs >= inputs.timeoutMs) return lower(inputs, state.victims, true);
      return { state, step: { kind: 'wait' } };
    }
    case 'leaving': {
      const there = pods.some(({ name }) => state.victims.includes(name));
      if (there && nowMs - state.sinceMs < LEAVING_MS) return { state, step: { kind: 'wait' } };
      return { state: NO_DRAIN, step: { kind: 'release' } };
    }
  }
}

function lower(
  { desired, nowMs }: DrainInputs,
  victims: readonly string[],
  timedOut: boolean,
): { state: DrainState; step: DrainStep } {
  return {
    state: victims.length === 0 ? NO_DRAIN : { kind: 'leaving', victims, sinceMs: nowMs },
    step: { kind: 'scale', to: desired, timedOut },
  };
}

/**
 * As many pods as are too many: those that Kubernetes would take first anyhow, then those chosen before, then
 * the youngest.
 */
function victimsOf({ current, desired, pods, byOrdinal }: DrainInputs, chosen: readonly string[]): string[] {
  const living = pods.filter(({ ending }) => !ending);
  const ranked = byOrdinal
    ? living.sort((a, b) => ordinal(b.name) - ordinal(a.name))
    : living.sort(
        (a, b) =>
          Number(a.ready) - Number(b.ready) ||
          Number(chosen.includes(b.name)) - Number(chosen.includes(a.name)) ||
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
