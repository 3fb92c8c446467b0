// Runs the two ends of a link (core/consumer-parts.ts and core/consumer-part.ts for the relay,
// core/owner-end.ts for the owner) and writes down what is said: > is an event, < an effect, = the state when
// it has changed. A changed behaviour reads as a changed dialogue.
import { ConsumerPart, type PartEffect, type PartEvent } from '../../services/broker/core/consumer-part.ts';
import {
  type ConsumerEffect,
  type ConsumerEvent,
  ConsumerParts,
} from '../../services/broker/core/consumer-parts.ts';
import {
  type KnownSubscription,
  type OwnerEffect,
  OwnerEnd,
  type OwnerEvent,
} from '../../services/broker/core/owner-end.ts';
import { formatPartitionId, type PartitionId } from '../../services/broker/core/partition.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import { Transcript } from './transcript.ts';

/** A consumer at x with room for 8 messages of 100 bytes. */
export class PartsDialogue extends Transcript {
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

  constructor(title: string) {
    super(title);
    this.#showState();
  }

  /** What is so from now on. */
  now(said: string, tellable: Readonly<Record<number, string>>, queued = 0): this {
    this.#tellable = tellable;
    this.#queued = queued;
    this.write(`  (${said})`);
    return this;
  }

  on(event: ConsumerEvent): this {
    this.write(`> ${told(event)}`);
    const facts = {
      nowMs: 0,
      tellable: (partition: number) => this.#tellable[partition],
      queued: this.#queued,
    };
    for (const effect of this.#parts.step(event, facts)) this.write(`  < ${told(effect)}`);
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
    this.showState(this.#parts.phase);
  }
}

export class PartDialogue extends Transcript {
  readonly #part = new ConsumerPart();

  constructor(title: string) {
    super(title);
    this.#showState();
  }

  on(event: PartEvent): this {
    this.write(`> ${told(event)}`);
    for (const effect of this.#part.step(event)) this.write(`  < ${told(effect)}`);
    this.#showState();
    return this;
  }

  delivered(bytes: number): this {
    this.#part.delivered();
    const taken = this.#part.took(bytes);
    this.write(`> delivered, and taken by the stream: ${bytes} bytes`);
    if (taken > 0) this.write(`  < taken: ${taken} bytes in all`);
    return this;
  }

  #showState(): void {
    this.showState(this.#part.state.kind);
  }
}

/** At a broker where a subscription may have 2 consumers. */
export class OwnerDialogue extends Transcript {
  readonly #end = new OwnerEnd(2);

  on(...events: readonly OwnerEvent[]): this {
    for (const event of events) {
      this.write(`> ${told(event)}`);
      for (const effect of this.#end.step(event)) this.write(`  < ${told(effect)}`);
    }
    return this;
  }
}

type Said = ConsumerEvent | ConsumerEffect | PartEvent | PartEffect | OwnerEvent | OwnerEffect;

function told({ kind, ...details }: Said): string {
  const said = Object.entries(details)
    .filter(([, value]) => value !== undefined && value !== false && typeof value !== 'function')
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
  if (name === 'partition') return formatPartitionId(value as PartitionId);
  if (name === 'known') {
    const { incarnation, isClosed, consumers } = value as KnownSubscription;
    return `known as ${incarnation}${isClosed ? ' (being deleted)' : ''} with ${consumers} consumers`;
  }
  if (value === true) return name;
  return `${name} ${String(value)}`;
}

function operation({ kind, partition, first, last }: SettleOperation): string {
  return `${kind} ${partition}/${first === last ? first : `${first}..${last}`}`;
}
