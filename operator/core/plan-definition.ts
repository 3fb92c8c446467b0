// The ritual that Topic and Subscription share: from what was observed of one resource and of its object in
// the broker to the next step or the conditions. What differs between the two is in plan-topic.ts and
// plan-subscription.ts. Pure.
//
// Invariants: where finalizers are in use, one is there before the broker is written to; nothing is deleted
// in the broker but for a resource that is being deleted, whose object it is; in a namespace that is being
// deleted, a broker that is away, a backlog or a pause keeps a finalizer for finalizerTimeoutMs at most.
import type { Condition } from '../api/v1alpha1/conditions.ts';
import { FINALIZER, type Metadata } from '../api/v1alpha1/group.ts';
import type { Reason } from '../api/v1alpha1/reasons.ts';
import type { NewCondition } from './conditions.ts';
import type { Claim } from './plan-owner.ts';

export type ConnectionObserved =
  | { readonly kind: 'ready'; readonly project: string }
  /** The Fanfare has not been looked at yet. When it has, this resource is looked at again. */
  | { readonly kind: 'pending' }
  | { readonly kind: 'missing'; readonly name: string }
  | { readonly kind: 'unusable'; readonly reason: Reason; readonly message: string };

/** Whether the object can be made yet: a Subscription's topic must be there first. */
export type Gate =
  | { readonly kind: 'open' }
  /** The Topic has not been looked at yet. When it has, this resource is looked at again. */
  | { readonly kind: 'waiting' }
  | { readonly kind: 'closed'; readonly reason: Reason; readonly message: string };

/** How an object of the broker differs from what it should be. */
export interface Comparison<Change> {
  /** Fields that differ and can't be changed, in words. */
  readonly fixed: readonly string[];
  /** Undefined: nothing to change. */
  readonly change: Change | undefined;
}

export interface DefinitionObserved<Create, Change> {
  readonly metadata: Metadata;
  readonly spec: {
    readonly deletionPolicy: 'Retain' | 'DeleteIfEmpty' | 'Delete';
    readonly managementPolicy: 'Full' | 'ObserveOnly';
  };
  readonly paused: boolean;
  readonly connection: ConnectionObserved;
  /** Whether the broker has said what it has. If not, `found` being undefined means nothing. */
  readonly asked: boolean;
  readonly gate: Gate;
  /** Undefined while the topic's name is not known (a closed gate). */
  readonly desired: { readonly create: Create; readonly hash: string } | undefined;
  /** Undefined: the broker has none, if it was asked. */
  readonly found: { readonly incarnation: string; readonly comparison: Comparison<Change> } | undefined;
  readonly claim: Claim;
  readonly applied: { readonly hash: string; readonly incarnation?: string | undefined } | undefined;
  /** How many messages deleting would lose; undefined: not known. Looked at only for DeleteIfEmpty. */
  readonly backlog: number | undefined;
  readonly namespaceEnds: boolean;
  readonly finalizers: boolean;
  readonly finalizerTimeoutMs: number;
  readonly nowMs: number;
}

export type Action<Create, Change> =
  | { readonly kind: 'addFinalizer' }
  /** `left`: why something stays behind in the broker that should have been deleted. */
  | { readonly kind: 'removeFinalizer'; readonly left?: string | undefined }
  /** `again`: the object was there before, and somebody deleted it. */
  | { readonly kind: 'create'; readonly settings: Create; readonly again: boolean }
  | {
      readonly kind: 'update';
      readonly change: Change;
      readonly why: 'Updated' | 'DriftRepaired' | 'Adopted';
    }
  | { readonly kind: 'delete' };

export interface Plan<Create, Change> {
  /** The step to do next, before observing again. Undefined: all is as it should be, or can't be. */
  readonly action: Action<Create, Change> | undefined;
  /** Set only by a plan without action. Types that are not named stay as they are. */
  readonly conditions: readonly NewCondition[];
  readonly paused: boolean;
  /** The broker has what is desired: the hash of that goes into status.applied. */
  readonly inSync: boolean;
  /** When to look again, where nobody tells of a change. */
  readonly lookAgainMs?: number | undefined;
}

const BLOCKED_AGAIN_MS = 15_000;

