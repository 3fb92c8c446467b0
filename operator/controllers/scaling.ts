// How many consumers a Subscription has: observes the target and the backlog, has decide() decide, and sets
// the target's /scale, downwards only after scale-down.ts' handshake. It is part of the Subscription's
// reconcile, so that one worker at a time deals with a Subscription.
//
//   strategy   replicas come from              we set the target
//   Internal   decide()                        yes
//   KEDA       spec.consumers.replicas         yes; decide() answers KEDA
//   None       spec.consumers.replicas         yes
import type { Consumers } from '../api/v1alpha1/consumers.ts';
import type { Subscription, SubscriptionStatus } from '../api/v1alpha1/subscription.ts';
import { BrokerCallError } from '../broker/admin.ts';
import type { Heard } from '../broker/backlog-watch.ts';
import type { Place } from '../broker/links.ts';
import { capacityFrom } from '../core/autoscale/capacity.ts';
import { decide } from '../core/autoscale/decide.ts';
import type { Decision } from '../core/autoscale/decision.ts';
import type { AutoscaleInputs } from '../core/autoscale/inputs.ts';
import { scaleSpec, TICK_MS } from '../core/autoscale/spec.ts';
import { initialState } from '../core/autoscale/state.ts';
import type { NewCondition } from '../core/conditions.ts';
import {
  autoscalingStatus,
  type Refusal,
  type ScalingObserved,
  scalingConditions,
  type Target,
  wantedReplicas,
} from '../core/plan-scaling.ts';
import type { FoundSubscription } from '../core/plan-subscription.ts';
import type { KubeClient } from '../kube/client.ts';
import { KubeError } from '../kube/errors.ts';
import { keyOf, STATEFUL_SETS } from '../kube/objects.ts';
import { Contention } from './contention.ts';
import type { ControllerContext } from './context.ts';
import { ScaleDown, type ScaleDownInputs, type ScaleDownView } from './scale-down.ts';
import type { Targets } from './targets.ts';

export interface Scaled {
  readonly conditions: readonly NewCondition[];
  readonly status: Partial<SubscriptionStatus>;
  readonly lookAgainMs: number | undefined;
}

/** The part of converge()'s result that scaling needs. */
export interface ConvergedPart {
  readonly place: Place | undefined;
  readonly name: string | undefined;
  readonly found: FoundSubscription | undefined;
}

interface Memory {
  readonly uid: string;
  readonly down: ScaleDown;
  readonly contention: Contention;
  decision: Decision | undefined;
  decidedMs: number;
  replicas: number;
  drainTimedOut: { readonly message: string; readonly untilMs: number } | undefined;
}

/** From one decision to the next, at least, while backlogs are pushed every second. */
const DECIDE_MS = 5_000;
/** How long status says that a scale-down did not wait any longer. */
const TIMED_OUT_MS = 600_000;

const IDLE: ScaleDownView = { step: { kind: 'none' }, draining: undefined, lookAgainMs: undefined };

export class Scaling {
  readonly #ctx: ControllerContext;
  readonly #targets: Targets;
  readonly #client: KubeClient;
  readonly #memory = new Map<string, Memory>();
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(ctx: ControllerContext, targets: Targets) {
    this.#ctx = ctx;
    this.#targets = targets;
    this.#client = ctx.client('autoscaler');
  }

  /** Undefined: the Subscription scales nothing. */
  async reconcile(
    subscription: Subscription,
    converged: ConvergedPart,
    signal: AbortSignal,
  ): Promise<Scaled | undefined> {
    const key = keyOf(subscription);
    const { consumers } = subscription.spec;
    if (consumers === undefined) {
      this.forget(key);
      return undefined;
    }
    const { namespace } = subscription.metadata;
    const target = await this.#targets.find(namespace, consumers.scaleTargetRef, signal);
    const heard = this.#ctx.backlog.get(key);
    const memory = this.#remember(key, subscription, target);
    const current = target === undefined ? 0 : memory.contention.see(target.replicas);
    const inputs = await this.#inputs(subscription, converged, target, current, heard);
    if (target !== undefined && consumers.strategy !== 'None') {
      this.#decide(key, memory, subscription, consumers, inputs);
    }
    let refusal: Refusal | undefined =
      target === undefined ? notFound(consumers) : await this.#targets.refusalOf(subscription, signal);
    let down = IDLE;
    if (target !== undefined && refusal === undefined) {
      const wanted = consumers.dryRun ? current : wantedReplicas(consumers, memory.decision);
      const carried = await this.#carryOut(subscription, converged, target, memory, current, wanted, signal);
      down = carried.down;
      refusal = carried.refusal;
    }
    return this.#scaled(subscription, memory, target, refusal, inputs, down, heard);
  }

