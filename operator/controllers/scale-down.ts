// Carries out core/plan-drain.ts for one target: lists its pods, has the broker give no more work to those
// that will go, asks what they still hold, marks them so that Kubernetes takes them first.
//
// Nothing of it is kept but the marks on pods: if this process dies, brokers give the pods work again after
// TTL_MS, and the next leader begins anew.
import { type BrokerAdmin, BrokerCallError, MAX_DRAIN_NAMES } from '../broker/admin.ts';
import { type DrainPod, type DrainState, type DrainStep, NO_DRAIN, stepDrain } from '../core/plan-drain.ts';
import type { KubeClient } from '../kube/client.ts';
import type { Clock } from '../kube/clock.ts';
import { isNotFound } from '../kube/errors.ts';
import type { Logger } from '../kube/logger.ts';
import { type KubeObject, PODS } from '../kube/objects.ts';

export interface ScaleDownOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether pods may be marked. */
  readonly podDeletionCost: boolean;
}

export interface ScaleDownInputs {
  /** Undefined: there is no broker to ask, and the wait ends by timeoutMs alone. */
  readonly admin: BrokerAdmin | undefined;
  /** Full name. */
  readonly subscription: string;
  readonly namespace: string;
  readonly selector: string;
  readonly byOrdinal: boolean;
  readonly current: number;
  readonly desired: number;
  readonly timeoutMs: number;
}

export interface ScaleDownView {
  readonly step: DrainStep;
  /** How many pods are to go, and messages that they hold, while they are waited for. */
  readonly draining: { readonly replicas: number; readonly outstanding: number | undefined } | undefined;
  readonly lookAgainMs: number | undefined;
}

