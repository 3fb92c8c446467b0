// A link to an owner as the relay sees it: calls that wait for an answer, the consumers that are attached,
// the chunks that the owner counts on. Invariant: whatever waits on the link hears when it closes.
//
//   connecting ─first answer→ up ─closed, silent, broken→ closed
//
// An empty question for backlog is the link's heartbeat: it is asked at once, since a link is up only when
// the owner has answered on it, and then again and again. Without any answer for a while the owner, or the
// way to it, is taken for dead.
import type { BacklogReport, PartitionQuestion } from '../../../core/backlog-report.ts';
import type { DrainReport, DrainRequest } from '../../../core/draining.ts';
import { assertNever, BrokerError } from '../../../core/errors.ts';
import { LinkLife, type LinkState } from '../../../core/link-life.ts';
import type { PartitionId } from '../../../core/partition.ts';
import type { SettledSubscription, SettleOperation } from '../../../core/settle-request.ts';
import type {
  PeerAnswer,
  PeerConnector,
  PeerLink,
  PeerLinkEvents,
  PeerRequest,
} from '../../../ports/peer.ts';
import type { EngineContext } from '../../context.ts';
import { DeliveredMessages } from '../../delivery/delivered-messages.ts';
import { CachedChunk } from '../../log/chunk-cache.ts';
import type { Route } from '../../membership/routes.ts';
import { BEAT_MS, SILENT_BEATS } from '../heartbeat.ts';

export type PublishOutcome =
  | { readonly kind: 'published'; readonly firstOffset: number }
  /** Nothing was stored. */
  | { readonly kind: 'refused'; readonly error: BrokerError }
  | { readonly kind: 'not owner' }
  /** The link has closed. */
  | { readonly kind: 'unknown' };

/** A consumer's part at one owner, which hears what the owner says. */
export interface AttachedConsumer {
  deliver(messages: DeliveredMessages): void;
  credited(sequence: number, outstandingMessages: number): void;
  wants(more: boolean): void;
  bounced(operations: readonly SettleOperation[]): void;
  /** The owner has ended it, or the link has closed: the consumer is not attached any more. */
  ended(error: BrokerError): void;
}

/** Hears what becomes of the link. */
export interface RelayLinkHost {
  up(): void;
  /** Everything that waited on the link has been told. */
  closed(reason: string): void;
  writableAgain(): void;
  firstMessage(subscription: string): void;
}

interface Waiting<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: BrokerError) => void;
}

export class RelayLink implements PeerLinkEvents {
  readonly route: Route;
  readonly #life = new LinkLife('connecting', SILENT_BEATS);
  /** Whether the link takes more: not from a send that filled it until `writableAgain`. */
  writable = true;
  readonly #link: PeerLink;
  readonly #context: EngineContext;
  readonly #host: RelayLinkHost;
  readonly #publishes = new Map<number, (outcome: PublishOutcome) => void>();
  readonly #settles = new Map<number, Waiting<readonly SettleOperation[]>>();
  readonly #backlogs = new Map<number, Waiting<readonly BacklogReport[]>>();
  readonly #drains = new Map<number, Waiting<DrainReport>>();
  readonly #consumers = new Map<number, AttachedConsumer>();
  /**
   * Consumers that are detached, but what they settled may come back yet: until a question that was asked
   * afterwards is answered.
   */
  readonly #leaving = new Map<number, { readonly consumer: AttachedConsumer; readonly asked: number }>();
  #asked = 0;
  #answered = 0;
  readonly #chunks = new Map<number, { readonly partition: PartitionId; readonly chunk: CachedChunk }>();
  #keepFrom = 0;
  #lastNumber = 0;
  #cancelBeat: () => void = () => undefined;

  constructor(connector: PeerConnector, route: Route, context: EngineContext, host: RelayLinkHost) {
    this.route = route;
    this.#context = context;
    this.#host = host;
    this.#link = connector.connect(route.address, route.memberId, this);
    // A connector that knows at once that it can't connect has closed the link already.
    if (this.state === 'closed') return;
    this.#ask();
    this.#beat();
  }

