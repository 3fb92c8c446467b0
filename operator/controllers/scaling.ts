// How many consumers a Subscription has: observes the target and the backlog, has decide() decide and
// planReplicas() plan, and carries that out, downwards by scale-down.ts' handshake. It is part of the
// Subscription's reconcile, so that one worker at a time deals with a Subscription.
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
import type { AutoscaleInputs } from '../core/autoscale/inputs.ts';
import { scaleSpec, TICK_MS } from '../core/autoscale/spec.ts';
import { initialState } from '../core/autoscale/state.ts';
import type { NewCondition } from '../core/conditions.ts';
import { desiredReplicas, planReplicas, type Refusal, replicasToWrite } from '../core/plan-replicas.ts';
import type { FoundSubscription } from '../core/plan-subscription.ts';
import type { ScaleDownStep } from '../core/scale-down.ts';
import { autoscalingStatus, type ScalingObserved, scalingConditions } from '../core/scaling-status.ts';
import type { KubeClient } from '../kube/client.ts';
import { keyOf, STATEFUL_SETS } from '../kube/objects.ts';
import { applyReplicas, notFound } from './apply-replicas.ts';
import type { ControllerContext } from './context.ts';
import { ScaleDown, type ScaleDownView } from './scale-down.ts';
import { type Remembered, ScalingMemory } from './scaling-memory.ts';
import type { FoundTarget, Targets } from './targets.ts';

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

export type ScalingContext = Pick<
  ControllerContext,
  'client' | 'clock' | 'logger' | 'events' | 'backlog' | 'podDeletionCost'
>;

/** All that one reconcile has seen. */
interface Observed {
  readonly subscription: Subscription;
  readonly consumers: Consumers;
  readonly converged: ConvergedPart;
  readonly memory: Remembered;
  readonly found: FoundTarget | undefined;
  readonly heard: Heard | undefined;
  readonly inputs: AutoscaleInputs;
}

/** How long status says that a scale-down did not wait any longer. */
const TIMED_OUT_MS = 600_000;

export class Scaling {
  readonly memory: ScalingMemory;
  readonly #ctx: ScalingContext;
  readonly #targets: Pick<Targets, 'find' | 'refusalOf'>;
  readonly #client: KubeClient;

  constructor(ctx: ScalingContext, targets: Pick<Targets, 'find' | 'refusalOf'>) {
    this.#ctx = ctx;
    this.#targets = targets;
    this.#client = ctx.client('autoscaler');
    this.memory = new ScalingMemory(ctx.clock, () => new ScaleDown({ ...ctx, client: this.#client }));
  }

  /** Undefined: the Subscription scales nothing. */
  async reconcile(
    subscription: Subscription,
    converged: ConvergedPart,
    signal: AbortSignal,
  ): Promise<Scaled | undefined> {
    const { consumers } = subscription.spec;
    if (consumers === undefined) {
      this.memory.forget(keyOf(subscription));
      return undefined;
    }
    const observed = await this.#observe(subscription, consumers, converged, signal);
    if (observed.found !== undefined && consumers.strategy !== 'None') this.#decide(observed);
    const refusal =
      observed.found === undefined
        ? notFound(consumers)
        : await this.#targets.refusalOf(subscription, signal);
    const down = await this.#carryOut(observed, refusal, signal);
    return this.#scaled(observed, refusal, down);
  }

  async #observe(
    subscription: Subscription,
    consumers: Consumers,
    converged: ConvergedPart,
    signal: AbortSignal,
  ): Promise<Observed> {
    const key = keyOf(subscription);
    const { spec, metadata } = subscription;
    const found = await this.#targets.find(metadata.namespace, consumers.scaleTargetRef, signal);
    const heard = this.#ctx.backlog.get(key);
    const memory = this.memory.of(key, subscription, found?.target.replicas ?? 0);
    if (found !== undefined && memory.count.see(found.target.replicas)) memory.contention.note();
    const inputs: AutoscaleInputs = {
      currentReplicas: found === undefined ? 0 : memory.count.current,
      readyReplicas: found?.target.readyReplicas ?? 0,
      load: heard?.rates.load,
      partitions: await this.#partitions(converged, memory),
      ordered: spec.ordering,
      activeKeys: heard?.report.activeKeys,
      blockedMessages: heard?.report.blockedMessages,
      busyConsumers: heard?.report.consumersWithoutCredit,
      targetRevision: found?.target.revision,
    };
    return { subscription, consumers, converged, memory, found, heard, inputs };
  }

  /**
   * The topic's partitions: from what was listed last, so with no call unless that is too old. While the
   * broker does not say, they are what they were.
   */
  async #partitions({ place, found }: ConvergedPart, memory: Remembered): Promise<number | undefined> {
    if (place === undefined || found === undefined || place.link.health.kind === 'away')
      return memory.partitions;
    try {
      const view = place.link.view(place.project);
      const topic = await view.topic(found.topic, false, place.link.closed);
      memory.partitions = topic?.partitions ?? memory.partitions;
      memory.partitionsProblem = undefined;
    } catch (error) {
      if (!(error instanceof BrokerCallError)) throw error;
      if (!error.isAway && memory.partitionsProblem !== error.message) {
        const fields = { topic: found.topic, reason: error.message };
        this.#ctx.logger.warn(fields, 'the broker does not say how many partitions there are');
      }
      memory.partitionsProblem = error.message;
    }
    return memory.partitions;
  }

  #decide({ subscription, consumers, memory, inputs }: Observed): void {
    const nowMs = this.#ctx.clock.monotonicMs();
    const learned = subscription.status?.autoscaling?.learned;
    const kept = learned === undefined ? {} : { capacity: capacityFrom(learned) };
    const state =
      memory.decision?.state ??
      initialState(inputs.currentReplicas, nowMs, { ...kept, targetRevision: inputs.targetRevision });
    this.memory.decided(keyOf(subscription), memory, decide(scaleSpec(consumers), state, inputs, nowMs));
  }

