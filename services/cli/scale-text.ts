// Why a Subscription's consumers are as many as they are, as text. Pure; the words are the operator's
// (operator/core/autoscale/explain.ts), and are only put into order here.
import { type Columns, formatTable } from './output.ts';
import { formatCount, formatDuration } from './units.ts';

/**
 * The part of the resource that is read. Any of it may be missing: an older operator says less, a newer more.
 */
export interface ScaledSubscription {
  readonly metadata: { readonly name: string; readonly namespace?: string | undefined };
  readonly spec?: { readonly paused?: boolean | undefined; readonly consumers?: ConsumersSpec | undefined };
  readonly status?:
    | {
        readonly conditions?: readonly Condition[] | undefined;
        readonly autoscaling?: Autoscaling | undefined;
      }
    | undefined;
}

interface ConsumersSpec {
  readonly strategy?: string | undefined;
  readonly minReplicas?: number | undefined;
  readonly maxReplicas?: number | undefined;
  readonly dryRun?: boolean | undefined;
  readonly scaleTargetRef?: { readonly kind?: string | undefined; readonly name: string } | undefined;
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
}

interface Autoscaling {
  readonly desired?: number | undefined;
  readonly recommended?: number | undefined;
  readonly current?: number | undefined;
  readonly need?: number | undefined;
  readonly reason?: string | undefined;
  readonly limitedBy?: string | undefined;
  readonly since?: string | undefined;
  readonly lastScaleTime?: string | undefined;
  readonly draining?: number | undefined;
  readonly inputs?: Inputs | undefined;
  readonly opinions?: readonly Opinion[] | undefined;
  readonly learned?: Learned | undefined;
}

interface Inputs {
  readonly backlog?: number | undefined;
  readonly outstanding?: number | undefined;
  readonly blocked?: number | undefined;
  readonly oldestUnackedAgeSeconds?: number | undefined;
  readonly arrivalRate?: number | undefined;
  readonly slowArrivalRate?: number | undefined;
  readonly ackRate?: number | undefined;
  readonly consumers?: number | undefined;
  readonly replicas?: number | undefined;
  readonly readyReplicas?: number | undefined;
  readonly partitions?: number | undefined;
  readonly measureTime?: string | undefined;
}

interface Opinion {
  readonly rule: string;
  readonly replicas?: number | undefined;
  readonly says: string;
}

interface Learned {
  readonly ratePerReplica?: number | undefined;
  readonly bestRatePerReplica?: number | undefined;
  readonly outstandingPerConsumer?: number | undefined;
  readonly startupSeconds?: number | undefined;
}

const OPINIONS: Columns<Opinion> = {
  rule: ({ rule }) => rule,
  replicas: ({ replicas }) => replicas ?? '-',
  says: ({ says }) => says,
};

/** Why nothing was decided yet; undefined: something was. */
export function whyUndecided({ metadata, spec, status }: ScaledSubscription): string | undefined {
  const { name } = metadata;
  if (spec?.consumers === undefined)
    return `${name} has no spec.consumers: nothing scales its consumers. Name a target there`;
  if (status?.autoscaling?.desired !== undefined) return undefined;
  if (status?.conditions === undefined)
    return `no operator has looked at ${name} yet: is one running, and does it watch this namespace?`;
  const scaling = status.conditions.find(({ type }) => type === 'Scaling');
  if (scaling !== undefined) return `nothing was decided for ${name} yet: ${sentence(scaling)}`;
  const problem = status.conditions.find(({ status: is, type }) => is !== 'True' && type !== 'Degraded');
  return `nothing was decided for ${name} yet${problem === undefined ? '' : `: ${sentence(problem)}`}`;
}

/** The text, without a newline at its end. `nowMs` is for ages. */
export function explainScale(resource: ScaledSubscription, nowMs: number): string {
  const { metadata, spec, status } = resource;
  const scaling = status?.autoscaling ?? {};
  const conditions = status?.conditions ?? [];
  const title = metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
  return [
    `${title}: ${result(scaling, nowMs)}`,
    pairs({
      because: because(scaling),
      target: targetOf(spec?.consumers),
      draining: scaling.draining
        ? `${plural(scaling.draining, 'replica')}: they get no new work and go when they are done`
        : '',
      'last change': scaling.lastScaleTime === undefined ? '' : ago(scaling.lastScaleTime, nowMs),
      ...Object.fromEntries(
        conditions.filter(isWorthTelling).map((condition) => [condition.type, told(condition, nowMs)]),
      ),
    }),
    '',
    ...inputLines(scaling.inputs, nowMs),
    '',
    'Rules:',
    indented(formatTable(scaling.opinions ?? [], OPINIONS)),
    ...(scaling.learned === undefined ? [] : ['', 'Learned:', pairs(learnedOf(scaling.learned))]),
  ].join('\n');
}

function result({ desired, current, recommended, since }: Autoscaling, nowMs: number): string {
  const set = current === undefined || current === desired ? '' : `, ${current} set`;
  const without = recommended === undefined || recommended === desired ? '' : ` (${recommended} recommended)`;
  const when = since === undefined ? '' : `, ${sinceWhen(since, nowMs)}`;
  return `${plural(desired ?? 0, 'replica')} desired${without}${set}${when}`;
}

