// What a process saw, and when, in a file that outlives it: one line an event, written with one write(2)
// before the process goes on, so that SIGKILL loses nothing that had an effect. The lines can be read back as
// the events that history-checker.ts judges.
//
//   publisher    P at index                  publish() was called
//                K at index messageId        it was told that the message is stored
//                E at index code             it was told that it is not
//                R at                        it is going to send again what was not answered
//   subscriber   D at stream messageId attempt fingerprint key      was handed a message
//                A at messageId              is about to acknowledge it
//                X at stream                 learned that its stream is gone
import { hash } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { PublishedMessage, SubscriberEvent } from './history-checker.ts';

/** Milliseconds of the machine's monotonic clock, the same for all its processes. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Stands for the payload in histories: equal if and only if the bytes are. */
export function fingerprintOf(payload: Uint8Array): string {
  return hash('sha256', payload, 'base64').slice(0, 22);
}

export class HistoryLog {
  readonly #fd: number;
  #lines = '';

  constructor(path: string) {
    this.#fd = openSync(path, 'a');
  }

  /** Notes an event; it is in the file after the next write(). */
  add(kind: string, ...fields: readonly (string | number)[]): void {
    this.#lines += `${kind} ${monotonicMs().toFixed(3)}${fields.length > 0 ? ` ${fields.join(' ')}` : ''}\n`;
  }

  write(): void {
    if (this.#lines === '') return;
    writeSync(this.#fd, this.#lines);
    this.#lines = '';
  }

  close(): void {
    this.write();
    closeSync(this.#fd);
  }
}

export interface PublisherHistory {
  /** Ids that the publisher was told, by index in the input. */
  readonly told: ReadonlyMap<number, string>;
  /** Indexes that were not answered when the publisher began to send again. */
  readonly retried: ReadonlySet<number>;
  /** Codes with which messages failed, by index. */
  readonly failed: ReadonlyMap<number, string>;
  readonly firstPublishMs: number;
  readonly lastToldMs: number;
}

export function readPublisherLog(path: string): PublisherHistory {
  const told = new Map<number, string>();
  const retried = new Set<number>();
  const failed = new Map<number, string>();
  const unanswered = new Set<number>();
  let firstPublishMs = Number.POSITIVE_INFINITY;
  let lastToldMs = 0;
  for (const [kind, at, index, detail] of linesOf(path)) {
    switch (kind) {
      case 'P':
        firstPublishMs = Math.min(firstPublishMs, Number(at));
        unanswered.add(Number(index));
        break;
      case 'K':
        lastToldMs = Number(at);
        told.set(Number(index), detail!);
        unanswered.delete(Number(index));
        break;
      case 'E':
        failed.set(Number(index), detail!);
        unanswered.delete(Number(index));
        break;
      case 'R':
        for (const open of unanswered) retried.add(open);
        break;
      default:
        throw new Error(`${path} has a line of an unknown kind: ${kind}`);
    }
  }
  return { told, retried, failed, firstPublishMs, lastToldMs };
}

/** The input and what the publisher was told, as the checker takes it. */
export function publishedMessages(
  input: readonly { readonly section: string; readonly payload: Uint8Array }[],
  { told, retried }: PublisherHistory,
): PublishedMessage[] {
  return input.map(({ section, payload }, index) => ({
    key: section,
    fingerprint: fingerprintOf(payload),
    toldId: told.get(index),
    retried: retried.has(index),
  }));
}

/** The events of one subscriber process, in their order. */
export function readSubscriberLog(path: string, consumer: string): SubscriberEvent[] {
  const events: SubscriberEvent[] = [];
  for (const [kind, at, ...fields] of linesOf(path)) {
    const atMs = Number(at);
    if (kind === 'D') {
      const [stream, messageId, attempt, fingerprint, key] = fields;
      events.push({
        kind: 'handed',
        atMs,
        consumer,
        stream: Number(stream),
        messageId: messageId!,
        attempt: Number(attempt),
        fingerprint: fingerprint!,
        key: key ?? '',
      });
    } else if (kind === 'A') events.push({ kind: 'acked', atMs, consumer, messageId: fields[0]! });
    else if (kind === 'X') events.push({ kind: 'broken', atMs, consumer, stream: Number(fields[0]) });
    else throw new Error(`${path} has a line of an unknown kind: ${kind}`);
  }
  return events;
}

/** Complete lines only: a last one that is cut off had no effect. */
function linesOf(path: string): string[][] {
  return readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' '));
}
