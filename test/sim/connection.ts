// One stream of a consumer, from both ends: slow, blocked, forgetful, acknowledging in odd ways, until it is
// over.
//
// The near end is the ConsumerSink: what the broker may see at once (writable, taken frames), as the gRPC
// adapter would. The far end is the client, a network away.
import type { SubscriptionDefinition } from '../../services/broker/core/definitions.ts';
import type { BrokerError } from '../../services/broker/core/errors.ts';
import type { SettleOperation } from '../../services/broker/core/settle-request.ts';
import {
  type Consumer,
  type ConsumerSink,
  type DeliveredMessages,
  LocalConsumer,
} from '../../services/broker/engine/delivery/consumer.ts';
import type { SimConsumer } from './consumer.ts';
import type { Life } from './life.ts';
import { decodeFrames, type Received } from './received.ts';
import { describe, operationsFor, type Place } from './settlements.ts';
import { Violation } from './violation.ts';

export class Connection implements ConsumerSink {
  readonly name: string;
  /** Resolves when the connection is lost. */
  readonly over: Promise<void>;
  readonly #owner: SimConsumer;
  readonly #life: Life;
  readonly #resolveOver: () => void;
  readonly #forgetLife: () => void;
  #consumer: Consumer | undefined;
  #definition: SubscriptionDefinition | undefined;
  /**
   * Whether the client's end is open; below, whether the broker's is: for a while a connection can be
   * half-open.
   */
  #open = true;
  #joined = false;
  #forgetNotice: (() => void) | undefined;
  #blocked = false;
  /** Written by the broker and not taken by the network. */
  #outbox: Buffer[] = [];
  #outboxBytes = 0;
  /** Delivered before subscribe() had returned. */
  #early: Buffer[] | undefined = [];
  /** What the next request acknowledges. */
  #ready: Place[] = [];
  #flushing = false;