interface Pod extends KubeObject {
  readonly status?: {
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly phase?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

const COST = 'controller.kubernetes.io/pod-deletion-cost';
/** Other pods have none, which counts as 0. */
const LOW_COST = '-1000';
/** How long a broker goes by a request that is not repeated. */
const TTL_MS = 30_000;
const RENEW_MS = TTL_MS / 3;
const DRAINING_AGAIN_MS = 1_000;
const LEAVING_AGAIN_MS = 2_000;
const PODS_AGE_MS = 5_000;

export class ScaleDown {
  readonly #options: ScaleDownOptions;
  #state: DrainState = NO_DRAIN;
  #pods: readonly DrainPod[] = [];
  #podsMs = Number.NEGATIVE_INFINITY;
  #askedMs = Number.NEGATIVE_INFINITY;
  #outstanding: number | undefined;
  #marked: readonly string[] = [];

  constructor(options: ScaleDownOptions) {
    this.#options = options;
  }

  get isActive(): boolean {
    return this.#state.kind !== 'none';
  }

  /** Returns the next step. The caller carries out `scale`, and calls failed() if it could not. */
  async look(inputs: ScaleDownInputs, signal: AbortSignal): Promise<ScaleDownView> {
    const { current, desired, timeoutMs, byOrdinal } = inputs;
    if (!this.isActive && desired >= current) {
      return { step: { kind: 'none' }, draining: undefined, lookAgainMs: undefined };
    }
    await this.#list(inputs, signal);
    if (this.isActive) await this.#ask(inputs, signal);
    const former = this.#state;
    const { state, step } = stepDrain(this.#state, {
      current,
      desired,
      pods: this.#pods,
      byOrdinal,
      outstanding: this.#outstanding,
      timeoutMs,
      nowMs: this.#options.clock.monotonicMs(),
    });
    this.#state = state;
    if (step.kind === 'release') await this.#release(inputs, victimsOf(former), signal);
    if (step.kind === 'scale') await this.#mark(inputs, victimsOf(state), signal);
    if (step.kind === 'wait' && victimsOf(former).join() !== victimsOf(state).join()) {
      this.#forgetAnswers();
      await this.#ask(inputs, signal);
    }
    return this.#view(step);
  }

  /** To be called when replicas could not be lowered: everybody gets work again. */
  async failed(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    const victims = victimsOf(this.#state);
    this.#state = NO_DRAIN;
    await this.#release(inputs, victims, signal);
  }

  #view(step: DrainStep): ScaleDownView {
    const { kind } = this.#state;
    const replicas = victimsOf(this.#state).length;
    return {
      step,
      draining: kind === 'draining' ? { replicas, outstanding: this.#outstanding } : undefined,
      lookAgainMs:
        kind === 'draining' ? DRAINING_AGAIN_MS : kind === 'leaving' ? LEAVING_AGAIN_MS : undefined,
    };
  }

  async #list({ namespace, selector }: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    const { client, clock } = this.#options;
    const maxAgeMs = this.#state.kind === 'leaving' ? 0 : PODS_AGE_MS;
    if (this.#state.kind !== 'none' && clock.monotonicMs() - this.#podsMs < maxAgeMs) return;
    this.#podsMs = clock.monotonicMs();
    if (selector === '') {
      this.#pods = [];
      return;
    }
    const pods = await client.list<Pod>(PODS, { namespace, labelSelector: selector }, signal);
    this.#pods = pods.filter(({ status }) => !/^(Succeeded|Failed)$/.test(status?.phase ?? '')).map(podOf);
  }

  /** Tells brokers who is to get no more work, which is also how they are asked what is still held. */
  async #ask(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const victims = victimsOf(this.#state);
    if (inputs.admin === undefined || victims.length === 0) return;
    if (this.#state.kind === 'leaving' && clock.monotonicMs() - this.#askedMs < RENEW_MS) return;
    this.#askedMs = clock.monotonicMs();
    try {
      const report = await inputs.admin.drainConsumers(this.#request(inputs, victims, TTL_MS), signal);
      this.#outstanding = report.outstandingMessages;
    } catch (error) {
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
      if (error.code === 'UNIMPLEMENTED') {
        logger.warn(
          { subscription: inputs.subscription },
          'the broker cannot drain consumers: it is too old',
        );
        this.#outstanding = 0;
        return;
      }
      logger.warn({ subscription: inputs.subscription, reason: error.message }, 'cannot drain consumers');
      this.#forgetAnswers();
    }
  }

  async #release(inputs: ScaleDownInputs, victims: readonly string[], signal: AbortSignal): Promise<void> {
    this.#forgetAnswers();
    const marked = this.#marked;
    this.#marked = [];
    try {
      await inputs.admin?.drainConsumers(this.#request(inputs, victims, 0), signal);
    } catch (error) {
      // The drain lapses by itself.
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
    }
    for (const name of marked) {
      if (this.#pods.some((pod) => pod.name === name && !pod.ending))
        await this.#cost(inputs, name, null, signal);
    }
  }

  async #mark(inputs: ScaleDownInputs, victims: readonly string[], signal: AbortSignal): Promise<void> {
    // StatefulSets take the highest ordinals whatever is written on pods.
    if (!this.#options.podDeletionCost || inputs.byOrdinal) return;
    this.#marked = victims;
    for (const name of victims) await this.#cost(inputs, name, LOW_COST, signal);
  }

  async #cost(
    { namespace }: ScaleDownInputs,
    name: string,
    value: string | null,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const patch = { metadata: { annotations: { [COST]: value } } };
      await this.#options.client.mergePatch(PODS, { namespace, name }, patch, signal);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  #request({ subscription }: ScaleDownInputs, victims: readonly string[], ttlMs: number) {
    if (ttlMs === 0) return { subscription, clientIds: [], peerAddresses: [], ttlMs };
    const pods = this.#pods.filter(({ name }) => victims.includes(name));
    // Addresses first: every pod has one, and a client id only if it says so itself.
    const peerAddresses = pods.flatMap(({ ips }) => ips).slice(0, MAX_DRAIN_NAMES);
    return {
      subscription,
      clientIds: victims.slice(0, MAX_DRAIN_NAMES - peerAddresses.length),
      peerAddresses,
      ttlMs,
    };
  }

  #forgetAnswers(): void {
    this.#outstanding = undefined;
    this.#askedMs = Number.NEGATIVE_INFINITY;
  }
}

function victimsOf(state: DrainState): readonly string[] {
  return state.kind === 'none' ? [] : state.victims;
}

function podOf({ metadata, status }: Pod): DrainPod {
  const ips = (status?.podIPs ?? []).map(({ ip }) => ip);
  return {
    name: metadata.name,
    ips: ips.length > 0 ? ips : status?.podIP === undefined ? [] : [status.podIP],
    ready: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false,
    createdMs: Date.parse(metadata.creationTimestamp ?? '') || 0,
    ending: metadata.deletionTimestamp !== undefined,
  };
}
