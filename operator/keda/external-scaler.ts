// KEDA's external scaler: answers from the decisions that the operator makes anyway, so that KEDA scales as
// the operator would.
//
// The one metric is how many replicas the load asks for, with a target of one a replica: the HPA that KEDA
// makes then wants just that many, and does its own windows and steps. KEDA's own 0 <-> 1 follows IsActive.
//
// Invariant: what is not known is UNAVAILABLE, never 0 and never inactive.
import { create } from '@bufbuild/protobuf';
import {
  type GetMetricSpecResponse,
  GetMetricSpecResponseSchema,
  type GetMetricsRequest,
  type GetMetricsResponse,
  GetMetricsResponseSchema,
  type IsActiveResponse,
  IsActiveResponseSchema,
  type ScaledObjectRef,
} from '../../services/gen/externalscaler/externalscaler_pb.ts';
import type { Decision, ScalingCondition } from '../core/autoscale/decision.ts';
import { ScalerError } from './errors.ts';

/** What the scaler must know of a decision. */
export type ScalerDecision = Pick<Decision, 'need' | 'active'> & {
  /** Undefined: it has not been decided yet. */
  readonly condition: ScalingCondition | undefined;
};

/** The Subscriptions with `strategy: KEDA`. */
export interface ScalerSource {
  /**
   * The newest decision of a Subscription. Undefined: there is no such Subscription, or KEDA is not to scale
   * it. One that has not been decided yet has a `need` of undefined.
   */
  decisionOf(namespace: string, subscription: string): ScalerDecision | undefined;
  /** Calls the listener after every decision of that Subscription; returns a function that ends it. */
  onDecision(namespace: string, subscription: string, listener: () => void): () => void;
}

export const METRIC_NAME = 'fanfare-replicas';

/** Kubernetes names are at most so long; what is longer is not looked up. */
const MAX_NAME_CHARS = 253;

export class ExternalScaler {
  readonly #source: ScalerSource;

  constructor(source: ScalerSource) {
    this.#source = source;
  }

  isActive(ref: ScaledObjectRef | undefined): IsActiveResponse {
    return create(IsActiveResponseSchema, { result: this.#known(ref).active });
  }

  metricSpec(ref: ScaledObjectRef | undefined): GetMetricSpecResponse {
    // A ScaledObject for nothing fails here, when it is made, and not at the first load.
    this.#find(ref);
    return create(GetMetricSpecResponseSchema, {
      metricSpecs: [{ metricName: METRIC_NAME, targetSize: 1n, targetSizeFloat: 1 }],
    });
  }

  metrics({ scaledObjectRef, metricName }: GetMetricsRequest): GetMetricsResponse {
    if (metricName !== METRIC_NAME) {
      throw new ScalerError(
        'INVALID_ARGUMENT',
        `there is no metric "${metricName.slice(0, MAX_NAME_CHARS)}": the only one is ${METRIC_NAME}`,
      );
    }
    const { need } = this.#known(scaledObjectRef);
    return create(GetMetricsResponseSchema, {
      metricValues: [{ metricName, metricValue: BigInt(Math.ceil(need)), metricValueFloat: need }],
    });
  }

  /**
   * Calls `send` with the present state, as soon as it is known, and then at every change. Returns a function
   * that ends it. Throws NOT_FOUND and INVALID_ARGUMENT as isActive does.
   */
  watchActive(ref: ScaledObjectRef | undefined, send: (response: IsActiveResponse) => void): () => void {
    const { namespace, subscription } = nameOf(ref);
    this.#find(ref);
    let sent: boolean | undefined;
    const look = (): void => {
      const decision = this.#source.decisionOf(namespace, subscription);
      // Nothing is said while nothing is known: KEDA goes on with what it heard last.
      if (decision?.need === undefined || decision.active === sent) return;
      sent = decision.active;
      send(create(IsActiveResponseSchema, { result: sent }));
    };
    const end = this.#source.onDecision(namespace, subscription, look);
    look();
    return end;
  }

  #find(ref: ScaledObjectRef | undefined): ScalerDecision {
    const { namespace, subscription } = nameOf(ref);
    const decision = this.#source.decisionOf(namespace, subscription);
    if (decision !== undefined) return decision;
    throw new ScalerError(
      'NOT_FOUND',
      `there is no Subscription ${namespace}/${subscription} with consumers.strategy KEDA; the trigger's metadata may name another one in "subscription"`,
    );
  }

  #known(ref: ScaledObjectRef | undefined): ScalerDecision & { need: number } {
    const decision = this.#find(ref);
    if (decision.need !== undefined) return { ...decision, need: decision.need };
    const why = decision.condition?.message ?? 'it has not been decided yet';
    throw new ScalerError('UNAVAILABLE', `how many replicas are needed is not known: ${why}`);
  }
}

/**
 * A ScaledObject can only ask for a Subscription of its own namespace, by its own name or the one in its
 * metadata.
 */
function nameOf(ref: ScaledObjectRef | undefined): { namespace: string; subscription: string } {
  const namespace = ref?.namespace ?? '';
  const subscription = ref?.scalerMetadata.subscription ?? ref?.name ?? '';
  for (const [what, value] of [
    ['namespace', namespace],
    ['subscription', subscription],
  ]) {
    if (value === '' || value!.length > MAX_NAME_CHARS) {
      throw new ScalerError(
        'INVALID_ARGUMENT',
        `${what} must have 1 to ${MAX_NAME_CHARS} characters, this has ${value!.length}`,
      );
    }
  }
  return { namespace, subscription };
}