  constructor(owner: SimConsumer, name: string, life: Life) {
    this.#owner = owner;
    this.name = name;
    this.#life = life;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#resolveOver = resolve;
    this.#forgetLife = life.onDeath(() => {
      this.#joined = false;
      this.#forgetNotice?.();
      this.#lose('the broker is gone');
    });
  }

  open(subscription: string): void {
    const { plan, world } = this.#owner;
    this.#joined = true;
    try {
      this.#definition = this.#life.broker.runtimeOf(subscription).definition;
      this.#consumer = this.#life.broker.subscribe(
        subscription,
        this,
        {
          maxOutstandingMessages: plan.maxOutstandingMessages,
          maxOutstandingBytes: plan.maxOutstandingBytes,
          ackDeadlineMs: plan.ackDeadlineMs,
        },
        { origin: { clientId: plan.anonymous ? '' : plan.name, peerAddress: '' } },
      );
    } catch (error) {
      this.#joined = false;
      this.#lose('refused');
      throw error;
    }
    if (world.trace.on) world.say(this.name, `joins ${subscription}`);
    const early = this.#early!;
    this.#early = undefined;
    for (const frames of early) this.#delivered(frames);
    this.#sayLate();
    world.spawn(this.#live());
  }

  // --- near end ---

  get writable(): boolean {
    return this.#joined && this.#outboxBytes < this.#owner.plan.outboxBytes;
  }

  deliver({ frames }: DeliveredMessages): void {
    const { world } = this.#owner;
    if (!this.#joined) world.fail(new Violation(`${this.name} was written to after its end`));
    if (this.#owner.isSuperseded(this))
      world.fail(new Violation(`${this.name} was written to, and its client has a newer stream`));
    if (!this.writable) world.fail(new Violation(`${this.name} was written to with a full outbox`));
    this.#outboxBytes += frames.length;
    if (this.#early !== undefined) this.#early.push(frames);
    else this.#delivered(frames);
  }

  close(error: BrokerError): void {
    this.#noticed();
    this.#lose(error.message);
  }

  unblock(): void {
    this.#blocked = false;
    for (const frames of this.#outbox.splice(0)) this.#transmit(frames);
  }

  #delivered(frames: Buffer): void {
    const { world } = this.#owner;
    const definition = this.#definition!;
    const messages = decodeFrames(frames);
    if (world.trace.on) world.say(this.name, `is sent ${listed(messages)}`);
    try {
      const deadlineMs = world.clock.monotonicMs() + this.#consumer!.limits.ackDeadlineMs;
      world.checker.delivered(definition, this.name, messages, deadlineMs);
      this.#checkCredit(definition);
      if (this.#owner.judgesTurns) world.checker.tookTurn(definition, messages[0]!.partition);
    } catch (error) {
      world.fail(error);
    }
    if (this.#blocked) this.#outbox.push(frames);
    else this.#transmit(frames);
  }

  #checkCredit(definition: SubscriptionDefinition): void {
    const consumer = this.#consumer!;
    const { limits } = consumer;
    const { outstandingMessages, outstandingBytes } =
      consumer instanceof LocalConsumer ? consumer.session : { outstandingMessages: 0, outstandingBytes: 0 };
    const held = this.#owner.world.checker.heldBy(definition, this.name);
    if (Math.max(outstandingMessages, held) > limits.maxOutstandingMessages) {
      throw new Violation(
        `${this.name} has ${held} messages, ${outstandingMessages} as the broker counts; its credit is ${limits.maxOutstandingMessages}`,
      );
    }
    // Parts of leases are counted in proportion, so the sum may be off by a byte.
    if (outstandingMessages > 1 && outstandingBytes > limits.maxOutstandingBytes + 1)
      throw new Violation(
        `${this.name} has ${outstandingBytes} bytes; its credit is ${limits.maxOutstandingBytes}`,
      );
  }

  #transmit(frames: Buffer): void {
    const { world, plan } = this.#owner;
    world.clock.setTimer(plan.networkMs, () => {
      if (!this.#open) return;
      const wasWritable = this.writable;
      this.#outboxBytes -= frames.length;
      if (!wasWritable && this.writable) this.#consumer!.pump();
      for (const message of decodeFrames(frames)) this.#receive(message);
    });
  }

  // --- far end ---

  #receive(message: Received): void {
    const { world, plan, chance, good } = this.#owner;
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
    this.#ready.push(place);
    if (this.#flushing) return;
    this.#flushing = true;
    const { world, chance } = this.#owner;
    world.clock.setTimer(chance.pick([0, 1, 10, 50]), () => {
      this.#flushing = false;
      this.#request(operationsFor(chance, 'ack', this.#ready.splice(0)));
    });
  }

  /** A request reaches the broker a network later; one of a lost connection never gets there. */
  #request(operations: readonly SettleOperation[]): void {
    const { world, plan } = this.#owner;
    world.clock.setTimer(plan.networkMs, () => {
      if (!this.#open || operations.length === 0) return;
      if (world.trace.on) world.say(this.name, describe(operations));
      world.checker.settling(this.#definition!, this.name, operations);
      this.#consumer!.settle({ operations });
    });
  }

  #sayLate(): void {
    const { late, chance } = this.#owner;
    this.#owner.late = undefined;
    if (late?.incarnation !== this.#definition!.incarnation) return;
    this.#request(operationsFor(chance, 'ack', late.places));
  }

  /** The client's moods, until the connection is over. */
  async #live(): Promise<void> {
    const { world, plan, chance } = this.#owner;
    const LOOK_MS = 200;
    while (this.#open && !world.over) {
      await world.sleep(LOOK_MS);
      if (this.#owner.good || !this.#open) continue;
      const happens = (perSecond: number): boolean => chance.bool((perSecond * LOOK_MS) / 1000);
      if (happens(plan.crashes)) this.#hangUp();
      else if (happens(plan.blocks)) await this.#block();
      else if (happens(plan.changesCredit)) this.#changeCredit();
    }
    if (this.#open) this.#hangUp();
  }

  async #block(): Promise<void> {
    const { world, chance } = this.#owner;
    world.say(this.name, 'stops reading');
    this.#blocked = true;
    await world.sleep(chance.scale(50, 10_000));
    if (!this.#blocked) return;
    world.say(this.name, 'reads on');
    this.unblock();
  }

  #changeCredit(): void {
    const { world, chance } = this.#owner;
    const consumer = this.#consumer!;
    const limits = {
      ...consumer.limits,
      maxOutstandingMessages: chance.scale(1, 60),
      maxOutstandingBytes: chance.scale(60, 20_000),
    };
    if (world.trace.on) world.say(this.name, `has now credit ${JSON.stringify(limits)}`);
    consumer.limits = limits;
  }

  #hangUp(): void {
    const { chance, plan, good } = this.#owner;
    if (this.#ready.length > 0 && chance.bool(0.5))
      this.#owner.late = { incarnation: this.#definition!.incarnation, places: [...this.#ready] };
    const isHalfOpen = plan.halfOpenMs > 0 && !good && chance.bool(0.5);
    this.#lose('hangs up', isHalfOpen ? chance.scale(1, plan.halfOpenMs) : 0);
  }

  /** Idempotent. The broker notices it so much later. */
  #lose(why: string, noticedAfterMs = 0): void {
    if (!this.#open) return;
    const { world } = this.#owner;
    this.#open = false;
    if (world.trace.on) world.say(this.name, `is over: ${why}`);
    if (noticedAfterMs > 0) this.#forgetNotice = world.clock.setTimer(noticedAfterMs, () => this.#noticed());
    else this.#noticed();
    this.#resolveOver();
  }

  /** The broker learns of the end, as the transport would tell it. Idempotent. */
  #noticed(): void {
    this.#forgetLife();
    this.#forgetNotice?.();
    const consumer = this.#consumer;
    if (!this.#joined || consumer === undefined) return;
    const { world } = this.#owner;
    this.#joined = false;
    if (!this.#open && world.trace.on) world.say(this.name, 'is noticed to be over');
    world.checker.left(this.#definition!, this.name);
    consumer.leave();
    const outstandingMessages = consumer instanceof LocalConsumer ? consumer.session.outstandingMessages : 0;
    if (outstandingMessages > 0)
      world.fail(new Violation(`${this.name} has left, and keeps ${outstandingMessages} messages`));
  }
}

function listed(messages: readonly Received[]): string {
  return messages
    .map(({ logEpoch, partition, offset, attempt, key }) => {
      const again = attempt > 1 ? `-${attempt}` : '';
      return `${logEpoch}.${partition}-${offset}${again}${key && `(${key})`}`;
    })
    .join(' ');
}