  get state(): LinkState {
    return this.#life.state;
  }

  /** `messages`: records of field 2 of PublishRequest. */
  publish(
    topic: string,
    partition: PartitionId,
    attempt: number,
    messages: Buffer,
    outcome: (outcome: PublishOutcome) => void,
  ): void {
    const call = this.#next();
    this.#publishes.set(call, outcome);
    this.#send({ kind: 'publish', call, topic, partition, attempt, messages });
  }

  /** Resolves to the operations that are not the owner's to perform. UNAVAILABLE: the link has closed. */
  settle(
    { name: subscription, incarnation }: SettledSubscription,
    operations: readonly SettleOperation[],
  ): Promise<readonly SettleOperation[]> {
    return this.#call(this.#settles, (call) => ({
      kind: 'settleUnary',
      call,
      subscription,
      incarnation,
      operations,
    }));
  }

  /** UNAVAILABLE: the link has closed. */
  backlog(
    parent: string,
    names: readonly string[],
    question?: PartitionQuestion,
  ): Promise<readonly BacklogReport[]> {
    return this.#call(this.#backlogs, (call) => ({ kind: 'backlog', call, parent, names, question }));
  }

  /** Rejects as ConsumerDrain.drain does; with UNAVAILABLE also if the link has closed. */
  drain(request: DrainRequest): Promise<DrainReport> {
    return this.#call(this.#drains, (call) => ({ kind: 'drain', call, request }));
  }

  watchFirstMessages(): void {
    this.#send({ kind: 'watchFirstMessages' });
  }

  /** Returns the consumer's number, which `tell` takes. */
  attach(
    consumer: AttachedConsumer,
    how: Omit<PeerRequest & { readonly kind: 'attach' }, 'kind' | 'consumer'>,
  ): number {
    const number = this.#next();
    this.#consumers.set(number, consumer);
    this.#send({ kind: 'attach', consumer: number, ...how });
    return number;
  }

  /** Sends what an attached consumer has to say. */
  tell(request: PeerRequest & { readonly consumer: number }): void {
    const consumer = this.#consumers.get(request.consumer);
    if (consumer === undefined) return;
    if (request.kind === 'detach') {
      this.#consumers.delete(request.consumer);
      this.#leaving.set(request.consumer, { consumer, asked: this.#asked });
    }
    this.#send(request);
  }

  close(reason: string): void {
    if (this.state === 'closed') return;
    this.#link.close();
    this.closed(reason);
  }

  answer(answer: PeerAnswer): void {
    if (this.state === 'closed') return;
    if (this.#life.heard()) this.#host.up();
    switch (answer.kind) {
      case 'published':
        take(this.#publishes, answer.call)?.({ kind: 'published', firstOffset: answer.firstOffset });
        break;
      case 'refused':
        take(
          this.#publishes,
          answer.call,
        )?.(
          answer.reason === 'NOT_OWNER'
            ? { kind: 'not owner' }
            : { kind: 'refused', error: new BrokerError(answer.reason, answer.message) },
        );
        break;
      case 'chunk':
        this.#keep(answer);
        break;
      case 'deliver':
        this.#deliver(answer);
        break;
      case 'credited':
        this.#consumers.get(answer.consumer)?.credited(answer.sequence, answer.outstandingMessages);
        break;
      case 'wants':
        this.#consumers.get(answer.consumer)?.wants(answer.more);
        break;
      case 'bounced':
        (this.#consumers.get(answer.consumer) ?? this.#leaving.get(answer.consumer)?.consumer)?.bounced(
          answer.operations,
        );
        break;
      case 'ended':
        take(this.#consumers, answer.consumer)?.ended(new BrokerError(answer.code, answer.message));
        break;
      case 'settled':
        take(this.#settles, answer.call)?.resolve(answer.bounced);
        break;
      case 'backlogs':
        if (answer.call === 0) this.#heardBack();
        take(this.#backlogs, answer.call)?.resolve(answer.reports);
        break;
      case 'draining': {
        const waiting = take(this.#drains, answer.call);
        if (answer.failed === undefined) waiting?.resolve(answer.report);
        else waiting?.reject(new BrokerError(answer.failed.code, answer.failed.message));
        break;
      }
      case 'firstMessage':
        this.#host.firstMessage(answer.subscription);
        break;
      default:
        assertNever(answer);
    }
  }

  writableAgain(): void {
    this.writable = true;
    if (this.state === 'up') this.#host.writableAgain();
  }

  closed(reason: string): void {
    if (!this.#life.close()) return;
    this.#cancelBeat();
    this.#chunks.clear();
    this.#leaving.clear();
    const gone = new BrokerError(
      'UNAVAILABLE',
      `the link to broker ${this.route.name} has closed: try again`,
    );
    for (const outcome of takeAll(this.#publishes)) outcome({ kind: 'unknown' });
    for (const { reject } of takeAll(this.#settles)) reject(gone);
    for (const { reject } of takeAll(this.#backlogs)) reject(gone);
    for (const { reject } of takeAll(this.#drains)) reject(gone);
    for (const consumer of takeAll(this.#consumers)) consumer.ended(gone);
    this.#host.closed(reason);
  }

  #next(): number {
    this.#lastNumber += 1;
    return this.#lastNumber;
  }

  #send(request: PeerRequest): void {
    if (this.state !== 'closed' && !this.#link.send(request)) this.writable = false;
  }

  #call<T>(waiting: Map<number, Waiting<T>>, request: (call: number) => PeerRequest): Promise<T> {
    const call = this.#next();
    return new Promise((resolve, reject) => {
      waiting.set(call, { resolve, reject });
      this.#send(request(call));
    });
  }

  /** Asks for nobody's backlog: the answer is a sign of life. */
  #ask(): void {
    this.#asked += 1;
    this.#send({ kind: 'backlog', call: 0, parent: '', names: [] });
  }

  #heardBack(): void {
    this.#answered += 1;
    for (const [number, { asked }] of this.#leaving) if (asked < this.#answered) this.#leaving.delete(number);
  }

  #beat(): void {
    this.#cancelBeat = this.#context.clock.setTimer(BEAT_MS, () => {
      if (!this.#life.beat()) {
        this.close(`no answer for ${SILENT_BEATS * BEAT_MS} ms`);
        return;
      }
      this.#ask();
      this.#beat();
    });
  }

  #keep(answer: PeerAnswer & { kind: 'chunk' }): void {
    for (; this.#keepFrom < answer.keepFrom; this.#keepFrom += 1) this.#chunks.delete(this.#keepFrom);
    this.#chunks.set(answer.chunk, { partition: answer.partition, chunk: new CachedChunk(answer) });
  }

  #deliver({ consumer: number, chunk, runs, messages, bytes }: PeerAnswer & { kind: 'deliver' }): void {
    const consumer = this.#consumers.get(number);
    // The consumer was detached while it was under way.
    if (consumer === undefined) return;
    const held = this.#chunks.get(chunk);
    if (held === undefined || !isWithin(held.chunk, runs)) {
      const { name } = this.route;
      this.#context.logger.error({ broker: name, chunk }, 'a peer names a chunk that it never sent');
      this.close('the peer broke the protocol');
      return;
    }
    consumer.deliver(new DeliveredMessages(held.partition, held.chunk, runs, messages, bytes));
  }
}

function isWithin(
  { firstOffset, endOffset }: CachedChunk,
  runs: readonly { readonly first: number; readonly last: number }[],
): boolean {
  return (
    runs.length > 0 &&
    runs.every(({ first, last }) => firstOffset <= first && first <= last && last < endOffset)
  );
}

function take<V>(map: Map<number, V>, key: number): V | undefined {
  const value = map.get(key);
  map.delete(key);
  return value;
}

function takeAll<V>(map: Map<number, V>): V[] {
  const values = [...map.values()];
  map.clear();
  return values;
}
