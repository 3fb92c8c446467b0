// Who holds what: the clients at each broker, as owners give them messages, directly and over links. The
// checker is told of every delivery as the owner makes it, before any network.
import type { ConsumerIdentity } from '../../../services/broker/core/consumer-client.ts';
import type { PeerLinkServer } from '../../../services/broker/ports/peer.ts';
import type { DeliveryWrite } from '../../../services/broker/ports/telemetry.ts';
import type { AcceptLink } from '../../support/memory-peers.ts';
import type { Holder } from './delivery-truth.ts';
import { EarlyPublishes } from './early-publishes.ts';
import type { Member } from './member.ts';
import type { ClusterWorld } from './world.ts';

/** The hash of everybody who pulls at the owner itself. */
const PULL_HASH = 0;

export class Holders {
  readonly #world: ClusterWorld;
  readonly #holders = new Map<string, Holder>();
  /** The names of streams that have ended, by the brokers that they were at. */
  readonly #ended = new Set<string>();
  readonly #ackDeadlines = new Map<number, number | undefined>();

  constructor(world: ClusterWorld) {
    this.#world = world;
  }

  holder(relay: string, losses: { count: number }, hash: number): Holder {
    const key = `${relay} ${hash}`;
    let holder = this.#holders.get(key);
    if (holder === undefined) {
      holder = { hash, relay, losses, departures: 0, ackDeadlineMs: this.#ackDeadlines.get(hash) };
      this.#holders.set(key, holder);
    }
    return holder;
  }

  /** A stream at a lone broker, which knows each by itself. */
  stream(relay: string, losses: { count: number }, hash: number): Holder {
    return { hash, relay, losses, departures: 0, ackDeadlineMs: this.#ackDeadlines.get(hash) };
  }

  /** A client's new stream takes the place of those it has elsewhere, if nobody has noticed their end yet. */
  supersede(newest: Holder): void {
    for (const holder of this.#holders.values())
      if (holder.hash === newest.hash && holder !== newest) holder.departures += 1;
  }

  streamEnded(name: string): void {
    this.#ended.add(name);
  }

  /** A client of that hash asks for that ack deadline; undefined: the subscription's. */
  knows(hash: number, ackDeadlineMs: number | undefined): void {
    this.#ackDeadlines.set(hash, ackDeadlineMs);
  }

  /** The owner's end of links to the member, with a look at everything that goes over them. */
  watch(member: Member, accept: AcceptLink): AcceptLink {
    const { sabotage, trace } = this.#world;
    return (link, relay) => {
      const losses = this.#world.members.all.find(({ id }) => id === relay)!.losses;
      const clients = new Map<number, ConsumerIdentity>();
      const publishes = new EarlyPublishes(this.#world.checker, member);
      let open = true;
      const lost = (): void => {
        if (open) losses.count += 1;
        open = false;
      };
      const watched: PeerLinkServer = {
        send: (answer) => {
          if (answer.kind === 'deliver') {
            const { hash, stream } = clients.get(answer.consumer)!;
            const isOver = this.#ended.has(stream);
            member.lastSink = { kind: 'link', holder: this.holder(relay, losses, hash), isOver };
          }
          if (trace.on && answer.kind !== 'chunk' && answer.kind !== 'deliver' && answer.kind !== 'backlogs')
            trace.say(member.id, `answers ${relay}: ${JSON.stringify(answer)}`);
          const told = sabotage.answer === undefined ? answer : sabotage.answer(answer);
          if (told === undefined) return true;
          if (told.kind === 'published') this.#judge(() => publishes.answered(told));
          return link.send(told);
        },
        close: () => {
          lost();
          link.close();
        },
      };
      const handler = accept(watched, relay);
      return {
        request: (request) => {
          if (request.kind === 'attach') {
            clients.set(request.consumer, request.client);
            if (request.client.kind === 'stream')
              this.supersede(this.holder(relay, losses, request.client.hash));
          }
          // What was given to the consumer meanwhile has reached nobody. Its attach may have been swallowed.
          const left = request.kind === 'detach' && request.leases === 'end' ? request.consumer : undefined;
          const client = left === undefined ? undefined : clients.get(left);
          if (client !== undefined) this.holder(relay, losses, client.hash).departures += 1;
          if (trace.on && request.kind !== 'backlog')
            trace.say(
              member.id,
              `hears from ${relay}: ${JSON.stringify({ ...request, messages: undefined })}`,
            );
          const heard = sabotage.request === undefined ? request : sabotage.request(request);
          if (heard?.kind === 'publish') publishes.asked(heard);
          if (heard !== undefined) handler.request(heard);
        },
        writableAgain: () => handler.writableAgain(),
        closed: () => {
          lost();
          handler.closed();
        },
      };
    };
  }

  /** A delivery as the owner makes it. */
  delivered(member: Member, { subscription, partition, frames }: DeliveryWrite): void {
    const world = this.#world;
    const { lastSink } = member;
    member.lastSink = undefined;
    const known = lastSink?.kind === 'link' || lastSink?.frames === frames;
    const holder = known ? lastSink.holder : this.holder(member.id, member.losses, PULL_HASH);
    this.#judge(() => {
      const { definition } = member.broker.runtimeOf(subscription);
      const messages = world.checker.delivered(member.id, definition, partition, frames, holder);
      // Whoever hears of the stream's end may be another owner by then.
      if (lastSink?.kind === 'link' && lastSink.isOver) holder.departures += 1;
      if (world.scenario.alone && lastSink?.kind === 'stream') lastSink.stream.judge(definition, partition);
      if (!world.trace.on) return;
      const places = messages.map(
        ({ offset, attempt, key }) => `${offset}${attempt > 1 ? `-${attempt}` : ''}${key && `(${key})`}`,
      );
      const to = `${holder.hash.toString(16)} at ${holder.relay}`;
      world.say(
        member.id,
        `gives ${subscription.split('/').at(-1)} of ${partition.logEpoch}.${partition.partition}: ${places.join(' ')} to ${to}`,
      );
    });
  }

  #judge(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      this.#world.fail(error);
    }
  }
}
