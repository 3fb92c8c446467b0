// Carries out core/scale-down.ts for one target: lists its pods, has the broker give no more work to those
// that will go, asks what they still hold, marks them so that Kubernetes takes them first.
//
// Nothing of it is kept but the marks on pods: if this process dies, brokers give the pods work again after
// TTL_MS, and the next leader begins anew. Invariant: look() alone writes the state.
import { type BrokerAdmin, BrokerCallError, MAX_DRAIN_NAMES } from '../broker/admin.ts';
import {
  type DrainPod,
  NO_SCALE_DOWN,
  type ScaleDownState,
  type ScaleDownStep,
  stepScaleDown,
  victimsOf,
} from '../core/scale-down.ts';
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
  readonly refusedMs: number | undefined;
  readonly timeoutMs: number;
}

export interface ScaleDownView {
  readonly step: ScaleDownStep;
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

/** What the brokers said of the victims. Other victims: they have not been asked about. */
interface Asked {
  readonly victims: readonly string[];
  readonly atMs: number;
  /** Undefined: brokers did not answer. */
  readonly outstanding: number | undefined;
}

const COST = 'controller.kubernetes.io/pod-deletion-cost';
/** Other pods have none, which counts as 0. */
const LOW_COST = '-1000';
/** How long a broker goes by a request that is not repeated. */
const TTL_MS = 30_000;
const RENEW_MS = TTL_MS / 3;
const PODS_AGE_MS = 5_000;
/** From one look to the next in a state; undefined: nothing to be waited for. */
const LOOK_AGAIN_MS: Readonly<Record<ScaleDownState['kind'], number | undefined>> = {
  none: undefined,
  draining: 1_000,
  lowering: 1_000,
  leaving: 2_000,
  resting: undefined,
};

export class ScaleDown {
  readonly #options: ScaleDownOptions;
  #state: ScaleDownState = NO_SCALE_DOWN;
  #pods: { readonly list: readonly DrainPod[]; readonly atMs: number } = {
    list: [],
    atMs: Number.NEGATIVE_INFINITY,
  };
  #asked: Asked | undefined;
  /** Pods that may be marked, and whether that is sure: a patch without an answer may have been made. */
  readonly #marked = new Map<string, 'tried' | 'sure'>();

  constructor(options: ScaleDownOptions) {
    this.#options = options;
  }

  /** Whether there is something to look after though no replica is to go. */
  get isActive(): boolean {
    return this.#state.kind !== 'none' || this.#marked.size > 0;
  }

  /** Returns the step that was taken. A `write` is the caller's: the next look sees what came of it. */
  async look(inputs: ScaleDownInputs, signal: AbortSignal): Promise<ScaleDownView> {
    const { current, desired, refusedMs, timeoutMs, byOrdinal } = inputs;
    const { clock, logger } = this.#options;
    if (!this.isActive && desired >= current) {
      return { step: { kind: 'none' }, draining: undefined, lookAgainMs: undefined };
    }
    if (this.#state.kind !== 'resting') await this.#list(inputs, signal);
    await this.#ask(inputs, signal);
    const { state, step } = stepScaleDown(this.#state, {
      current,
      desired,
      pods: this.#pods.list,
      byOrdinal,
      outstanding: this.#outstanding,
      refusedMs,
      timeoutMs,
      nowMs: clock.monotonicMs(),
    });
    this.#state = state;
    if (step.kind === 'release') await this.#release(inputs, signal);
    if (step.kind === 'write') await this.#mark(inputs, signal);
    if (step.kind === 'wait' && this.#asked?.victims !== victimsOf(state)) await this.#ask(inputs, signal);
    if (state.kind === 'resting' && step.kind === 'release') {
      const { subscription } = inputs;
      logger.warn({ subscription, current, desired }, 'replicas did not fall: their pods get work again');
    }
    // A mark that could not be taken off is tried again at the next look.
    if (state.kind === 'none' || state.kind === 'resting') await this.#unmark(inputs, signal);
    const draining = { replicas: victimsOf(state).length, outstanding: this.#outstanding };
    return {
      step,
      draining: state.kind === 'draining' ? draining : undefined,
      lookAgainMs: LOOK_AGAIN_MS[state.kind],
    };
  }

  get #outstanding(): number | undefined {
    return this.#asked?.victims === victimsOf(this.#state) ? this.#asked.outstanding : undefined;
  }

  async #list({ namespace, selector }: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    const { client, clock } = this.#options;
    const { kind } = this.#state;
    const nowMs = clock.monotonicMs();
    const isWaiting = kind === 'draining' || kind === 'lowering';
    if (isWaiting && nowMs - this.#pods.atMs < PODS_AGE_MS) return;
    const pods =
      selector === '' ? [] : await client.list<Pod>(PODS, { namespace, labelSelector: selector }, signal);
    const living = pods.filter(({ status }) => !/^(Succeeded|Failed)$/.test(status?.phase ?? ''));
    this.#pods = { list: living.map(podOf), atMs: nowMs };
  }

  /** Tells brokers who is to get no more work, which is also how they are asked what is still held. */
  async #ask(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#options;
    const { subscription, admin } = inputs;
    const victims = victimsOf(this.#state);
    if (admin === undefined || victims.length === 0) return;
    const nowMs = clock.monotonicMs();
    // Once replicas may fall, brokers are told only so that they go on.
    const isTold = this.#asked?.victims === victims && nowMs - this.#asked.atMs < RENEW_MS;
    if (this.#state.kind !== 'draining' && isTold) return;
    const asked = { victims, atMs: nowMs };
    try {
      const report = await admin.drainConsumers(this.#request(inputs, victims, TTL_MS), signal);
      this.#asked = { ...asked, outstanding: report.outstandingMessages };
    } catch (error) {
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
      if (error.code === 'UNIMPLEMENTED') {
        logger.warn({ subscription }, 'the broker cannot drain consumers: it is too old');
        this.#asked = { ...asked, outstanding: 0 };
        return;
      }
      logger.warn({ subscription, reason: error.message }, 'cannot drain consumers');
      this.#asked = undefined;
    }
  }

  async #release(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    this.#asked = undefined;
    try {
      await inputs.admin?.drainConsumers(this.#request(inputs, [], 0), signal);
    } catch (error) {
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
      const { logger } = this.#options;
      const { subscription } = inputs;
      logger.warn({ subscription, reason: error.message }, 'cannot end the drain: it lapses by itself');
    }
  }

  async #mark(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    // StatefulSets take the highest ordinals whatever is written on pods.
    if (!this.#options.podDeletionCost || inputs.byOrdinal) return;
    for (const name of victimsOf(this.#state)) {
      if (this.#marked.get(name) === 'sure') continue;
      this.#marked.set(name, 'tried');
      await this.#cost(inputs, name, LOW_COST, signal);
      this.#marked.set(name, 'sure');
    }
  }

  async #unmark(inputs: ScaleDownInputs, signal: AbortSignal): Promise<void> {
    for (const name of [...this.#marked.keys()]) {
      if (this.#pods.list.some((pod) => pod.name === name && !pod.ending))
        await this.#cost(inputs, name, null, signal);
      this.#marked.delete(name);
    }
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
    const pods = this.#pods.list.filter(({ name }) => victims.includes(name));
    // Addresses first: every pod has one, and a client id only if it says so itself.
    const peerAddresses = pods.flatMap(({ ips }) => ips).slice(0, MAX_DRAIN_NAMES);
    return {
      subscription,
      clientIds: victims.slice(0, MAX_DRAIN_NAMES - peerAddresses.length),
      peerAddresses,
      ttlMs,
    };
  }
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
