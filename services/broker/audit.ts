// The audit: who has changed what, and who was refused. Invariant: every change that was made has a line of
// its own, with room of its own (line-writer.ts); refusals, which anybody can cause, have a few lines for
// each principal and then a sum. A line is short, whatever the caller sent.
import { auditText, unquoted } from './core/audit-text.ts';
import { RefusalBudget } from './core/refusal-budget.ts';
import {
  MAX_AUDIT_TEXT_BYTES,
  MAX_REFUSED_PRINCIPALS,
  REFUSAL_BURST,
  REFUSAL_INTERVAL_MS,
  REFUSAL_SUM_MS,
} from './limits.ts';
import type { Clock } from './ports/clock.ts';

/** What a caller wanted, and what became of it. */
export interface AuditEntry {
  readonly principal: string;
  readonly verb: string;
  readonly resource?: string;
  /** OK, or the code of the refusal. */
  readonly result: string;
  /** What the caller was told. */
  readonly message?: string;
  readonly address?: string;
}

/** Writes a line. `kept`: not to be dropped before others. */
export type WriteAudit = (fields: object, kept: boolean) => void;

export class Audit {
  readonly #clock: Clock;
  readonly #write: WriteAudit;
  readonly #budget = new RefusalBudget({
    burst: REFUSAL_BURST,
    intervalMs: REFUSAL_INTERVAL_MS,
    maxPrincipals: MAX_REFUSED_PRINCIPALS,
  });
  #cancelTimer: (() => void) | undefined;
  #sumSinceMs = 0;
  #summed = 0;

  constructor(clock: Clock, write: WriteAudit) {
    this.#clock = clock;
    this.#write = write;
  }

  /** Refusals that have no line of their own. */
  get summed(): number {
    return this.#summed;
  }

  record(entry: AuditEntry): void {
    if (entry.result === 'OK') {
      this.#write(fieldsOf(entry), true);
      return;
    }
    if (this.#budget.mayTell(entry.principal, this.#clock.monotonicMs())) this.#write(fieldsOf(entry), false);
    else this.#summed += 1;
    if (this.#cancelTimer === undefined) this.#startTimer();
  }

  /** Writes the sums that are left. */
  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#writeSums();
  }

  /** It runs while somebody is remembered. */
  #startTimer(): void {
    this.#sumSinceMs = this.#clock.monotonicMs();
    this.#cancelTimer = this.#clock.setTimer(REFUSAL_SUM_MS, () => {
      this.#cancelTimer = undefined;
      this.#writeSums();
      if (this.#budget.size > 0) this.#startTimer();
    });
  }

  #writeSums(): void {
    const nowMs = this.#clock.monotonicMs();
    const seconds = Math.ceil((nowMs - this.#sumSinceMs) / 1000);
    for (const { principal, refusals } of this.#budget.takeSums(nowMs)) {
      const who = principal === undefined ? 'other principals' : short(principal);
      const message = `… and ${refusals.toLocaleString('en-US')} more of ${who} in the last ${seconds} s`;
      this.#write({ principal: who, result: 'REFUSED', refusals, message }, false);
    }
  }
}

function fieldsOf({ principal, verb, resource, result, message, address }: AuditEntry): object {
  return {
    principal: short(principal),
    ...(address !== undefined && { address }),
    verb,
    ...(resource !== undefined && { resource: short(resource) }),
    result,
    ...(message !== undefined && { message: short(unquoted(message)) }),
  };
}

function short(text: string): string {
  return auditText(text, MAX_AUDIT_TEXT_BYTES);
}
