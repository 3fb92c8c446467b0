// How many refused changes of each principal are told one by one: a token bucket for each. The others are
// counted, so that a sum can be told. Invariant: a refusal is either told or in exactly one sum, and no more
// than `maxPrincipals` are remembered; what comes beyond shares one bucket.
export interface RefusalBudgetOptions {
  /** Told at once. */
  readonly burst: number;
  /** How often one more is. */
  readonly intervalMs: number;
  readonly maxPrincipals: number;
}

export interface RefusalSum {
  /** Undefined: principals that there was no room to tell apart. */
  readonly principal: string | undefined;
  readonly refusals: number;
}

interface Bucket {
  tokens: number;
  filledMs: number;
  untold: number;
}

export class RefusalBudget {
  readonly #options: RefusalBudgetOptions;
  /** The key undefined is everybody else. */
  readonly #buckets = new Map<string | undefined, Bucket>();

  constructor(options: RefusalBudgetOptions) {
    this.#options = options;
  }

  /** How many principals are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Whether the refusal may be told; otherwise it is counted. */
  mayTell(principal: string, nowMs: number): boolean {
    const bucket = this.#bucketOf(principal, nowMs);
    this.#fill(bucket, nowMs);
    if (bucket.tokens < 1) {
      bucket.untold += 1;
      return false;
    }
    bucket.tokens -= 1;
    return true;
  }

  /** What was counted since the last call. Whoever has not been refused for a while is forgotten. */
  takeSums(nowMs: number): RefusalSum[] {
    const sums: RefusalSum[] = [];
    for (const [principal, bucket] of this.#buckets) {
      this.#fill(bucket, nowMs);
      if (bucket.untold > 0) sums.push({ principal, refusals: bucket.untold });
      else if (bucket.tokens === this.#options.burst) this.#buckets.delete(principal);
      bucket.untold = 0;
    }
    return sums;
  }

  #bucketOf(principal: string, nowMs: number): Bucket {
    const hasRoom = this.#buckets.size < this.#options.maxPrincipals;
    const key = hasRoom || this.#buckets.has(principal) ? principal : undefined;
    const known = this.#buckets.get(key);
    if (known !== undefined) return known;
    const bucket = { tokens: this.#options.burst, filledMs: nowMs, untold: 0 };
    this.#buckets.set(key, bucket);
    return bucket;
  }

  #fill(bucket: Bucket, nowMs: number): void {
    const { burst, intervalMs } = this.#options;
    bucket.tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.filledMs) / intervalMs);
    bucket.filledMs = nowMs;
  }
}
