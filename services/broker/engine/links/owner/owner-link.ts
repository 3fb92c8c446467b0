// One relay's link as the owner sees it: what the relay asks of the partitions that this broker owns.
// Invariant: after a publish was refused, those behind it that carry the same attempt are refused, too.
//
//   publish ─▶ the partition's owner, or waits for it here while this broker is to own it
//   attach ─▶ a session of the subscription, whose sink is the link
//
// A relay is trusted: it has checked its client's rights and limits. What it says is bounded and checked all
// the same, because bytes that break a frame would break it for every subscriber.
import type { TopicDefinition } from '../../../core/definitions.ts';
import { NOTHING_DRAINS } from '../../../core/draining.ts';
import { assertNever, BrokerError, type ErrorCode } from '../../../core/errors.ts';
import { LinkLife } from '../../../core/link-life.ts';
import { formatPartitionId } from '../../../core/partition.ts';
import { parsePublish } from '../../../core/publish-batch.ts';
import type { SettleOperation } from '../../../core/settle-request.ts';
import { PUBLISH_LIMITS } from '../../../limits.ts';
import type { PeerAnswer, PeerLinkHandler, PeerLinkServer, PeerRequest } from '../../../ports/peer.ts';
import { admit } from '../../admission.ts';
import type { EngineContext } from '../../context.ts';
import type { BacklogReporter } from '../../delivery/backlog-types.ts';
import type { SubscriptionRuntime } from '../../delivery/subscription-runtime.ts';
import type { Routes } from '../../membership/routes.ts';
import type { Remote } from '../../remote.ts';
import { BEAT_MS, SILENT_BEATS } from '../heartbeat.ts';
import type { PeerHost } from '../peer-host.ts';
import type { RelayedPublish } from '../relayed-publish.ts';
import { ShareSession } from '../share-session.ts';
import { concerned, whenOwned } from '../when-owned.ts';
import { ChunkWindow, PeerSink } from './peer-sink.ts';

export interface OwnerLinkOptions {
  readonly host: PeerHost;
  readonly routes: Routes;
  readonly context: EngineContext;
  /** Gives publishes to the owner here, in order with those that have waited for it. */
  readonly remote: Pick<Remote, 'publish'>;
  /** The backlog of the partitions that are owned here. */
  readonly backlog: BacklogReporter;
  readonly topics: () => Iterable<TopicDefinition>;
  readonly maxConsumersPerSubscription: number;
}

interface Attached {
  readonly session: ShareSession;
  readonly sink: PeerSink;
  readonly runtime: SubscriptionRuntime;
  /** The sequence of the newest order for credit. */
  sequence: number;
}

export class OwnerLink implements PeerLinkHandler {
  readonly #link: PeerLinkServer;
  readonly #relay: string;
  readonly #options: OwnerLinkOptions;
  readonly #host: PeerHost;
  readonly #context: EngineContext;
  readonly #onClosed: () => void;
  readonly #window: ChunkWindow;
  readonly #consumers = new Map<number, Attached>();
  /** The greatest attempt that was refused, by partition. */
  readonly #refused = new Map<string, number>();
  #stopWatching: () => void = () => undefined;
  /** One beat more than the relay bears, which is to find out first. */
  readonly #life = new LinkLife('up', SILENT_BEATS + 1);
  #cancelBeat: () => void = () => undefined;
  writable = true;

  constructor(link: PeerLinkServer, relay: string, options: OwnerLinkOptions, onClosed: () => void) {
    this.#link = link;
    this.#relay = relay;
    this.#options = options;
    this.#host = options.host;
    this.#context = options.context;
    this.#onClosed = onClosed;
    this.#window = new ChunkWindow(this);
    this.#beat();
  }

