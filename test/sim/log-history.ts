// What is in the logs and what publishers were told of it.
//
//   contiguous   offsets of a partition follow each other, publish times don't go back within a life
//   intact       every frame holds exactly what some publisher has sent
//   ordered      the batches of a publisher that share a key lie in the order of publishing; a batch may be
//                there again, as a whole, as long as no later one is
//   told         a publisher is told the place where its message is, and only once it is there; with the
//                durability `memory` it may be told before, and then only a crash can keep the message from
//                coming there
//   whole        what a publisher was told was not stored is not there: it is there no more often than it was
//                sent otherwise
import type { PartitionId } from '../../services/broker/core/partition.ts';
import type { PublishedRun } from '../../services/broker/engine/routed-batch.ts';
import type { Chunk, LogBounds, LogRange } from '../../services/broker/ports/log-store.ts';
import { decodeFrames } from './received.ts';
import { Violation } from './violation.ts';

export interface SentMessage {
  readonly identity: string;
  readonly key: string;
  readonly content: string;
  /** The number of its batch, as its publisher counts. */
  readonly batch: number;
  /** Its number among its publisher's messages of the key; below, that of the first one in its batch. */
  readonly nth: number;
  readonly batchFirst: number;
}

export function publisherOf(identity: string): string {
  return identity.slice(0, identity.indexOf('/'));
}

export interface LoggedMessage {
  readonly sent: SentMessage;
  readonly appendedMs: number;
}

export class PartitionHistory {
  readonly id: PartitionId;
  readonly messages: LoggedMessage[] = [];
  readonly byKey = new Map<string, number[]>();
  headOffset = 0;
  /** Publishers were told of something just below it, and of nothing beyond. */
  toldEnd = 0;
  dropped = false;
  /** Offsets that are damaged and were given up. */
  readonly givenUp = new Set<number>();
  /** What publishers were told of and is still to come, by offset. */
  readonly promised = new Map<number, SentMessage>();
  /** The last message of each publisher and key. */
  readonly last = new Map<string, SentMessage>();

  constructor(id: PartitionId) {
    this.id = id;
  }

  get endOffset(): number {
    return this.messages.length;
  }

  /** Whether nobody can want it any more. */
  isGone(offset: number): boolean {
    return offset < this.headOffset || this.givenUp.has(offset);
  }
}

export class LogHistory {
  readonly #partitions = new Map<string, PartitionHistory>();
  readonly #sent = new Map<string, SentMessage>();
  readonly #counts = new Map<string, { sent: number; copies: number }>();

  partition(id: PartitionId): PartitionHistory {
    const name = `${id.logEpoch}.${id.partition}`;
    let found = this.#partitions.get(name);
    if (found === undefined) {
      found = new PartitionHistory(id);
      this.#partitions.set(name, found);
    }
    return found;
  }

  /** The partitions of one incarnation of a topic, in order. */
  partitionsOf(logEpoch: number): PartitionHistory[] {
    return [...this.#partitions.values()]
      .filter(({ id }) => id.logEpoch === logEpoch)
      .sort((a, b) => a.id.partition - b.id.partition);
  }

  made(messages: readonly SentMessage[]): void {
    for (const message of messages) this.#sent.set(message.identity, message);
  }

  /** The messages reach the broker: from now on they may come to be in a log once more. */
  sending(messages: readonly SentMessage[]): void {
    for (const { identity } of messages) this.#countOf(identity).sent += 1;
  }

  /** The publisher hears that nothing of these was stored. */
  refused(messages: readonly SentMessage[]): void {
    for (const { identity } of messages) {
      this.#countOf(identity).sent -= 1;
      this.#checkCopies(identity);
    }
  }

  #countOf(identity: string): { sent: number; copies: number } {
    let count = this.#counts.get(identity);
    if (count === undefined) {
      count = { sent: 0, copies: 0 };
      this.#counts.set(identity, count);
    }
    return count;
  }

