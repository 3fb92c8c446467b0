// One relay's link as the owner sees it: what the relay asks of the partitions that this broker owns.
// core/owner-end decides on publishes and consumers; here that is done. Invariant: what it decided is done
// before the next request is heard.
//
//   publish ─▶ the partition's owner, or waits for it here while this broker is to own it
//   attach ─▶ a session of the subscription, whose sink is the link
//
// A relay is trusted: it has checked its client's rights and limits. What it says is bounded and checked all
// the same, because bytes that break a frame would break it for every subscriber.
import type { TopicDefinition } from '../../../core/definitions.ts';
import { NOTHING_DRAINS } from '../../../core/draining.ts';
import { assertNever, BrokerError } from '../../../core/errors.ts';
import { LinkLife } from '../../../core/link-life.ts';
import {
  type KnownSubscription,
  type OwnerEffect,
  OwnerEnd,
  type OwnerEvent,
} from '../../../core/owner-end.ts';
import { parsePublish } from '../../../core/publish-batch.ts';
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
}

export class OwnerLink implements PeerLinkHandler {
  readonly #link: PeerLinkServer;
  readonly #relay: string;
  readonly #options: OwnerLinkOptions;
  readonly #host: PeerHost;
  readonly #context: EngineContext;
  readonly #onClosed: () => void;
  readonly #window: ChunkWindow;
  readonly #end: OwnerEnd;
  readonly #consumers = new Map<number, Attached>();
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
    this.#end = new OwnerEnd(options.maxConsumersPerSubscription);
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
      case 'credit': {
        const { kind, consumer, sequence, draining = false, ...amounts } = request;
        this.#on({ kind, consumer, sequence, limits: { ...amounts, draining } });
        break;
      }
      case 'taken': {
        const attached = this.#consumers.get(request.consumer);
        if (attached === undefined) break;
        const wasWritable = attached.sink.writable;
        attached.sink.taken(request.bytes);
        if (!wasWritable) attached.runtime.pumpFor(attached.session);
        break;
      }
      case 'settle': {
        const runtime = this.#consumers.get(request.consumer)?.runtime;
        if (runtime !== undefined) this.#on({ ...request, owns: (partition) => runtime.owns(partition) });
        break;
      }
      case 'detach':
        this.#on(request);
        break;
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
    this.#on({ kind: 'closed' });
    this.#onClosed();
  }

  #beat(): void {
    this.#cancelBeat = this.#context.clock.setTimer(BEAT_MS, () => {
      if (this.#life.beat()) this.#beat();
      else this.end('nothing was heard of it');
    });
  }

  #publish(request: PeerRequest & { kind: 'publish' }): void {
    const { call, topic: name, partition, attempt } = request;
    const topic = known(() => this.#host.topicDefinition(name));
    const { routes } = this.#options;
    const isMine =
      this.#host.owner(partition) !== undefined || routes.targetOf(partition)?.memberId === routes.selfId;
    this.#on(
      { kind: 'publish', call, topic: name, partition, attempt, logEpoch: topic?.logEpoch, isMine },
      () => this.#take(topic!, request),
    );
  }

  #take(
    topic: TopicDefinition,
    { call, partition, attempt, messages }: PeerRequest & { kind: 'publish' },
  ): void {
    const failed = ({ code, message }: BrokerError): void =>
      this.send({ kind: 'refused', call, reason: code, message });
    try {
      const batch = parsePublish(messages, PUBLISH_LIMITS);
      const release = admit(this.#context, batch);
      const isGone = (): boolean => this.#isClosed;
      const isBehind = (): boolean => this.#end.isBehind(partition, attempt);
      const misplaced = (message: string): void => {
        release();
        this.#on({ kind: 'misplaced', call, partition, attempt, message });
      };
      const publish: RelayedPublish = {
        slice: { batch, indexes: undefined },
        get gone() {
          return isGone();
        },
        get behindRefused() {
          return isBehind();
        },
        moved: () => misplaced('the partition has moved'),
        misrouted: () => misplaced('the topic has grown'),
        done: (firstOffset) => {
          release();
          this.send({ kind: 'published', call, firstOffset, count: batch.count });
        },
        failed: (error) => {
          release();
          failed(error);
        },
      };
      this.#options.remote.publish(topic, partition, publish);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      failed(error);
    }
  }

  #attach(request: PeerRequest & { kind: 'attach' }): void {
    const { consumer, subscription, incarnation } = request;
    const runtime = known(() => this.#host.runtimeOf(subscription));
    const subscriptionHere: KnownSubscription | undefined = runtime && {
      incarnation: runtime.incarnation,
      isClosed: runtime.closed,
      consumers: runtime.consumers,
    };
    this.#on({ kind: 'attach', consumer, subscription, incarnation, known: subscriptionHere }, () =>
      this.#join(runtime!, request),
    );
  }

  #join(
    runtime: SubscriptionRuntime,
    { consumer, client, resumes, fresh }: PeerRequest & { kind: 'attach' },
  ): void {
    const sink = new PeerSink(consumer, this, this.#window, () => {
      this.#consumers.delete(consumer);
      this.#on({ kind: 'gone', consumer });
    });
    const session = new ShareSession(
      runtime.nextSessionId(),
      client,
      sink,
      runtime.definition.ackDeadlineMs,
      runtime,
      this.#context.clock,
      {
        outstanding: () => this.#on({ kind: 'fewer', consumer }),
        wants: (more) => this.send({ kind: 'wants', consumer, more }),
      },
    );
    session.fresh = fresh;
    session.resumes = resumes;
    session.relayed = true;
    this.#consumers.set(consumer, { session, sink, runtime });
    runtime.join(session);
  }

  /** `begin` is called if the publish is taken, or the consumer joins. */
  #on(event: OwnerEvent, begin: () => void = () => undefined): void {
    for (const effect of this.#end.step(event)) this.#do(effect, begin);
  }

  #do(effect: OwnerEffect, begin: () => void): void {
    switch (effect.kind) {
      case 'take':
      case 'join':
        begin();
        break;
      case 'allow': {
        const { session, runtime } = this.#consumers.get(effect.consumer)!;
        const { draining, ...limits } = effect.limits;
        session.limits = limits;
        runtime.drain(session, draining);
        runtime.pumpFor(session);
        break;
      }
      case 'settle': {
        const { session, runtime } = this.#consumers.get(effect.consumer)!;
        runtime.settle(session.id, { operations: effect.operations });
        break;
      }
      case 'leave': {
        const { session, runtime } = this.#takeOut(effect.consumer);
        runtime.leave(session, effect.leases);
        break;
      }
      case 'lose': {
        const { session, runtime } = this.#takeOut(effect.consumer);
        runtime.lose(session);
        break;
      }
      case 'credited': {
        const attached = this.#consumers.get(effect.consumer);
        // What it was allowed may have ended it.
        if (attached === undefined) break;
        this.send({ ...effect, outstandingMessages: attached.session.outstandingMessages });
        break;
      }
      case 'refused':
      case 'ended':
      case 'bounced':
        this.send(effect);
        break;
      default:
        assertNever(effect);
    }
  }

  #takeOut(consumer: number): Attached {
    const attached = this.#consumers.get(consumer)!;
    this.#consumers.delete(consumer);
    return attached;
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