function because({ reason = '-', limitedBy, need }: Autoscaling): string {
  const limits = limitedBy === undefined ? '' : `, limited by ${limitedBy}`;
  const asks = need === undefined ? '' : `; the load asks for ${number(need)}`;
  return `${reason}${limits}${asks}`;
}

function targetOf(consumers: ConsumersSpec | undefined): string {
  const { scaleTargetRef, strategy, minReplicas, maxReplicas, dryRun } = consumers ?? {};
  const name = scaleTargetRef && `${scaleTargetRef.kind ?? 'Deployment'} ${scaleTargetRef.name}`;
  const bounds = maxReplicas === undefined ? '' : `${minReplicas ?? 0} to ${maxReplicas} replicas`;
  return [name, bounds, strategy && `strategy ${strategy}`, dryRun ? 'dryRun' : '']
    .filter((part) => part)
    .join(', ');
}

function inputLines(inputs: Inputs | undefined, nowMs: number): string[] {
  if (inputs === undefined) return ['Inputs: none'];
  const when = inputs.measureTime === undefined ? '' : `, measured ${ago(inputs.measureTime, nowMs)}`;
  return [`Inputs${when}:`, pairs(inputsOf(inputs))];
}

function inputsOf(inputs: Inputs): Record<string, string> {
  const { backlog, outstanding, blocked, oldestUnackedAgeSeconds, arrivalRate, slowArrivalRate } = inputs;
  const parts = [
    outstanding === undefined ? '' : `${formatCount(outstanding)} outstanding`,
    blocked ? `${formatCount(blocked)} blocked` : '',
  ].filter((part) => part !== '');
  const of = parts.length === 0 ? '' : `, of which ${parts.join(' and ')}`;
  return {
    backlog: backlog === undefined ? 'not known' : `${plural(backlog, 'message')}${of}`,
    'oldest unacked':
      oldestUnackedAgeSeconds === undefined ? '-' : formatDuration(oldestUnackedAgeSeconds * 1_000),
    published: rates({ 'over 15 s': arrivalRate, 'over 2 min': slowArrivalRate }),
    acknowledged: rates({ '': inputs.ackRate }),
    consumers: inputs.consumers === undefined ? 'not known' : `${formatCount(inputs.consumers)} open`,
    replicas: `${inputs.replicas ?? '?'} set, ${inputs.readyReplicas ?? '?'} ready`,
    partitions: inputs.partitions === undefined ? 'not known' : String(inputs.partitions),
  };
}

function learnedOf(learned: Learned): Record<string, string> {
  const { ratePerReplica, bestRatePerReplica, outstandingPerConsumer, startupSeconds } = learned;
  const best = bestRatePerReplica === undefined ? '' : `, ${number(bestRatePerReplica)}/s at best`;
  return {
    'a replica does': ratePerReplica === undefined ? '' : `${number(ratePerReplica)}/s${best}`,
    'a consumer holds': outstandingPerConsumer === undefined ? '' : plural(outstandingPerConsumer, 'message'),
    'a pod starts in': startupSeconds === undefined ? '' : formatDuration(startupSeconds * 1_000),
  };
}

function rates(values: Readonly<Record<string, number | undefined>>): string {
  const known = Object.entries(values).filter(([, rate]) => rate !== undefined);
  return known.map(([over, rate]) => `${number(rate!)}/s${over && ` ${over}`}`).join(', ') || 'not known';
}

/** Whether a condition is shown: Scaling always, Paused and Degraded when true, all others when not true. */
function isWorthTelling({ type, status }: Condition): boolean {
  if (type === 'Scaling') return true;
  return type === 'Paused' || type === 'Degraded' ? status === 'True' : status !== 'True';
}

function told(condition: Condition, nowMs: number): string {
  return `${condition.status}, ${sentence(condition)}, ${sinceWhen(condition.lastTransitionTime, nowMs)}`;
}

function sentence({ reason, message }: Condition): string {
  return message === '' ? reason : `${reason}: ${message}`;
}

/** A line for each name and value; empty values are left out. */
function pairs(values: Readonly<Record<string, string>>): string {
  const lines = Object.entries(values).filter(([, value]) => value !== '');
  const width = Math.max(...lines.map(([name]) => name.length)) + 2;
  return lines.map(([name, value]) => `  ${`${name}:`.padEnd(width)}${value}`).join('\n');
}

function indented(text: string): string {
  return text.replace(/^/gm, '  ');
}

function sinceWhen(time: string, nowMs: number): string {
  const forMs = nowMs - Date.parse(time);
  return forMs >= 1_000 ? `since ${time} (${formatDuration(forMs)})` : `since ${time}`;
}

function ago(time: string, nowMs: number): string {
  const atMs = Date.parse(time);
  if (Number.isNaN(atMs)) return time;
  // Two clocks are compared: that of the operator's machine and that of this one.
  return atMs >= nowMs - 1_000 ? 'just now' : `${formatDuration(nowMs - atMs)} ago`;
}

function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

function number(value: number): string {
  return value >= 100 || Number.isInteger(value) ? formatCount(value) : value.toFixed(1);
}