export function planDefinition<Create, Change>(
  observed: DefinitionObserved<Create, Change>,
): Plan<Create, Change> {
  const { metadata, connection, spec, claim, gate, found, desired } = observed;
  if (metadata.deletionTimestamp !== undefined) return planDeletion(observed);
  if (observed.paused) return { ...idle([]), paused: true };
  if (connection.kind === 'pending') return idle([]);
  if (connection.kind === 'missing') {
    const message = `there is no Fanfare ${connection.name} in the namespace ${metadata.namespace}: make one, or leave connectionRef out to use the operator's broker`;
    return idle(both('False', 'ConnectionNotFound', message));
  }
  if (connection.kind === 'unusable') {
    return idle(both('Unknown', connection.reason, connection.message));
  }
  if (!observed.asked) return idle([]);
  const hasFinalizer = (metadata.finalizers ?? []).includes(FINALIZER);
  if (spec.managementPolicy === 'ObserveOnly') {
    if (hasFinalizer) return act({ kind: 'removeFinalizer' });
    if (found !== undefined) return idle(both('True', 'Observed', 'only observed: managementPolicy'));
    return idle(
      both('False', 'NotFound', 'the broker has no such object, and managementPolicy is ObserveOnly'),
    );
  }
  if (claim.kind === 'theirs') return idle(both('False', 'NameConflict', claim.message));
  // Finalizers are switched off, where nothing may ever wait: one from before is taken away.
  if (!observed.finalizers && hasFinalizer) return act({ kind: 'removeFinalizer' });
  if (found === undefined) {
    if (gate.kind === 'closed') return idle(both('False', gate.reason, gate.message));
    if (gate.kind === 'waiting') return idle([]);
    if (desired === undefined) return idle([]);
    if (observed.finalizers && !hasFinalizer) return act({ kind: 'addFinalizer' });
    return act({ kind: 'create', settings: desired.create, again: observed.applied !== undefined });
  }
  const { fixed, change } = found.comparison;
  if (fixed.length > 0) {
    const message = `${fixed.join('; ')}: that can't be changed; make the spec match, or use another name`;
    return idle(both('False', 'ImmutableFieldChanged', message));
  }
  if (observed.finalizers && !hasFinalizer) return act({ kind: 'addFinalizer' });
  if (change !== undefined) {
    return act({ kind: 'update', change, why: whyUpdated(observed) });
  }
  const ready: NewCondition =
    gate.kind === 'closed'
      ? condition('Ready', 'False', gate.reason, gate.message)
      : condition('Ready', 'True', 'Reconciled', '');
  return { ...idle([ready, condition('Synced', 'True', 'Reconciled', '')]), inSync: true };
}

function whyUpdated<Create, Change>({
  applied,
  desired,
  claim,
}: DefinitionObserved<Create, Change>): 'Updated' | 'DriftRepaired' | 'Adopted' {
  if (applied === undefined || claim.kind === 'free') return 'Adopted';
  return applied.hash === desired?.hash ? 'DriftRepaired' : 'Updated';
}

function planDeletion<Create, Change>(observed: DefinitionObserved<Create, Change>): Plan<Create, Change> {
  const { metadata, spec, connection, found, claim, applied, backlog } = observed;
  if (!(metadata.finalizers ?? []).includes(FINALIZER)) return idle([]);
  if (!observed.finalizers || spec.deletionPolicy === 'Retain' || spec.managementPolicy === 'ObserveOnly') {
    return act({ kind: 'removeFinalizer' });
  }
  if (connection.kind === 'missing') {
    return act({ kind: 'removeFinalizer', left: `the connection ${connection.name} is gone` });
  }
  if (observed.paused)
    return blocked(observed, 'Paused', 'it is paused, and deletionPolicy asks for the broker');
  if (connection.kind === 'pending' || (connection.kind === 'ready' && !observed.asked))
    return blocked(observed, 'Deleting', 'the broker has not been asked yet');
  if (connection.kind === 'unusable') return blocked(observed, connection.reason, connection.message);
  if (found === undefined || claim.kind === 'theirs') return act({ kind: 'removeFinalizer' });
  // Without a mark the object is ours only if it is the very one that we have made.
  if (claim.kind === 'free' && applied?.incarnation !== found.incarnation) {
    return act({ kind: 'removeFinalizer', left: 'what the broker has now was not made for this resource' });
  }
  if (spec.deletionPolicy === 'DeleteIfEmpty' && backlog !== 0) {
    const what =
      backlog === undefined ? 'the backlog is not known' : `${backlog} messages are not acknowledged`;
    return blocked(
      observed,
      'DeletionBlocked',
      `${what}, and deletionPolicy is DeleteIfEmpty: wait for the consumers, or set deletionPolicy to Retain or Delete`,
    );
  }
  return act({ kind: 'delete' });
}

