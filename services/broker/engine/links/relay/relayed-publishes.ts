// Publishes for a partition that is owned elsewhere, or that is to be owned here but is not yet: kept in
// their order and brought to the owner, wherever that moves.
//
//   state of a publish    event                                  → state
//   (new)                 publish                                → waiting
//   waiting               the target's link is up                → sent
//   waiting               the partition is opened here           → (given to its owner)
//   waiting, relayed      the partition is another broker's      → (sent back to the relay)
//   waiting               the topic has grown                    → (given back, to be routed anew)
//   waiting               10 s have passed                       → failed, nothing was stored
//   sent                  published, refused                     → done, failed
//   sent                  not owner                              → returned
//   sent                  the link has closed                    → failed, may have been stored
//   returned              the last one sent has been answered    → waiting, in front, in the old
//                                                                   order; attempt + 1
//
// Invariant: nothing newer goes to a new target, or to the same one after a refusal, before everything sent
// is answered. What is on its way to an owner behind a publish that it has refused is refused by it as well,
// whatever happens there meanwhile, because it carries the same attempt. So nothing ever overtakes.
import { type Slice, sliceBytes, sliceLength } from '../../../core/chunk.ts';
import { BrokerError } from '../../../core/errors.ts';
import type { PartitionId } from '../../../core/partition.ts';
import { varintLength, writeVarint } from '../../../core/wire.ts';
import { MAX_MESSAGES_PER_PUBLISH } from '../../../limits.ts';
import type { EngineContext } from '../../context.ts';
import type { PendingPublish } from '../../log/publish-group.ts';
import type { RelayedPublish } from '../relayed-publish.ts';
import type { PublishOutcome } from './relay-link.ts';

/** The link to the present target. */
export interface PublishLink {
  publish(
    topic: string,
    partition: PartitionId,
    attempt: number,
    messages: Buffer,
    outcome: (outcome: PublishOutcome) => void,
  ): void;
}

export interface RelayedPublishesOptions {
  readonly topic: string;
  readonly id: PartitionId;
  readonly context: EngineContext;
  /** The link to the present target, while it is up. Whoever gives it calls `pump` when that changes. */
  readonly link: () => PublishLink | undefined;
  /** The owner here, if there is one: then it takes everything. */
  readonly owner: () => { publish(publish: PendingPublish): void } | undefined;
  /** How many partitions the topic has. */
  readonly partitions: () => number;
}

interface Waiting {
  readonly publish: PendingPublish;
  readonly bytes: number;
  readonly expiresMs: number;
}

/** How long a publish waits for an owner. */
export const WAIT_FOR_OWNER_MS = 10_000;
/** The pause between a refusal and the next try, if the route has not changed by then. */
const FIRST_BACKOFF_MS = 10;
const MAX_BACKOFF_MS = 250;

export class RelayedPublishes {
  readonly #options: RelayedPublishesOptions;
  readonly #context: EngineContext;
  #waiting: Waiting[] = [];
  /** What was sent on #sentOn, in order: what is not answered yet, and what was returned. */
  #sent: { readonly group: readonly Waiting[]; returned: boolean; answered: boolean }[] = [];
  #sentOn: PublishLink | undefined;
  #attempt = 1;
  #backoffMs = FIRST_BACKOFF_MS;
  #cancelBackoff: (() => void) | undefined;
  #cancelExpiry: (() => void) | undefined;
  #pumping = false;
  /** Set once it is closed: the reason. */
  #closed: BrokerError | undefined;
  #whenEmpty: (() => void)[] = [];

  constructor(options: RelayedPublishesOptions) {
    this.#options = options;
    this.#context = options.context;
  }

  get id(): PartitionId {
    return this.#options.id;
  }

  /** Whether nothing waits and nothing is unanswered. */
  get empty(): boolean {
    return this.#waiting.length === 0 && this.#sent.length === 0;
  }

  /** Never throws: `failed` says why not. */
  publish(publish: PendingPublish): void {
    if (this.#isStale(publish)) {
      publish.misrouted();
      return;
    }
    const owner = this.empty ? this.#options.owner() : undefined;
    if (owner !== undefined) {
      owner.publish(publish);
      return;
    }
    const expiresMs = this.#context.clock.monotonicMs() + WAIT_FOR_OWNER_MS;
    this.#waiting.push({ publish, bytes: sliceBytes(publish.slice), expiresMs });
    this.#watchExpiry();
    this.pump();
  }

