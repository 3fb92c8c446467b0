// What was written to consumers' streams and not taken by their transports, over the whole broker. Invariant:
// together no more than the budget may begin to wait, whatever clients do not read; and who reads has a share
// of it that nobody else's slowness takes: principals share it alike, and streams what their principal has.
export interface OutboxLimits {
  /** Of all streams together. */
  readonly outboxesBytes: number;
  /** Of one stream, where there is room. */
  readonly outboxBytes: number;
  /** What a stream always may have. */
  readonly minOutboxBytes: number;
}

/** The outboxes of one principal's streams. */
interface Owner {
  readonly principal: string;
  /** Streams of which something waits. */
  busy: number;
}

export class Outboxes {
  readonly #limits: OutboxLimits;
  /** Those of whom something waits. */
  readonly #owners = new Map<string, Owner>();

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  open(principal: string): Outbox {
    return new Outbox(this, principal);
  }

  // --- for Outbox ---

  begins(principal: string): Owner {
    let owner = this.#owners.get(principal);
    if (owner === undefined) {
      owner = { principal, busy: 0 };
      this.#owners.set(principal, owner);
    }
    owner.busy += 1;
    return owner;
  }

  ends(owner: Owner): void {
    owner.busy -= 1;
    if (owner.busy === 0) this.#owners.delete(owner.principal);
  }

  allowance(owner: Owner | undefined): number {
    const { outboxesBytes, outboxBytes, minOutboxBytes } = this.#limits;
    if (owner === undefined) return outboxBytes;
    const share = outboxesBytes / this.#owners.size / owner.busy;
    return Math.min(outboxBytes, Math.max(minOutboxBytes, share));
  }
}

/** Of one stream. */
export class Outbox {
  readonly #all: Outboxes;
  readonly #principal: string;
  #owner: Owner | undefined;
  #bytes = 0;
  #closed = false;

  constructor(all: Outboxes, principal: string) {
    this.#all = all;
    this.#principal = principal;
  }

  /** Whether more may begin to wait. */
  get hasRoom(): boolean {
    return this.#bytes < this.#all.allowance(this.#owner);
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (!this.#closed) this.#owner ??= this.#all.begins(this.#principal);
  }

  take(bytes: number): void {
    this.#bytes -= bytes;
    if (this.#bytes === 0) this.#empty();
  }

  /** The stream is gone, and with it what waits. */
  close(): void {
    this.#closed = true;
    this.#empty();
  }

  #empty(): void {
    if (this.#owner !== undefined) this.#all.ends(this.#owner);
    this.#owner = undefined;
  }
}