/** A deletion that has to wait; in a namespace that is being deleted, for finalizerTimeoutMs at most. */
function blocked<Create, Change>(
  { metadata, namespaceEnds, finalizerTimeoutMs, nowMs }: DefinitionObserved<Create, Change>,
  reason: Reason,
  message: string,
): Plan<Create, Change> {
  const leftMs = Date.parse(metadata.deletionTimestamp ?? '') + finalizerTimeoutMs - nowMs;
  if (namespaceEnds && leftMs <= 0) return act({ kind: 'removeFinalizer', left: message });
  const hint = namespaceEnds
    ? `; after ${Math.ceil(leftMs / 1000)} s more it is left to itself in the broker, since the namespace is being deleted`
    : '; to give it up, remove the finalizer (operator/DESIGN.md, Deletion)';
  const ready = condition('Ready', 'False', 'Deleting', `it is being deleted, and waits: ${message}`);
  const waitMs = namespaceEnds ? Math.min(BLOCKED_AGAIN_MS, leftMs) : BLOCKED_AGAIN_MS;
  return {
    ...idle([ready, condition('Synced', 'False', reason, message + (namespaceEnds ? '' : hint))]),
    lookAgainMs: Math.max(1_000, waitMs),
  };
}

/** A call to the broker that failed, as conditions. */
export interface Failure {
  readonly conditions: readonly NewCondition[];
  /** False: only a change can help; the next full look tries again anyhow. */
  readonly retry: boolean;
}

export function planFailure(code: string, message: string): Failure {
  const [status, reason, retry] = failureKind(code);
  return { conditions: both(status, reason, message), retry };
}

function failureKind(code: string): [Condition['status'], Reason, boolean] {
  switch (code) {
    case 'INVALID_ARGUMENT':
      return ['False', 'InvalidSpec', false];
    case 'FAILED_PRECONDITION':
    case 'OUT_OF_RANGE':
    case 'UNIMPLEMENTED':
      return ['False', 'BrokerRefused', false];
    case 'RESOURCE_EXHAUSTED':
      return ['False', 'BrokerRefused', true];
    case 'PERMISSION_DENIED':
      return ['False', 'PermissionDenied', false];
    case 'UNAUTHENTICATED':
      return ['False', 'CertificateInvalid', true];
    case 'NOT_FOUND':
      return ['False', 'TopicNotFound', true];
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
    case 'CANCELLED':
      return ['Unknown', 'BrokerUnreachable', true];
    case 'ABORTED':
    case 'ALREADY_EXISTS':
      return ['False', 'Progressing', true];
    default:
      return ['False', 'InternalError', true];
  }
}

/**
 * 64 bits of FNV-1a over JSON whose keys are sorted: it shows whether settings are those of before, and is no
 * secret.
 */
export function settingsHash(settings: object): string {
  const text = JSON.stringify(settings, (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
  let hash = 0xcbf29ce484222325n;
  for (let at = 0; at < text.length; at += 1) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(at))) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

export function sameLabels(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function both(status: Condition['status'], reason: Reason, message: string): readonly NewCondition[] {
  return [condition('Ready', status, reason, message), condition('Synced', status, reason, message)];
}

function condition(
  type: NewCondition['type'],
  status: Condition['status'],
  reason: Reason,
  message: string,
): NewCondition {
  return { type, status, reason, message };
}

function idle<Create, Change>(conditions: readonly NewCondition[]): Plan<Create, Change> {
  return { action: undefined, conditions, paused: false, inSync: false };
}

function act<Create, Change>(action: Action<Create, Change>): Plan<Create, Change> {
  return { action, conditions: [], paused: false, inSync: false };
}