  /**
   * Sends what there is at the end of the turn, so that it goes together: the route or the link has changed,
   * or there is something to send.
   */
  pump(): void {
    if (this.#pumping || this.#waiting.length === 0) return;
    this.#pumping = true;
    this.#context.clock.defer(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  /** The topic has more partitions than before: what was not sent, or comes back, is routed anew. */
  grown(): void {
    this.#giveBackStale();
  }

  /** The route has changed: a target that refused before may take it now. */
  routed(): void {
    this.#cancelBackoff?.();
    this.#cancelBackoff = undefined;
    this.#backoffMs = FIRST_BACKOFF_MS;
    this.pump();
  }

  /**
   * The partition is owned here: what waits goes to its owner. Resolves once nothing is on its way to a
   * former owner any more; until then publishes are to come here, or they could overtake.
   */
  opened(): Promise<void> {
    this.#pump();
    return this.emptied();
  }

  /** Resolves once nothing waits and nothing is unanswered. */
  emptied(): Promise<void> {
    if (this.empty) return Promise.resolve();
    return new Promise((resolve) => this.#whenEmpty.push(resolve));
  }

  /** Fails what waits, now and later; what was sent gets its outcome still. */
  close(reason: BrokerError): void {
    this.#closed = reason;
    this.#cancelBackoff?.();
    this.#cancelBackoff = undefined;
    this.#fail(this.#waiting.splice(0), reason);
    this.#watchExpiry();
    this.#tellIfEmpty();
  }

  #pump(): void {
    const owner = this.#options.owner();
    if (owner !== undefined) {
      if (this.#sent.length === 0) this.#flow(owner);
      return;
    }
    if (this.#waiting.length === 0 || this.#cancelBackoff !== undefined) return;
    const link = this.#options.link();
    if (link === undefined) return;
    this.#sendBack();
    if (this.#sent.length > 0 && (this.#sentOn !== link || this.#sent.some(({ returned }) => returned)))
      return;
    this.#sentOn = link;
    while (this.#waiting.length > 0) this.#send(link, this.#takeGroup());
    this.#watchExpiry();
  }

  #giveBackStale(): void {
    const stale = this.#waiting.filter(({ publish }) => this.#isStale(publish));
    if (stale.length === 0) return;
    this.#waiting = this.#waiting.filter(({ publish }) => !this.#isStale(publish));
    for (const { publish } of stale) publish.misrouted();
    this.#watchExpiry();
    this.#tellIfEmpty();
  }

  #isStale({ partitions }: PendingPublish): boolean {
    return partitions !== undefined && partitions < this.#options.partitions();
  }

  /** Sends back what came over links. */
  #sendBack(): void {
    const relayed = this.#waiting.filter(({ publish }) => isRelayed(publish));
    if (relayed.length === 0) return;
    this.#waiting = this.#waiting.filter(({ publish }) => !isRelayed(publish));
    for (const { publish } of relayed) if (isRelayed(publish)) publish.moved();
    this.#watchExpiry();
    this.#tellIfEmpty();
  }

  /** Gives what waits to the owner here. */
  #flow(owner: { publish(publish: PendingPublish): void }): void {
    for (const { publish } of this.#waiting.splice(0)) {
      if (isRelayed(publish) && publish.gone) publish.failed(GONE);
      else owner.publish(publish);
    }
    this.#watchExpiry();
    this.#tellIfEmpty();
  }

  #tellIfEmpty(): void {
    if (!this.empty) return;
    for (const resolve of this.#whenEmpty.splice(0)) resolve();
  }

  /** What goes as one request: it fits into one chunk there, and an owner takes so many messages at most. */
  #takeGroup(): Waiting[] {
    const { maxChunkBytes, maxChunkMessages } = this.#context.limits;
    const maxMessages = Math.min(maxChunkMessages, MAX_MESSAGES_PER_PUBLISH);
    let bytes = 0;
    let messages = 0;
    let count = 0;
    for (const { publish, bytes: size } of this.#waiting) {
      bytes += size;
      messages += sliceLength(publish.slice);
      if (count > 0 && (bytes > maxChunkBytes || messages > maxMessages)) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  #send(link: PublishLink, group: readonly Waiting[]): void {
    const sent = { group, returned: false, answered: false };
    this.#sent.push(sent);
    const { topic, id } = this.#options;
    link.publish(topic, id, this.#attempt, encodeMessages(group), (outcome) => {
      sent.answered = true;
      if (outcome.kind === 'not owner') sent.returned = true;
      else this.#tell(group, outcome);
      this.#answered();
    });
  }

  #tell(group: readonly Waiting[], outcome: Exclude<PublishOutcome, { kind: 'not owner' }>): void {
    if (outcome.kind !== 'published') {
      this.#fail(group, outcome.kind === 'refused' ? outcome.error : UNKNOWN);
      return;
    }
    this.#backoffMs = FIRST_BACKOFF_MS;
    let { firstOffset } = outcome;
    for (const { publish } of group) {
      publish.done(firstOffset);
      firstOffset += sliceLength(publish.slice);
    }
  }

