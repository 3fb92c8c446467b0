// The ritual that Topic and Subscription share: from what was observed of one resource and of its object in the broker to the
// next steps and the conditions. plan-topic.ts and plan-subscription.ts say what differs; controllers/definition.ts observes,
// carries out and observes again until nothing is left to do. Pure.
//
// Invariants: the finalizer is there before the broker is written to; nothing is deleted in the broker but for a resource that is
// being deleted, whose object it is; a finalizer never stays in a namespace that is being deleted for longer than its time.
import type { Condition } from '../api/v1alpha1/conditions.ts';
import { FINALIZER, type Metadata } from '../api/v1alpha1/group.ts';
import type { Reason } from '../api/v1alpha1/reasons.ts';
import type { NewCondition } from './conditions.ts';
import type { Claim } from './plan-owner.ts';

export type ConnectionObserved =
  | { readonly kind: 'ready'; readonly project: string }
  /** Not looked at yet: its controller will call again. */
  | { readonly kind: 'pending' }
  | { readonly kind: 'missing'; readonly name: string }
  | { readonly kind: 'unusable'; readonly reason: Reason; readonly message: string };

/** What else must be before it can be made: a Subscription's topic. */
export type Gate =
  | { readonly kind: 'open' }
  /** Its controller is about to say: it will call again. */
  | { readonly kind: 'waiting' }
  | { readonly kind: 'closed'; readonly reason: Reason; readonly message: string };

/** An object of the broker beside what it should be. */
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
  /** Undefined while the gate does not let it be known. */
  readonly desired: { readonly create: Create; readonly hash: string } | undefined;
  /** Undefined: the broker has none, if it was asked. */
  readonly found: { readonly incarnation: string; readonly comparison: Comparison<Change> } | undefined;
  readonly claim: Claim;
  readonly applied: { readonly hash: string; readonly incarnation?: string | undefined } | undefined;
  /** Messages that deleting would lose; undefined: not known. Looked at for DeleteIfEmpty. */
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
  /** `again`: it was there before, and somebody deleted it. */
  | { readonly kind: 'create'; readonly settings: Create; readonly again: boolean }
  | {
      readonly kind: 'update';
      readonly change: Change;
      readonly why: 'Updated' | 'DriftRepaired' | 'Adopted';
    }
  | { readonly kind: 'delete' };

export interface Plan<Create, Change> {
  /** To be done next; then observe again. Undefined: it is as it should be, or can't be. */
  readonly action: Action<Create, Change> | undefined;
  /** Of a plan without action. Types that are not named stay as they are. */
  readonly conditions: readonly NewCondition[];
  readonly paused: boolean;
  /** The broker has what is desired: its hash goes into status.applied. */
  readonly inSync: boolean;
  /** Nobody calls when this changes: look again. */
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
  // A flag for clusters in which nothing may ever wait: what is there from before is taken away.
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
  // Without a mark it is ours only if it is the very one that we have made.
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

/** What keeps it from being deleted; in a namespace that is being deleted only for so long. */
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

/** "BrokerRefused" and the like, from the code and words of a call that failed. Undefined: a bug, or nothing that lasts. */
export interface Failure {
  readonly conditions: readonly NewCondition[];
  /** Undefined: only a change can help; the next full look tries again anyhow. */
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

/** 64 bits of FNV-1a over JSON whose keys are sorted: to see whether settings are those of before, not for secrets. */
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
