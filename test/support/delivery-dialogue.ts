// Runs a Delivery and writes down what is said, so that a changed behaviour reads as a changed dialogue: > is
// an event, < an effect, = what can be read afterwards when it has changed.

import type { ChunkView } from '../../services/broker/core/credit.ts';
import { decodeCursor } from '../../services/broker/core/cursor.ts';
import { Delivery, type DeliveryOptions } from '../../services/broker/core/delivery.ts';
import type { DeliveryEffect, DeliveryEvent } from '../../services/broker/core/delivery-events.ts';
import { chunkView } from './delivery-rig.ts';

/** A message as a scenario names it: its key ('-' without one) and its size. */
export type Said = readonly [key: string, bytes: number];

/** Keys a, b, c … lie in slots 1, 2, 3 …; A, B, C … are other keys in the same slots. */
function hashOf(key: string): number {
  if (key === '-') return 0;
  const letter = key.toLowerCase().charCodeAt(0) - 96;
  return key === key.toLowerCase() ? letter : letter + 256;
}

function interval(first: number, last: number): string {
  return first === last ? `${first}` : `${first}..${last}`;
}

function delivery(attempt: number | undefined): string {
  return attempt === undefined ? '' : ` as attempt ${attempt}`;
}

function counted(messages: number): string {
  return messages === 1 ? '1 message' : `${messages} messages`;
}

export class Dialogue {
  readonly #options: DeliveryOptions;
  readonly #lines: string[] = [];
  readonly #chunks: ChunkView[] = [];
  readonly #keys: string[] = [];
  readonly #outstanding = new Map<number, number>();
  #delivery: Delivery;
  #state = '';
  #record: Uint8Array;
  nowMs = 0;