  #checkCopies(identity: string): void {
    const { sent, copies } = this.#countOf(identity);
    if (copies > sent)
      throw new Violation(
        `${identity} was stored ${copies} times, and sent ${sent} times without "nothing was stored"`,
      );
  }

  appended(id: PartitionId, chunks: readonly Chunk[], nowMs: number): void {
    const log = this.partition(id);
    if (log.dropped) return;
    for (const chunk of chunks) {
      if (chunk.firstOffset !== log.endOffset)
        throw new Violation(`${name(id)}: a chunk at ${chunk.firstOffset} was appended at ${log.endOffset}`);
      const frames = decodeFrames(chunk.bytes);
      if (frames.length !== chunk.count)
        throw new Violation(`${name(id)}: a chunk of ${chunk.count} has ${frames.length} frames`);
      for (const frame of frames) {
        const sent = this.#sent.get(frame.identity);
        const { logEpoch, partition, offset } = frame;
        if (logEpoch !== id.logEpoch || partition !== id.partition || offset !== log.endOffset)
          throw new Violation(
            `${name(id)}: the frame at ${log.endOffset} says ${logEpoch}.${partition}-${offset}`,
          );
        if (sent === undefined || sent.content !== frame.content)
          throw new Violation(
            `${name(id)}-${offset} is not what ${frame.identity} was when it was published`,
          );
        this.#checkOrder(log, sent);
        const ofKey = log.byKey.get(sent.key);
        if (ofKey === undefined) log.byKey.set(sent.key, [offset]);
        else ofKey.push(offset);
        const promised = log.promised.get(offset);
        if (promised !== undefined && promised !== sent)
          throw new Violation(
            `${promised.identity} was acknowledged at ${name(id)}-${offset}, where ${sent.identity} comes`,
          );
        log.promised.delete(offset);
        log.messages.push({ sent, appendedMs: nowMs });
        this.#countOf(sent.identity).copies += 1;
        this.#checkCopies(sent.identity);
      }
    }
  }

  trimmed(id: PartitionId, bounds: LogBounds): void {
    const log = this.partition(id);
    log.headOffset = Math.max(log.headOffset, bounds.headOffset);
  }

  gaveUp(id: PartitionId, { firstOffset, endOffset }: LogRange): void {
    const { givenUp } = this.partition(id);
    for (let offset = firstOffset; offset < endOffset; offset += 1) givenUp.add(offset);
  }

  /** The partitions that hold anything. */
  get stored(): PartitionHistory[] {
    return [...this.#partitions.values()].filter((log) => !log.dropped && log.headOffset < log.endOffset);
  }

  dropped(logEpoch: number): void {
    for (const log of this.partitionsOf(logEpoch)) log.dropped = true;
  }

  /** The broker has died: what it had told publishers before it was stored may be gone. */
  crashed(): void {
    for (const { promised } of this.#partitions.values()) promised.clear();
  }

  /** The first message that a publisher was told of and that is not stored. */
  get firstPromised(): string | undefined {
    for (const log of this.#partitions.values()) {
      if (log.dropped) continue;
      for (const [offset, { identity }] of log.promised)
        return `${identity}, acknowledged at ${name(log.id)}-${offset}`;
    }
    return undefined;
  }

  /** `early`: the message may be on its way yet. */
  told(
    logEpoch: number,
    messages: readonly SentMessage[],
    runs: readonly PublishedRun[],
    early = false,
  ): void {
    let index = 0;
    for (const { partition, firstOffset, count } of runs) {
      const log = this.partition({ logEpoch, partition });
      for (let offset = firstOffset; offset < firstOffset + count; offset += 1) {
        const message = messages[index];
        index += 1;
        const logged = log.messages[offset];
        if (message === undefined) throw new Violation('a publisher was told of more messages than it sent');
        if (log.dropped) continue;
        if (early && logged === undefined) {
          const before = log.promised.get(offset);
          if (before !== undefined)
            throw new Violation(
              `${before.identity} and ${message.identity} were acknowledged at ${name(log.id)}-${offset}`,
            );
          log.promised.set(offset, message);
          continue;
        }
        if (logged?.sent.identity !== message.identity) {
          throw new Violation(
            `${message.identity} was acknowledged at ${name(log.id)}-${offset}, where ${logged?.sent.identity ?? 'nothing'} is`,
          );
        }
        log.toldEnd = Math.max(log.toldEnd, offset + 1);
      }
    }
    if (index !== messages.length)
      throw new Violation(`a publisher was told of ${index} messages instead of ${messages.length}`);
  }

  #checkOrder(log: PartitionHistory, sent: SentMessage): void {
    if (sent.key === '') return;
    const who = `${publisherOf(sent.identity)} ${sent.key}`;
    const before = log.last.get(who);
    log.last.set(who, sent);
    const continues = before !== undefined && before.batch === sent.batch && sent.nth === before.nth + 1;
    const begins = sent.nth === sent.batchFirst && (before === undefined || before.batch <= sent.batch);
    if (!continues && !begins)
      throw new Violation(`${name(log.id)}: ${sent.identity} of key ${sent.key} follows ${before?.identity}`);
  }
}

function name({ logEpoch, partition }: PartitionId): string {
  return `${logEpoch}.${partition}`;
}
