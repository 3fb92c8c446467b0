// What a chaos run has found, why that is bad, and the words for it.

const MAX_EXAMPLES = 20;

/** One kind of what went wrong: how often, and the first cases in words. */
export interface Finding {
  count: number;
  readonly examples: string[];
}

export type Stalls = Map<string, { publish: Stall; delivery: Stall }>;

export interface Stall {
  readonly ms: number;
  readonly what: string;
}

export interface Verdict {
  readonly lost: Finding;
  readonly misordered: Finding;
  readonly strangers: Finding;
  readonly doubleIds: Finding;
  readonly late: Finding;
  readonly undefined: Finding;
  readonly unexplained: Finding;
  readonly wrong: Finding;
  readonly published: number;
  readonly unanswered: number;
  /** First handlings, over all subscriptions. */
  readonly handled: number;
  /** Messages stored more than once, because their publisher had to send them again. */
  readonly storedAgain: number;
  readonly redelivered: Redelivered;
  /** How often a client heard an error, by call and code. */
  readonly errors: ReadonlyMap<string, number>;
  /**
   * The longest by kind of fault, from the fault's beginning to the next one's: until a publish was answered,
   * and from there until it was handled.
   */
  readonly stalls: Stalls;
}

export interface Redelivered {
  all: number;
  /** Redelivered after an acknowledgement on a stream. */
  afterTold: number;
  /** Redelivered after a confirmed acknowledgement. */
  afterConfirmed: number;
  /** The longest time from the confirmation to a redelivery. */
  longestMs: number;
  /** Redeliveries that were said to be first deliveries. */
  saidFirst: number;
  /** Counts by the latest fault: all, those after a confirmed acknowledgement, and those said to be first. */
  readonly byFault: Map<string, { all: number; afterConfirmed: number; saidFirst: number }>;
}

const BAD = [
  ['lost', 'acknowledged and not delivered'],
  ['misordered', 'out of order in their key'],
  ['strangers', 'delivered and not published there'],
  ['doubleIds', 'message ids given twice'],
  ['late', 'delivered again long after a confirmed acknowledgement'],
  ['undefined', 'topics and subscriptions that are not as they were defined'],
  ['unexplained', 'errors that no fault explains'],
  ['wrong', 'other'],
] as const satisfies readonly (readonly [keyof Verdict, string])[];

export function finding(): Finding {
  return { count: 0, examples: [] };
}

export function add(to: Finding, example: string): void {
  to.count += 1;
  if (to.examples.length < MAX_EXAMPLES) to.examples.push(example);
}

/** Why the verdict is bad; empty if it is good. */
export function reasonsOf(verdict: Verdict): string[] {
  const reasons = BAD.filter(([field]) => verdict[field].count > 0).flatMap(([field, words]) => [
    `${verdict[field].count} ${words}:`,
    ...verdict[field].examples.map((example) => `  ${example}`),
  ]);
  if (verdict.published === 0 || verdict.handled === 0) reasons.push('nothing was published and delivered');
  return reasons;
}

export function describe(verdict: Verdict): string {
  const { published, unanswered, handled, storedAgain, redelivered, errors, stalls } = verdict;
  const lines = [
    `published ${published} (and ${unanswered} without an answer, ${storedAgain} stored more than once), delivered ${handled}`,
    `lost ${verdict.lost.count}, misordered ${verdict.misordered.count}`,
    `redelivered ${redelivered.all}: ${redelivered.afterTold} after an acknowledgement on a stream, ${redelivered.afterConfirmed} after a ` +
      `confirmed one (at most ${Math.round(redelivered.longestMs)} ms after it); ${redelivered.saidFirst} said to be first deliveries`,
    ...[...redelivered.byFault].map(
      ([kind, { all, afterConfirmed, saidFirst }]) =>
        `  ${kind.padEnd(16)} ${all}, ${afterConfirmed} after a confirmed acknowledgement, ${saidFirst} said to be first deliveries`,
    ),
    `errors of clients: ${[...errors].map(([kind, count]) => `${kind} ${count}`).join(', ') || 'none'}`,
    'longest until a publish was answered, and from then until it was delivered, from a fault to the next one:',
    ...[...stalls].map(
      ([kind, { publish, delivery }]) =>
        `  ${kind.padEnd(16)} ${seconds(publish.ms)} (${publish.what}), ${seconds(delivery.ms)} (${delivery.what})`,
    ),
  ];
  return lines.join('\n');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