  get #isClosed(): boolean {
    return this.#life.state === 'closed';
  }

  send(answer: PeerAnswer): void {
    if (!this.#isClosed && !this.#link.send(answer)) this.writable = false;
  }

  request(request: PeerRequest): void {
    if (this.#isClosed) return;
    this.#life.heard();
    switch (request.kind) {
      case 'publish':
        this.#publish(request);
        break;
      case 'attach':
        this.#attach(request);
        break;
      case 'credit':
        this.#credit(request);
        break;
      case 'taken': {
        const attached = this.#consumers.get(request.consumer);
        if (attached === undefined) break;
        const wasWritable = attached.sink.writable;
        attached.sink.taken(request.bytes);
        if (!wasWritable) attached.runtime.pumpFor(attached.session);
        break;
      }
      case 'settle': {
        const attached = this.#consumers.get(request.consumer);
        if (attached === undefined) break;
        const { owned, others } = split(attached.runtime, request.operations);
        if (owned.length > 0) attached.runtime.settle(attached.session.id, { operations: owned });
        if (others.length > 0) this.send({ kind: 'bounced', consumer: request.consumer, operations: others });
        break;
      }
      case 'detach': {
        const attached = this.#consumers.get(request.consumer);
        this.#consumers.delete(request.consumer);
        attached?.runtime.leave(attached.session, request.leases);
        break;
      }
      case 'settleUnary':
        void this.#settleUnary(request);
        break;
      case 'backlog':
        void this.#backlog(request);
        break;
      case 'drain':
        void this.#drain(request);
        break;
      case 'watchFirstMessages':
        this.#stopWatching();
        this.#stopWatching = this.#options.backlog.onFirstMessage((subscription) =>
          this.send({ kind: 'firstMessage', subscription }),
        );
        break;
      default:
        assertNever(request);
    }
  }

  writableAgain(): void {
    this.writable = true;
    const runtimes = new Set([...this.#consumers.values()].map(({ runtime }) => runtime));
    for (const runtime of runtimes) runtime.pumpAll();
  }

  /** Ends the link from this side. */
  end(reason: string): void {
    if (this.#isClosed) return;
    this.#context.logger.info({ relay: this.#relay, reason }, 'ended the link of a relay');
    this.#link.close();
    this.closed();
  }

  closed(): void {
    if (!this.#life.close()) return;
    // What one consumer gives back must not go to the next of the same link.
    this.writable = false;
    this.#cancelBeat();
    this.#stopWatching();
    const consumers = [...this.#consumers.values()];
    this.#consumers.clear();
    for (const { runtime, session } of consumers) runtime.lose(session);
    this.#onClosed();
  }

  #beat(): void {
    this.#cancelBeat = this.#context.clock.setTimer(BEAT_MS, () => {
      if (this.#life.beat()) this.#beat();
      else this.end('nothing was heard of it');
    });
  }

  #publish({ call, topic: name, partition: id, attempt, messages }: PeerRequest & { kind: 'publish' }): void {
    const key = formatPartitionId(id);
    const refuse = (reason: ErrorCode | 'NOT_OWNER', message: string): void =>
      this.send({ kind: 'refused', call, reason, message });
    if (attempt <= (this.#refused.get(key) ?? 0)) {
      refuse('NOT_OWNER', 'an earlier publish was refused');
      return;
    }
    const topic = known(() => this.#host.topicDefinition(name));
    if (topic !== undefined && topic.logEpoch > id.logEpoch) {
      refuse('NOT_FOUND', `${name} was deleted`);
      return;
    }
    const { routes, remote } = this.#options;
    const isMine = this.#host.owner(id) !== undefined || routes.targetOf(id)?.memberId === routes.selfId;
    if (topic === undefined || topic.logEpoch !== id.logEpoch || !isMine) {
      this.#refused.set(key, attempt);
      refuse('NOT_OWNER', 'the partition is not owned here');
      return;
    }
    try {
      const batch = parsePublish(messages, PUBLISH_LIMITS);
      const release = admit(this.#context, batch);
      const isGone = (): boolean => this.#isClosed;
      const isBehind = (): boolean => attempt <= (this.#refused.get(key) ?? 0);
      const back = (message: string): void => {
        this.#refused.set(key, Math.max(attempt, this.#refused.get(key) ?? 0));
        refuse('NOT_OWNER', message);
      };
      const publish: RelayedPublish = {
        slice: { batch, indexes: undefined },
        get gone() {
          return isGone();
        },
        get behindRefused() {
          return isBehind();
        },
        moved: () => {
          release();
          back('the partition has moved');
        },
        misrouted: () => {
          release();
          back('the topic has grown');
        },
        done: (firstOffset) => {
          release();
          this.send({ kind: 'published', call, firstOffset, count: batch.count });
        },
        failed: ({ code, message }) => {
          release();
          refuse(code, message);
        },
      };
      remote.publish(topic, id, publish);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      refuse(error.code, error.message);
    }
  }

  #attach({
    consumer,
    subscription,
    incarnation,
    client,
    resumes,
    fresh,
  }: PeerRequest & { kind: 'attach' }): void {
    const refuse = (code: ErrorCode, message: string): void =>
      this.send({ kind: 'ended', consumer, code, message });
    if (this.#consumers.has(consumer)) return;
    const runtime = known(() => this.#host.runtimeOf(subscription));
    if (runtime === undefined || runtime.closed || runtime.incarnation < incarnation) {
      // One of the two brokers has not heard of a change yet. If the subscription was deleted, the relay
      // hears of that as well.
      refuse('UNAVAILABLE', `${subscription} is not known here yet`);
      return;
    }
    if (runtime.incarnation > incarnation) {
      refuse('NOT_FOUND', `${subscription} was deleted`);
      return;
    }
    const most = this.#options.maxConsumersPerSubscription;
    if (runtime.consumers >= most) {
      refuse(
        'RESOURCE_EXHAUSTED',
        `${subscription} has ${most} consumers already, which is the limit: end some`,
      );
      return;
    }
    const sink = new PeerSink(consumer, this, this.#window, () => this.#consumers.delete(consumer));
    const session: ShareSession = new ShareSession(
      runtime.nextSessionId(),
      client,
      sink,
      runtime.definition.ackDeadlineMs,
      runtime,
      this.#context.clock,
      {
        outstanding: (outstandingMessages) =>
          this.send({ kind: 'credited', consumer, sequence: attached.sequence, outstandingMessages }),
        wants: (more) => this.send({ kind: 'wants', consumer, more }),
      },
    );
    session.fresh = fresh;
    session.resumes = resumes;
    session.relayed = true;
    const attached: Attached = { session, sink, runtime, sequence: 0 };
    this.#consumers.set(consumer, attached);
    runtime.join(session);
  }

  #credit(request: PeerRequest & { kind: 'credit' }): void {
    const { consumer, sequence, maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs, draining } =
      request;
    const attached = this.#consumers.get(consumer);
    if (attached === undefined) return;
    const { session, runtime } = attached;
    attached.sequence = sequence;
    session.limits = { maxOutstandingMessages, maxOutstandingBytes, ackDeadlineMs };
    runtime.drain(session, draining ?? false);
    runtime.pumpFor(session);
    // The answer comes behind what the credit has delivered: a relay that has lowered the limit to 0 knows
    // that nothing more comes.
    this.send({ kind: 'credited', consumer, sequence, outstandingMessages: session.outstandingMessages });
  }

  async #settleUnary({
    call,
    subscription,
    incarnation,
    operations,
  }: PeerRequest & { kind: 'settleUnary' }): Promise<void> {
    let bounced = operations;
    try {
      bounced = await this.#host.settleOwned({ name: subscription, incarnation }, operations);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      // What was settled is not sure: the relay tries again, which does no harm.
      this.#context.logger.info(
        { relay: this.#relay, reason: error.message },
        'could not settle for a relay',
      );
    }
    this.send({ kind: 'settled', call, bounced });
  }

  async #drain({ call, request }: PeerRequest & { kind: 'drain' }): Promise<void> {
    try {
      this.send({ kind: 'draining', call, report: await this.#host.draining.drain(request) });
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      const failed = { code: error.code, message: error.message };
      this.send({ kind: 'draining', call, report: NOTHING_DRAINS, failed });
    }
  }

  async #backlog({ call, parent, names, question }: PeerRequest & { kind: 'backlog' }): Promise<void> {
    // The empty question is the relay's heartbeat.
    if (parent === '') {
      this.send({ kind: 'backlogs', call, reports: [] });
      return;
    }
    const { host, routes, topics, backlog, context } = this.#options;
    try {
      await whenOwned(host, routes, concerned(host, topics(), names), context.clock);
      this.send({ kind: 'backlogs', call, reports: await backlog.report(parent, names, question) });
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      // A relay that hears nothing gives up after a while; it must not take a part for the whole.
      context.logger.warn({ relay: this.#relay, reason: error.message }, 'no backlog for a relay');
    }
  }
}

/** Looks up something of the host; undefined where that throws that it is not known, or not yet. */
function known<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof BrokerError) return undefined;
    throw error;
  }
}

/** The operations on partitions whose dispatchers are here, and the rest. */
function split(
  runtime: SubscriptionRuntime,
  operations: readonly SettleOperation[],
): { owned: SettleOperation[]; others: SettleOperation[] } {
  const owned: SettleOperation[] = [];
  const others: SettleOperation[] = [];
  for (const operation of operations) (runtime.owns(operation) ? owned : others).push(operation);
  return { owned, others };
}