  /**
   * Whether a backlog that was pushed is reason for a look: at once when there is work and nobody to do it.
   */
  isDue(key: string, { rates }: Heard): boolean {
    const memory = this.#memory.get(key);
    if (memory === undefined) return true;
    if (memory.replicas === 0 && rates.load.messages > 0) return true;
    return this.#ctx.clock.monotonicMs() - memory.decidedMs >= DECIDE_MS;
  }

  forget(key: string): void {
    this.#memory.delete(key);
  }

  /** The newest decision about a Subscription. Undefined: there was none yet. */
  decisionOf(key: string): Decision | undefined {
    return this.#memory.get(key)?.decision;
  }

  onDecision(key: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(key) ?? new Set();
    this.#listeners.set(key, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(key);
    };
  }

  #remember(key: string, { metadata }: Subscription, target: Target | undefined): Memory {
    const known = this.#memory.get(key);
    if (known?.uid === metadata.uid) return known;
    const { clock, logger, podDeletionCost } = this.#ctx;
    const memory: Memory = {
      uid: metadata.uid,
      down: new ScaleDown({ client: this.#client, clock, logger, podDeletionCost }),
      contention: new Contention(clock),
      decision: undefined,
      decidedMs: Number.NEGATIVE_INFINITY,
      replicas: target?.replicas ?? 0,
      drainTimedOut: undefined,
    };
    this.#memory.set(key, memory);
    return memory;
  }

  async #inputs(
    { spec }: Subscription,
    { place, found }: ConvergedPart,
    target: Target | undefined,
    current: number,
    heard: Heard | undefined,
  ): Promise<AutoscaleInputs> {
    // The topic comes from what was listed last: no call, unless that is too old.
    const topic =
      place === undefined || found === undefined || place.link.health.kind === 'away'
        ? undefined
        : await place.link
            .view(place.project)
            .topic(found.topic, false, place.link.closed)
            .catch(unknownIfRefused);
    return {
      currentReplicas: current,
      readyReplicas: target?.readyReplicas ?? 0,
      load: heard?.rates.load,
      partitions: topic?.partitions ?? 1,
      ordered: spec.ordering,
      activeKeys: heard?.report.activeKeys,
      blockedMessages: heard?.report.blockedMessages,
      busyConsumers: heard?.report.consumersWithoutCredit,
      targetRevision: target?.revision,
    };
  }

  #decide(
    key: string,
    memory: Memory,
    { status }: Subscription,
    consumers: Consumers,
    inputs: AutoscaleInputs,
  ): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const learned = status?.autoscaling?.learned;
    const kept = learned === undefined ? {} : { capacity: capacityFrom(learned) };
    const state =
      memory.decision?.state ??
      initialState(inputs.currentReplicas, nowMs, { ...kept, targetRevision: inputs.targetRevision });
    memory.decision = decide(scaleSpec(consumers), state, inputs, nowMs);
    memory.decidedMs = nowMs;
    for (const listener of this.#listeners.get(key) ?? []) listener();
  }

  async #carryOut(
    subscription: Subscription,
    { place, name, found }: ConvergedPart,
    target: Target,
    memory: Memory,
    current: number,
    wanted: number | undefined,
    signal: AbortSignal,
  ): Promise<{ down: ScaleDownView; refusal: Refusal | undefined }> {
    memory.replicas = current;
    if (wanted === undefined) return { down: IDLE, refusal: undefined };
    const consumers = subscription.spec.consumers!;
    const { namespace } = subscription.metadata;
    const inputs: ScaleDownInputs = {
      admin: place?.link.admin,
      subscription: name ?? '',
      namespace,
      selector: target.selector,
      byOrdinal: (await this.#targets.resourceOf(consumers.scaleTargetRef, signal)) === STATEFUL_SETS,
      current,
      // Which pods go while a new version is rolled out is not ours to say: later.
      desired: target.rolling ? Math.max(current, wanted) : wanted,
      timeoutMs: consumers.drain.timeoutSeconds * 1000,
    };
    // A broker that is away can't be asked, and what its consumers hold is not lost: timeoutMs ends the wait.
    const isKnown = found !== undefined || place?.link.health.kind === 'away';
    const handshake = consumers.drain.enabled && isKnown;
    const down = handshake || memory.down.isActive ? await memory.down.look(inputs, signal) : IDLE;
    let to: number | undefined;
    if (inputs.desired > current) to = inputs.desired;
    else if (down.step.kind === 'scale') to = down.step.to;
    else if (!handshake && inputs.desired < current) to = inputs.desired;
    if (to === undefined) return { down, refusal: undefined };
    const refusal = await this.#setScale(subscription, memory, target.replicas, to, signal);
    const lowered = memory.replicas === to;
    if (!lowered && down.step.kind === 'scale') await memory.down.failed(inputs, signal);
    else if (down.step.kind === 'scale' && down.step.timedOut) this.#timedOut(memory, inputs);
    return { down, refusal };
  }

  /** Writes only if the target is still as we saw it: somebody else's change is decided about anew. */
  async #setScale(
    subscription: Subscription,
    memory: Memory,
    seen: number,
    to: number,
    signal: AbortSignal,
  ): Promise<Refusal | undefined> {
    const { namespace } = subscription.metadata;
    const { scaleTargetRef: ref } = subscription.spec.consumers!;
    const resource = await this.#targets.resourceOf(ref, signal);
    if (resource === undefined) return notFound(subscription.spec.consumers!);
    const expected = memory.contention.expected;
    try {
      const at = { namespace, name: ref.name };
      const isKnown = (present: number): boolean => present === seen || present === expected;
      const changed = await this.#client.setScale(
        resource,
        at,
        (present) => (isKnown(present) ? to : undefined),
        signal,
      );
      if (changed === undefined) return notFound(subscription.spec.consumers!);
      memory.replicas = changed.to;
      if (changed.to !== to) return undefined;
      memory.contention.wrote(to);
      if (changed.from === to) return undefined;
      const { strategy } = subscription.spec.consumers!;
      const why = strategy === 'Internal' ? (memory.decision?.reason ?? '') : `strategy ${strategy}`;
      const note = `${ref.kind} ${ref.name} from ${changed.from} to ${to} replicas: ${why}`;
      this.#ctx.events.record(subscription, { type: 'Normal', reason: 'Scaled', action: 'Scale', note });
      this.#ctx.logger.info(
        { subscription: keyOf(subscription), target: ref.name, from: changed.from, to, reason: why },
        'scaled',
      );
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 403) throw error;
      const message = `the operator may not scale ${ref.kind} ${ref.name}: add its resource to operator.extraScaleTargets of the chart`;
      return { reason: 'PermissionDenied', message };
    }
    return undefined;
  }

  #timedOut(memory: Memory, { timeoutMs, current, desired }: ScaleDownInputs): void {
    const message = `after ${timeoutMs / 1000} s consumers that had to go still held messages: replicas were lowered from ${current} to ${desired} all the same, and those messages will be redelivered`;
    memory.drainTimedOut = { message, untilMs: this.#ctx.clock.monotonicMs() + TIMED_OUT_MS };
  }

  #scaled(
    subscription: Subscription,
    memory: Memory,
    target: Target | undefined,
    refusal: Refusal | undefined,
    inputs: AutoscaleInputs,
    down: ScaleDownView,
    heard: Heard | undefined,
  ): Scaled {
    const { clock } = this.#ctx;
    const nowMs = clock.monotonicMs();
    if (memory.drainTimedOut !== undefined && nowMs > memory.drainTimedOut.untilMs)
      memory.drainTimedOut = undefined;
    const consumers = subscription.spec.consumers!;
    const observed: ScalingObserved = {
      consumers,
      target,
      refusal,
      decision: memory.decision,
      openStreams: heard?.report.consumers,
      draining: down.draining,
      drainTimedOut: memory.drainTimedOut?.message,
      contended: memory.contention.problem(target?.managers ?? []),
      ordering: subscription.spec.ordering,
      partitions: inputs.partitions,
    };
    const toWallMs = (ms: number): number => clock.nowMs() - (nowMs - ms);
    const measuredMs = heard && toWallMs(heard.rates.load.receivedAtMs);
    const wanted = wantedReplicas(consumers, memory.decision);
    return {
      conditions: scalingConditions(observed),
      status: {
        replicas: target?.statusReplicas,
        readyReplicas: target?.readyReplicas,
        desiredReplicas: wanted,
        selector: target?.selector,
        autoscaling: autoscalingStatus(observed, inputs, measuredMs, clock.nowMs(), toWallMs),
      },
      lookAgainMs: down.lookAgainMs ?? TICK_MS,
    };
  }
}

function notFound({ scaleTargetRef: { apiVersion, kind, name } }: Consumers): Refusal {
  return {
    reason: 'ScaleTargetNotFound',
    message: `there is no ${kind} ${name} (${apiVersion}) in this namespace, or it has no scale subresource`,
  };
}

/** What the broker does not tell is not known, as if it were away. */
function unknownIfRefused(error: unknown): undefined {
  if (error instanceof BrokerCallError) return undefined;
  throw error;
}
