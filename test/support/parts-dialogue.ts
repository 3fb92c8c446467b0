// Runs core/consumer-parts.ts and core/consumer-part.ts and writes down what is said: > is an event, < an
// effect, = the state when it has changed. A changed behaviour reads as a changed dialogue.
import { ConsumerPart, type PartEffect, type PartEvent } from '../../services/broker/core/consumer-part.ts';
import {
  type ConsumerEffect,
  type ConsumerEvent,
  ConsumerParts,
} from '../../services/broker/core/consumer-parts.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';

/** A consumer at x with room for 8 messages of 100 bytes. */
export class PartsDialogue {
  readonly #lines: string[];
  readonly #parts = new ConsumerParts({
    here: 'x',
    limits: { maxOutstandingMessages: 8, maxOutstandingBytes: 800, ackDeadlineMs: 10_000 },
    draining: false,
    logEpoch: 1,
    turn: 0,
  });
  /** Who can be told of a partition. */
  #tellable: Readonly<Record<number, string>> = {};
  #queued = 0;
  #shown = '';

  constructor(title: string) {
    this.#lines = [title, ''];
    this.#showState();
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  /** What is so from now on. */
  now(said: string, tellable: Readonly<Record<number, string>>, queued = 0): this {
    this.#tellable = tellable;
    this.#queued = queued;
    this.#lines.push(`  (${said})`);
    return this;
  }

  on(event: ConsumerEvent): this {
    this.#lines.push(`> ${told(event)}`);
    const facts = {
      nowMs: 0,
      tellable: (partition: number) => this.#tellable[partition],
      queued: this.#queued,
    };
    for (const effect of this.#parts.step(event, facts)) this.#lines.push(`  < ${told(effect)}`);
    this.#showState();
    return this;
  }

  /** The routes, and what follows at once. */
  routed(...owners: string[]): this {
    return this.on({ kind: 'routed', owners, partitions: 2 }).on({ kind: 'placed' });
  }

  credited(part: string, sequence: number, outstandingMessages = 0): this {
    return this.on({ kind: 'credited', part, sequence, outstandingMessages });
  }

  #showState(): void {
    const shown = this.#parts.phase;
    if (shown !== this.#shown) this.#lines.push(`  = ${shown}`);
    this.#shown = shown;
  }
}

export class PartDialogue {
  readonly #lines: string[];
  readonly #part = new ConsumerPart();
  #shown = '';

  constructor(title: string) {
    this.#lines = [title, ''];
    this.#showState();
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  on(event: PartEvent): this {
    this.#lines.push(`> ${told(event)}`);
    for (const effect of this.#part.step(event)) this.#lines.push(`  < ${told(effect)}`);
    this.#showState();
    return this;
  }

  delivered(bytes: number): this {
    this.#part.delivered();
    const taken = this.#part.took(bytes);
    this.#lines.push(`> delivered, and taken by the stream: ${bytes} bytes`);
    if (taken > 0) this.#lines.push(`  < taken: ${taken} bytes in all`);
    return this;
  }

  #showState(): void {
    const shown = this.#part.state.kind;
    if (shown !== this.#shown) this.#lines.push(`  = ${shown}`);
    this.#shown = shown;
  }
}

function told({ kind, ...details }: ConsumerEvent | ConsumerEffect | PartEvent | PartEffect): string {
  const said = Object.entries(details)
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name, value]) => word(name, value));
  return said.length === 0 ? kind : `${kind}: ${said.join(', ')}`;
}

function word(name: string, value: unknown): string {
  if (name === 'part' || name === 'leases' || name === 'code') return String(value);
  if (name === 'operations' || name === 'acks')
    return (value as readonly SettleOperation[]).map(operation).join(', ');
  if (name === 'limits') {
    const {
      maxOutstandingMessages: messages,
      maxOutstandingBytes: bytes,
      ...rest
    } = value as Record<string, unknown>;
    return `${messages} messages, ${bytes} bytes${rest.draining === true ? ', draining' : ''}`;
  }
  if (value === true) return name;
  return `${name} ${String(value)}`;
}

function operation({ kind, partition, first, last }: SettleOperation): string {
  return `${kind} ${partition}/${first === last ? first : `${first}..${last}`}`;
}
