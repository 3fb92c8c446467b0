// One stream of a consumer at one broker, from both ends.
//
// The near end is the ConsumerSink, in the broker's process: what the broker may see at once (writable, taken
// frames), as the gRPC adapter would. The far end is the client, a network away: a paused broker does not
// keep it from giving up.
import type { SubscriptionDefinition } from '../../../services/broker/core/definitions.ts';
import { BrokerError } from '../../../services/broker/core/errors.ts';
import type { PartitionId } from '../../../services/broker/core/partition.ts';
import type { SettleOperation } from '../../../services/broker/core/settle-request.ts';
import type { Consumer, ConsumerSink } from '../../../services/broker/engine/delivery/consumer.ts';
import type { DeliveredMessages } from '../../../services/broker/engine/delivery/delivered-messages.ts';
import { LocalConsumer } from '../../../services/broker/engine/delivery/local-consumer.ts';
import { RelayedConsumer } from '../../../services/broker/engine/links/relay/relayed-consumer.ts';
import { decodeFrames, type Received } from '../received.ts';
import { describe, operationsFor, type Place } from '../settlements.ts';
import { Violation } from '../violation.ts';
import type { ClusterConsumer } from './consumer.ts';
import type { Holder } from './delivery-truth.ts';
import type { Member } from './member.ts';

const LOOK_MS = 250;

export class ConsumerStream implements ConsumerSink {
  readonly name: string;
  /** Resolves when the stream is lost. */
  readonly over: Promise<void>;
  readonly #owner: ClusterConsumer;
  readonly #member: Member;
  /** What the broker draws for its client, if that has no id. */
  readonly #drawn: number;
  readonly #holder: Holder;
  readonly #resolveOver: () => void;
  readonly #forgetMember: () => void;
  #consumer: Consumer | undefined;
  #definition: SubscriptionDefinition | undefined;
  /** Whether the client's end is open; below, whether the broker's is. */
  #open = true;
  #joined = false;
  #blocked = false;
  #outbox: Buffer[] = [];
  #outboxBytes = 0;
  /** What the next request acknowledges. */
  #ready: Place[] = [];
  #flushing = false;