  async #carryOut(
    { subscription, consumers, converged, memory, found, inputs }: Observed,
    refusal: Refusal | undefined,
    signal: AbortSignal,
  ): Promise<ScaleDownView> {
    const { place, name } = converged;
    const { strategy, drain } = consumers;
    const { currentReplicas: current } = inputs;
    const isAway = place?.link.health.kind === 'away';
    const plan = planReplicas({
      consumers,
      decision: memory.decision,
      refusal,
      rolling: found?.target.rolling ?? false,
      current,
      subscription: converged.found !== undefined ? 'there' : isAway ? 'away' : 'absent',
    });
    const down = await memory.down.look(
      {
        admin: place?.link.admin,
        subscription: name ?? '',
        namespace: subscription.metadata.namespace,
        selector: found?.target.selector ?? '',
        byOrdinal: found?.resource === STATEFUL_SETS,
        current,
        desired: plan.kind === 'lower' && plan.handshake ? plan.to : current,
        refusedMs: memory.refused?.atMs,
        timeoutMs: drain.timeoutSeconds * 1000,
      },
      signal,
    );
    if (down.step.kind === 'fallen') this.#fallen(memory, down.step, drain.timeoutSeconds);
    if (plan.kind === 'keep') memory.refused = undefined;
    const to = replicasToWrite(plan, down.step);
    if (to === undefined || found === undefined) return down;
    const why = strategy === 'Internal' ? (memory.decision?.reason ?? '') : `strategy ${strategy}`;
    const { resource } = found;
    const { count } = memory;
    const write = { subscription, consumers, resource, count, to, why };
    const refused = await applyReplicas(this.#ctx, this.#client, write, signal);
    const atMs = this.#ctx.clock.monotonicMs();
    memory.refused = refused && { refusal: refused, atMs };
    return down;
  }

  #fallen(memory: Remembered, { from, to, timedOut }: ScaleDownStep & { kind: 'fallen' }, seconds: number) {
    if (!timedOut) return;
    const message = `after ${seconds} s consumers that had to go still held messages: replicas were lowered from ${from} to ${to} all the same, and those messages will be redelivered`;
    memory.drainTimedOut = { message, untilMs: this.#ctx.clock.monotonicMs() + TIMED_OUT_MS };
  }

  #scaled(
    { subscription, consumers, memory, found, heard, inputs }: Observed,
    refusal: Refusal | undefined,
    down: ScaleDownView,
  ): Scaled {
    const { clock } = this.#ctx;
    const nowMs = clock.monotonicMs();
    const { decision, drainTimedOut } = memory;
    const target = found?.target;
    const observed: ScalingObserved = {
      consumers,
      target,
      refusal: refusal ?? memory.refused?.refusal,
      decision,
      openStreams: heard?.report.consumers,
      draining: down.draining,
      drainTimedOut: drainTimedOut && nowMs <= drainTimedOut.untilMs ? drainTimedOut.message : undefined,
      contended: memory.contention.problem(target?.managers ?? []),
      ordering: subscription.spec.ordering,
      partitions: inputs.partitions,
    };
    const toWallMs = (ms: number): number => clock.nowMs() - (nowMs - ms);
    const measuredMs = heard && toWallMs(heard.rates.load.receivedAtMs);
    return {
      conditions: scalingConditions(observed),
      status: {
        replicas: target?.statusReplicas,
        readyReplicas: target?.readyReplicas,
        desiredReplicas: desiredReplicas(consumers, decision, inputs.currentReplicas),
        selector: target?.selector,
        autoscaling: autoscalingStatus(observed, inputs, measuredMs, clock.nowMs(), toWallMs),
      },
      lookAgainMs: down.lookAgainMs ?? TICK_MS,
    };
  }
}
