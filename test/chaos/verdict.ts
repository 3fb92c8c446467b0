// What a chaos run has found, why it is bad, and how it is said.

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
  /** For the first time, over all subscriptions. */
  readonly handled: number;
  /** Of one message that was stored twice, because its publisher had to send it again. */
  readonly storedAgain: number;
  readonly redelivered: Redelivered;
  /** By call and code. */
  readonly errors: ReadonlyMap<string, number>;
  /** The longest by kind of fault, from the fault's begin to the next one's: until a publish was answered, until it was handled. */
  readonly stalls: Stalls;
}

export interface Redelivered {
  all: number;
  /** After an acknowledgement on a stream. */
  afterTold: number;
  /** After one that was confirmed. */
  afterConfirmed: number;
  /** That much after it was confirmed, at most. */
  longestMs: number;
  /** Said to be a first delivery. */
  saidFirst: number;
  /** All, those after a confirmed acknowledgement, and those said to be first, by the latest fault. */
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

/** None: the verdict is good. */
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