  constructor(owner: ClusterConsumer, name: string, member: Member) {
    const { world, plan } = owner;
    this.#owner = owner;
    this.name = name;
    this.#member = member;
    this.#drawn = owner.chance.random();
    const { holders } = world.members;
    const hash = owner.hash(this.#drawn);
    this.#holder = world.scenario.alone
      ? holders.stream(member.id, member.losses, hash)
      : holders.holder(member.id, member.losses, hash);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#resolveOver = resolve;
    this.#forgetMember = member.onEnd(() => this.#lose('the broker is gone'));
    world.clock.setTimer(plan.networkMs, () => member.enter(() => this.#join()));
    world.spawn(this.#live());
  }

  // --- near end ---

  get writable(): boolean {
    return this.#joined && this.#outboxBytes < this.#owner.plan.outboxBytes;
  }

  deliver(messages: DeliveredMessages): void {
    const { world } = this.#owner;
    const { frames } = messages;
    if (!this.#joined) world.fail(new Violation(`${this.name} was written to after its end`));
    if (this.#owner.hasNewer(this))
      world.fail(new Violation(`${this.name} was written to, and its client has a newer stream there`));
    if (!this.writable) world.fail(new Violation(`${this.name} was written to with a full outbox`));
    this.#member.lastSink = { kind: 'stream', frames, holder: this.#holder, stream: this };
    this.#outboxBytes += frames.length;
    if (this.#blocked) this.#outbox.push(frames);
    else this.#transmit(frames);
  }

  /** A lone broker has given it something: it has no more than its credit, and its partitions take turns. */
  judge(definition: SubscriptionDefinition, partition: PartitionId): void {
    const { world, judgesTurns } = this.#owner;
    if (judgesTurns) world.checker.tookTurn(definition, partition);
    const consumer = this.#consumer;
    if (!(consumer instanceof LocalConsumer)) return;
    const { outstandingMessages, outstandingBytes, limits } = consumer.session;
    const held = world.checker.heldBy(definition, this.#holder);
    if (Math.max(outstandingMessages, held) > limits.maxOutstandingMessages)
      throw new Violation(
        `${this.name} has ${held} messages, ${outstandingMessages} as the broker counts; its credit is ${limits.maxOutstandingMessages}`,
      );
    // Parts of leases are counted in proportion, so the sum may be off by a byte.
    if (outstandingMessages > 1 && outstandingBytes > limits.maxOutstandingBytes + 1)
      throw new Violation(
        `${this.name} has ${outstandingBytes} bytes; its credit is ${limits.maxOutstandingBytes}`,
      );
  }

  /**
   * As the transport does: a consumer that has not said how long its leases are has them as the subscription
   * says.
   */
  describe({ ackDeadlineMs }: SubscriptionDefinition): void {
    const consumer = this.#consumer;
    if (consumer === undefined || this.#owner.plan.ackDeadlineMs !== undefined) return;
    consumer.limits = { ...consumer.limits, ackDeadlineMs };
  }

  close(error: BrokerError): void {
    this.#joined = false;
    this.#holder.departures += 1;
    this.#owner.world.clock.setTimer(this.#owner.plan.networkMs, () => this.#lose(error.message));
  }

  /** Whether both are at the same broker, this one for certain. */
  isAt(other: ConsumerStream): boolean {
    return this.#joined && this.#consumer !== undefined && this.#member === other.#member;
  }

  unblock(): void {
    this.#blocked = false;
    for (const frames of this.#outbox.splice(0)) this.#transmit(frames);
  }

  #join(): void {
    const { world, plan, subscription, clientId } = this.#owner;
    if (!this.#open) return;
    try {
      if (this.#member.isCutOff) throw new BrokerError('UNAVAILABLE', 'connect to another broker');
      this.#definition = this.#member.broker.runtimeOf(subscription).definition;
      this.#joined = true;
      world.members.holders.supersede(this.#holder);
      this.#member.draws = this.#drawn;
      this.#consumer = this.#member.broker.subscribe(
        subscription,
        this,
        {
          maxOutstandingMessages: plan.maxOutstandingMessages,
          maxOutstandingBytes: plan.maxOutstandingBytes,
          ackDeadlineMs: plan.ackDeadlineMs,
        },
        { origin: { clientId, peerAddress: '' } },
      );
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      this.#joined = false;
      world.clock.setTimer(plan.networkMs, () => this.#lose('refused'));
      return;
    }
    if (world.trace.on) world.say(this.name, `joins ${subscription} at ${this.#member.id}`);
    world.clock.setTimer(plan.networkMs, () => this.#sayLate());
  }

  #transmit(frames: Buffer): void {
    const { world, plan } = this.#owner;
    world.clock.setTimer(plan.networkMs, () => {
      if (!this.#open) return;
      this.#member.enter(() => {
        const wasWritable = this.writable;
        this.#outboxBytes -= frames.length;
        if (!wasWritable && this.writable) this.#consumer?.pump();
      });
      for (const message of decodeFrames(frames)) this.#receive(message);
    });
  }

  // --- far end ---

  #receive(message: Received): void {
    const { world, plan, chance, good, subscription } = this.#owner;
    if (world.trace.on)
      world.say(
        this.name,
        `gets ${message.logEpoch}.${message.partition}-${message.offset}-${message.attempt}`,
      );
    world.histories.handed(subscription, this.name, world.clock.monotonicMs(), message);
    const [minMs, maxMs] = plan.workMs;
    const workMs = chance.int(minMs, good ? Math.min(maxMs, 20) : maxMs);
    const fate = chance.random();
    world.clock.setTimer(workMs, () => {
      if (good || fate >= plan.nack + plan.forget + plan.extend) this.#acknowledge(message);
      else if (fate < plan.nack) this.#request(operationsFor(chance, 'nack', [message]));
      else if (fate < plan.nack + plan.extend) this.#extend(message);
    });
  }

  #extend(message: Place): void {
    const { world, chance } = this.#owner;
    const seconds = chance.int(1, 5);
    this.#request(operationsFor(chance, 'extend', [message], seconds));
    world.clock.setTimer(chance.int(0, seconds * 1_200), () => this.#acknowledge(message));
  }

  #acknowledge(place: Place): void {
    if (!this.#open) return;
    const { world, chance, subscription } = this.#owner;
    world.histories.acked(subscription, this.name, world.clock.monotonicMs(), place);
    this.#ready.push(place);
    if (this.#flushing) return;
    this.#flushing = true;
    world.clock.setTimer(chance.pick([0, 1, 10, 50]), () => {
      this.#flushing = false;
      this.#request(operationsFor(chance, 'ack', this.#ready.splice(0)));
    });
  }

  /** A request reaches the broker a network later; one of a lost stream never gets there. */
  #request(operations: readonly SettleOperation[]): void {
    const { world, plan } = this.#owner;
    if (!this.#open || operations.length === 0 || this.#definition === undefined) return;
    if (world.trace.on) world.say(this.name, describe(operations));
    const tell = (): void => world.checker.settling(this.#definition!, operations, this.#holder);
    const { alone } = world.scenario;
    if (!alone) tell();
    world.clock.setTimer(plan.networkMs, () => {
      if (!this.#open) return;
      this.#member.enter(() => {
        if (!this.#joined) return;
        if (alone) tell();
        this.#consumer?.settle({ operations });
      });
    });
  }

  #sayLate(): void {
    const { late, chance } = this.#owner;
    this.#owner.late = undefined;
    if (late?.incarnation !== this.#definition?.incarnation) return;
    this.#request(operationsFor(chance, 'ack', late?.places ?? []));
  }

  /** The client's moods, until the stream is over. */
  async #live(): Promise<void> {
    const { world, plan, chance } = this.#owner;
    const patienceMs = chance.scale(500, 6_000);
    let silentMs = 0;
    while (this.#open && !world.over) {
      await world.sleep(LOOK_MS);
      // The client's keepalive.
      silentMs = this.#member.paused ? silentMs + LOOK_MS : 0;
      if (silentMs > patienceMs) this.#hangUp('hears nothing');
      if (this.#member.isCutOff && !this.#member.paused) this.#hangUp('is sent away');
      if (this.#owner.good || !this.#open) continue;
      const happens = (perSecond: number): boolean => chance.bool((perSecond * LOOK_MS) / 1000);
      if (happens(plan.leaves)) this.#hangUp('hangs up');
      else if (happens(plan.blocks)) await this.#block();
      else if (happens(plan.changesCredit)) this.#changeCredit();
    }
    if (this.#open) this.#hangUp('is at the end');
  }

  async #block(): Promise<void> {
    const { world, chance } = this.#owner;
    world.say(this.name, 'stops reading');
    this.#blocked = true;
    await world.sleep(chance.scale(50, 5_000));
    if (!this.#blocked) return;
    world.say(this.name, 'reads on');
    this.unblock();
  }

  #changeCredit(): void {
    const { world, chance } = this.#owner;
    const credit = {
      maxOutstandingMessages: chance.scale(1, 60),
      maxOutstandingBytes: chance.scale(60, 20_000),
    };
    this.#member.enter(() => {
      if (!this.#joined || this.#consumer === undefined) return;
      if (world.trace.on) world.say(this.name, `has now credit ${JSON.stringify(credit)}`);
      this.#consumer.limits = { ...this.#consumer.limits, ...credit };
    });
  }

  #hangUp(why: string): void {
    const { chance, plan, good } = this.#owner;
    if (this.#ready.length > 0 && chance.bool(0.5) && this.#definition !== undefined)
      this.#owner.late = { incarnation: this.#definition.incarnation, places: [...this.#ready] };
    const isHalfOpen = plan.halfOpenMs > 0 && !good && chance.bool(0.5);
    this.#lose(why, isHalfOpen ? chance.scale(1, plan.halfOpenMs) : 0);
  }

  /** Idempotent. The broker hears of it so much later, or when it runs again. */
  #lose(why: string, heardAfterMs = 0): void {
    if (!this.#open) return;
    const { world } = this.#owner;
    this.#open = false;
    if (!world.scenario.alone) this.#holder.departures += 1;
    this.#forgetMember();
    if (this.#consumer instanceof RelayedConsumer)
      world.members.holders.streamEnded(this.#consumer.client.stream);
    if (world.trace.on) world.say(this.name, `is over: ${why}`);
    this.#member.clock.setTimer(heardAfterMs, () => {
      this.#joined = false;
      this.#holder.departures += 1;
      const consumer = this.#consumer;
      consumer?.leave();
      const left = consumer instanceof LocalConsumer ? consumer.session.outstandingMessages : 0;
      if (left > 0) world.fail(new Violation(`${this.name} has left, and keeps ${left} messages`));
    });
    this.#resolveOver();
  }
}