  #answered(): void {
    if (this.#sent.some(({ answered }) => !answered)) {
      // What was returned waits for the rest; what else was answered is done with.
      this.#sent = this.#sent.filter(({ answered, returned }) => !answered || returned);
      return;
    }
    const returned = this.#sent.flatMap((sent) => (sent.returned ? sent.group : []));
    this.#sent = [];
    this.#sentOn = undefined;
    if (this.#closed !== undefined) this.#fail(returned, this.#closed);
    else if (returned.length > 0) {
      this.#attempt += 1;
      this.#waiting = returned.concat(this.#waiting);
      this.#giveBackStale();
      this.#watchExpiry();
      this.#backOff();
    }
    this.#pump();
    this.#tellIfEmpty();
  }

  #backOff(): void {
    if (this.#cancelBackoff !== undefined) return;
    this.#cancelBackoff = this.#context.clock.setTimer(this.#backoffMs, () => {
      this.#cancelBackoff = undefined;
      this.pump();
    });
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAX_BACKOFF_MS);
  }

  /** One timer, for the oldest that waits. */
  #watchExpiry(): void {
    const oldest = this.#waiting[0];
    if (oldest === undefined) {
      this.#cancelExpiry?.();
      this.#cancelExpiry = undefined;
    } else if (this.#cancelExpiry === undefined) {
      const { clock } = this.#context;
      this.#cancelExpiry = clock.setTimer(Math.max(0, oldest.expiresMs - clock.monotonicMs()), () => {
        this.#cancelExpiry = undefined;
        const nowMs = clock.monotonicMs();
        const from = this.#waiting.findIndex(({ expiresMs }) => expiresMs > nowMs);
        this.#fail(this.#waiting.splice(0, from === -1 ? this.#waiting.length : from), NO_OWNER);
        this.#watchExpiry();
        this.#tellIfEmpty();
      });
    }
  }

  #fail(group: readonly Waiting[], error: BrokerError): void {
    for (const { publish } of group) {
      this.#context.stats.refusedPublishes += 1;
      publish.failed(error);
    }
  }
}

const UNKNOWN = new BrokerError(
  'UNAVAILABLE',
  "the link to the partition's owner has closed: the messages may have been stored",
);
const GONE = new BrokerError('UNAVAILABLE', 'the link to the relay has closed: nothing was stored');
const NO_OWNER = new BrokerError(
  'UNAVAILABLE',
  `no broker has owned the partition for ${WAIT_FOR_OWNER_MS / 1000} s: nothing was stored, try again`,
);

function isRelayed(publish: PendingPublish): publish is RelayedPublish {
  return 'moved' in publish;
}

/** The messages as records of field 2 of PublishRequest. */
function encodeMessages(group: readonly Waiting[]): Buffer {
  let total = 0;
  for (const { publish } of group) {
    for (const [start, end] of ranges(publish.slice)) total += 1 + varintLength(end - start) + end - start;
  }
  const messages = Buffer.allocUnsafe(total);
  let to = 0;
  for (const { publish } of group) {
    const { bytes } = publish.slice.batch;
    for (const [start, end] of ranges(publish.slice)) {
      messages[to] = 0x12;
      to = writeVarint(messages, to + 1, end - start);
      messages.set(bytes.subarray(start, end), to);
      to += end - start;
    }
  }
  return messages;
}

function* ranges({ batch, indexes }: Slice): IterableIterator<[number, number]> {
  const count = indexes === undefined ? batch.count : indexes.length;
  for (let i = 0; i < count; i += 1) {
    const index = indexes === undefined ? i : indexes[i]!;
    yield [batch.starts[index]!, batch.ends[index]!];
  }
}