  constructor(title: string, options: Partial<DeliveryOptions> = {}) {
    this.#options = {
      ordering: false,
      maxHoles: 1_000,
      maxQueued: 1_000,
      maxUnsettled: 1_000,
      maxRun: 1_000,
      ...options,
    };
    this.#delivery = new Delivery(this.#options, { startOffset: 0 }, 0);
    this.#record = this.#delivery.snapshot();
    this.#lines.push(title, '');
  }

  get text(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  /** Writes a remark into the transcript. */
  note(text: string): void {
    this.#lines.push('', `# ${text}`);
  }

  append(...messages: readonly Said[]): void {
    const first = this.#keys.length;
    for (const [key] of messages) this.#keys.push(key);
    const sizes = messages.map(([, bytes]) => bytes);
    const hashes = messages.map(([key]) => hashOf(key));
    this.#chunks.push(chunkView(first, sizes, this.#options.ordering ? hashes : undefined));
    const described = this.#options.ordering
      ? messages.map(([key, bytes]) => `${key}:${bytes}`)
      : sizes.map((bytes) => `${bytes}`);
    const places = interval(first, this.#keys.length - 1);
    this.#say(`append ${places} of ${described.join(' ')} bytes`, {
      kind: 'append',
      endOffset: this.#keys.length,
    });
  }

  join(consumer: number, hash = consumer * 1_111): void {
    this.#say(`join ${consumer}`, { kind: 'join', consumer, hash });
  }

  drain(consumer: number, draining = true): void {
    this.#say(`${draining ? 'drain' : 'no longer drain'} ${consumer}`, { kind: 'drain', consumer, draining });
  }

  leave(consumer: number): void {
    this.#say(`leave ${consumer}`, { kind: 'leave', consumer, leases: 'end' });
  }

  /**
   * Leases for a consumer with credit as a dispatcher does, until there is nothing for it or the credit is
   * used up.
   */
  lease(consumer: number, maxMessages = 100, maxBytes = 1_000, leaseMs = 10_000): void {
    let messages = maxMessages;
    let bytes = maxBytes;
    while (messages > 0) {
      const offset = this.#delivery.peek(consumer);
      if (offset === undefined) {
        this.#lines.push(`  nothing for ${consumer}`);
        return;
      }
      const chunk = this.#chunks.find(
        (one) => offset >= one.firstOffset && offset < one.firstOffset + one.count,
      )!;
      const places = interval(chunk.firstOffset, chunk.firstOffset + chunk.count - 1);
      const idle = (this.#outstanding.get(consumer) ?? 0) === 0;
      const deadlineMs = this.nowMs + leaseMs;
      const effects = this.#say(
        `lease to ${consumer} of ${places}: at most ${counted(messages)}, ${bytes} bytes${idle ? ', idle' : ''}, until ${deadlineMs} ms`,
        { kind: 'lease', consumer, chunk, maxMessages: messages, maxBytes: bytes, idle, deadlineMs },
      );
      let given = 0;
      for (const effect of effects) {
        if (effect.kind !== 'deliver') continue;
        given += effect.messages;
        bytes -= effect.bytes;
      }
      messages -= given;
      if (given === 0 && this.#delivery.peek(consumer) === offset) return;
    }
  }

  ack(consumer: number, first: number, last = first): void {
    this.#say(`ack ${interval(first, last)} from ${consumer}`, { kind: 'ack', consumer, first, last });
  }

  nack(consumer: number, first: number, last = first, attempt?: number): void {
    this.#say(`nack ${interval(first, last)}${delivery(attempt)} from ${consumer}`, {
      kind: 'nack',
      consumer,
      first,
      last,
      attempt,
    });
  }

  extend(consumer: number, first: number, last: number, byMs: number, attempt?: number): void {
    const deadlineMs = this.nowMs + byMs;
    this.#say(`extend ${interval(first, last)}${delivery(attempt)} from ${consumer} until ${deadlineMs} ms`, {
      kind: 'extend',
      consumer,
      first,
      last,
      deadlineMs,
      attempt,
    });
  }

  /** Lets the time come for which the machine asked, or the given one. */
  expire(atMs = this.#delivery.earliestDeadlineMs): void {
    this.nowMs = atMs;
    this.#say(`expire at ${atMs} ms`, { kind: 'expire' });
  }

  trim(headOffset: number): void {
    this.#say(`trim: the log begins at ${headOffset}`, { kind: 'trim', headOffset });
  }

  /** Begins a commit. */
  commit(): void {
    this.#record = this.#delivery.snapshot();
    const { floor, settled, attempts } = decodeCursor(this.#record);
    const parts = [`floor ${floor}`];
    if (settled.length > 0)
      parts.push(`settled ${settled.map(({ first, last }) => interval(first, last)).join(' ')}`);
    if (attempts.length > 0)
      parts.push(
        `failed ${attempts.map(({ first, last, value }) => `${interval(first, last)}:${value}`).join(' ')}`,
      );
    this.#lines.push(`  cursor: ${parts.join(', ')}`);
  }

  persisted(): void {
    this.#say('persisted', { kind: 'persisted' });
  }

  /** The broker dies; the last commit is what it finds again. */
  restart(): void {
    this.#lines.push('', '# The broker dies and starts again from the last cursor.');
    this.#delivery = new Delivery(this.#options, { record: this.#record }, this.#keys.length);
    this.#outstanding.clear();
    this.#readings();
  }

  #say(what: string, event: DeliveryEvent): readonly DeliveryEffect[] {
    this.#lines.push(`> ${what}`);
    const effects = this.#delivery.step(event, this.nowMs);
    for (const effect of effects) this.#lines.push(`< ${this.#described(effect)}`);
    this.#readings();
    return effects;
  }

  #described(effect: DeliveryEffect): string {
    if (effect.kind === 'deliver') {
      this.#count(effect.consumer, effect.messages);
      const runs = effect.runs.map(({ first, last, attempt }) => {
        const keys = this.#options.ordering ? ` ${this.#keys.slice(first, last + 1).join('')}` : '';
        return `${interval(first, last)}${keys}${attempt > 1 ? ` attempt ${attempt}` : ''}`;
      });
      return `deliver to ${effect.consumer}: ${runs.join(', ')} (${counted(effect.messages)}, ${effect.bytes} bytes)`;
    }
    if (effect.kind !== 'credit') return effect.kind;
    this.#count(effect.consumer, -effect.messages);
    return `credit to ${effect.consumer}: ${counted(effect.messages)}, ${Math.round(effect.bytes * 100) / 100} bytes`;
  }

  #count(consumer: number, messages: number): void {
    this.#outstanding.set(consumer, (this.#outstanding.get(consumer) ?? 0) + messages);
  }

  #readings(): void {
    const { floor, backlogMessages, outstandingMessages } = this.#delivery;
    const state = `= floor ${floor}, backlog ${backlogMessages}, outstanding ${outstandingMessages}`;
    if (state !== this.#state) this.#lines.push(state);
    this.#state = state;
  }
}
