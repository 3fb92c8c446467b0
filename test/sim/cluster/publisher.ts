// A publisher as services/client has it, at one broker or another: several batches under way, but never two
// that share a key; what was not answered is sent again, perhaps elsewhere, in order, before anything new.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { type PublishBatch, parsePublish } from '../../../services/broker/core/publish-batch.ts';
import type { PublishedRun } from '../../../services/broker/engine/routed-batch.ts';
import { LIMITS, requestBytes } from '../../support/publish-requests.ts';
import type { Chance } from '../prng.ts';
import { contentOf } from '../received.ts';
import type { SentMessage } from '../sent-message.ts';
import { Violation } from '../violation.ts';
import type { Member } from './member.ts';
import type { PublisherPlan } from './scenario.ts';
import type { ClusterWorld } from './world.ts';

interface Batch {
  readonly id: number;
  readonly messages: readonly SentMessage[];
  readonly request: PublishBatch;
  readonly keys: ReadonlySet<string>;
}

/** The longest a client waits for an answer: the broker waits 10 s for an owner. */
const LONGEST_PATIENCE_MS = 15_000;

export class ClusterPublisher {
  readonly name: string;
  readonly #world: ClusterWorld;
  readonly #topic: string;
  readonly #plan: PublisherPlan;
  readonly #chance: Chance;
  #made = 0;
  #messages = 0;
  readonly #ofKey = new Map<string, number>();
  /** A batch that is made, and held back because one of its keys is under way. */
  #waiting: Batch | undefined;
  #again: Batch[] = [];
  /** Batches under way on the current stream. */
  readonly #sent = new Map<number, Batch>();
  #stream = 0;
  #member: Member | undefined;
  #forgetMember: () => void = () => {};
  #pausing = false;

  constructor(world: ClusterWorld, topic: string, plan: PublisherPlan) {
    this.#world = world;
    this.#topic = topic;
    this.#plan = plan;
    this.name = plan.name;
    this.#chance = world.chance.fork();
    world.spawn(this.#run());
  }

  get unanswered(): number {
    return this.#sent.size + this.#again.length + (this.#waiting === undefined ? 0 : 1);
  }

  get finished(): boolean {
    return this.#made === this.#plan.batches && this.unanswered === 0;
  }

  async #run(): Promise<void> {
    const world = this.#world;
    while (!world.over && this.#made < this.#plan.batches) {
      await world.sleep(this.#chance.scale(1, this.#plan.pauseMs));
      if (this.#waiting !== undefined) continue;
      this.#waiting = this.#make();
      this.#pump();
      if (this.#chance.bool(this.#plan.leaves)) this.#breakOff('changes to another broker');
    }
  }

  #make(): Batch {
    const { name, maxBatch, keys, keyless, hot, maxDataBytes } = this.#plan;
    this.#made += 1;
    const id = this.#made;
    const firstOfKey = new Map<string, number>();
    const bodies: { data: Uint8Array; attributes: Record<string, string>; orderingKey: string }[] = [];
    const messages = Array.from({ length: this.#chance.int(1, maxBatch) }, (): SentMessage => {
      this.#messages += 1;
      const identity = `${name}/${this.#messages}`;
      const nthKey = this.#chance.bool(hot) ? 1 : this.#chance.int(1, keys);
      const key = this.#chance.bool(keyless) ? '' : `key ${nthKey}`;
      const nth = (this.#ofKey.get(key) ?? 0) + 1;
      this.#ofKey.set(key, nth);
      const batchFirst = firstOfKey.get(key) ?? nth;
      firstOfKey.set(key, batchFirst);
      const data = Buffer.from(`${identity}|${'.'.repeat(this.#chance.int(0, maxDataBytes))}`);
      const attributes: Record<string, string> = this.#chance.bool(0.2) ? { n: String(id), ä: '€' } : {};
      bodies.push({ data, attributes, orderingKey: key });
      return { identity, key, content: contentOf(data, attributes, key), batch: id, nth, batchFirst };
    });
    const request = parsePublish(requestBytes(this.#topic, bodies), LIMITS);
    this.#world.histories.publishes(this.#topic, messages);
    return { id, messages, request, keys: new Set([...firstOfKey.keys()].filter((key) => key !== '')) };
  }

  #pump(): void {
    while (!this.#pausing && this.#sent.size < this.#plan.inFlight) {
      const batch = this.#again.shift() ?? this.#takeNew();
      if (batch === undefined) return;
      this.#send(batch);
    }
  }

  #takeNew(): Batch | undefined {
    const batch = this.#waiting;
    if (batch === undefined) return undefined;
    for (const { keys } of this.#sent.values())
      if ([...keys].some((key) => batch.keys.has(key))) return undefined;
    this.#waiting = undefined;
    return batch;
  }

  /** The broker at which the current stream ends. */
  #connected(): Member | undefined {
    if (this.#member?.alive !== true) {
      this.#forgetMember();
      this.#member = this.#world.members.reachable(this.#chance);
      this.#forgetMember = this.#member?.onEnd(() => this.#breakOff('has lost its broker')) ?? (() => {});
    }
    return this.#member;
  }

  #send(batch: Batch): void {
    const world = this.#world;
    const { networkMs } = this.#plan;
    const member = this.#connected();
    this.#sent.set(batch.id, batch);
    const stream = this.#stream;
    if (member === undefined) {
      world.clock.setTimer(networkMs, () => this.#refused(stream, batch, UNREACHABLE));
      return;
    }
    const cancelPatience = world.clock.setTimer(this.#chance.scale(500, LONGEST_PATIENCE_MS), () => {
      if (stream === this.#stream && this.#sent.has(batch.id)) this.#breakOff('waits no longer');
    });
    let answered = false;
    const answer = (then: () => void): void => {
      if (answered) world.fail(new Violation(`${this.name} was answered twice on batch ${batch.id}`));
      answered = true;
      cancelPatience();
      world.clock.setTimer(networkMs, () => {
        if (stream === this.#stream) then();
      });
    };
    world.clock.setTimer(networkMs, () => {
      member.enter(() => {
        if (stream === this.#stream) this.#arrive(member, batch, stream, answer);
      });
    });
  }

  #arrive(member: Member, batch: Batch, stream: number, answer: (then: () => void) => void): void {
    const world = this.#world;
    world.checker.sent.sending(batch.messages, world.clock.monotonicMs());
    const refuse = (error: BrokerError): void => {
      if (error.code === 'RESOURCE_EXHAUSTED') world.checker.sent.refused(batch.messages);
      if (world.trace.on)
        world.say(this.name, `batch ${batch.id} is refused by ${member.id}: ${error.code} ${error.message}`);
      answer(() => this.#refused(stream, batch, error));
    };
    if (world.trace.on) {
      const keys = batch.messages.map(({ identity, key }) => `${identity.split('/')[1]}${key && `(${key})`}`);
      world.say(this.name, `batch ${batch.id} to ${member.id}: ${keys.join(' ')}`);
    }
    try {
      const { logEpoch, durability } = member.broker.topicDefinition(this.#topic);
      const early = durability === 'memory';
      if (early) for (const message of batch.messages) world.checker.sent.had(member.id, message);
      const ended = world.calls.began(member, `batch ${batch.id} of ${this.name}`);
      member.broker.publish(
        this.#topic,
        batch.request,
        (runs) => {
          ended();
          if (world.trace.on) world.say(this.name, `batch ${batch.id} is stored: ${JSON.stringify(runs)}`);
          try {
            world.checker.told({ logEpoch, early }, member.id, batch.messages, runs);
          } catch (error) {
            world.fail(error);
          }
          answer(() => this.#accepted(batch, logEpoch, runs));
        },
        (error) => {
          ended();
          refuse(error);
        },
      );
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      refuse(error);
    }
  }

  #accepted(batch: Batch, logEpoch: number, runs: readonly PublishedRun[]): void {
    this.#world.histories.told(this.#topic, logEpoch, batch.messages, runs);
    this.#sent.delete(batch.id);
    this.#pump();
  }

  #refused(stream: number, batch: Batch, error: BrokerError): void {
    if (stream !== this.#stream) return;
    this.#sent.delete(batch.id);
    if (error.retriable) {
      this.#later([batch]);
      if (error.code === 'UNAVAILABLE' && this.#chance.bool(0.5)) this.#breakOff('tries another broker');
    }
    // The topic was deleted: the batch is given up, as a client would.
    else if (error.code === 'NOT_FOUND') {
      this.#world.checker.sent.givesUp(batch.messages);
      this.#pump();
    } else this.#world.fail(error);
  }

  /** Nothing more comes back on the stream: all that was under way is sent again, perhaps elsewhere. */
  #breakOff(why: string): void {
    if (this.#world.trace.on) this.#world.say(this.name, why);
    this.#stream += 1;
    this.#forgetMember();
    this.#forgetMember = () => {};
    this.#member = undefined;
    const unanswered = [...this.#sent.values()];
    this.#sent.clear();
    if (unanswered.length > 0) this.#later(unanswered);
  }

  #later(batches: readonly Batch[]): void {
    for (const { messages } of batches) this.#world.histories.publishesAgain(this.#topic, messages);
    this.#again = [...this.#again, ...batches].sort((a, b) => a.id - b.id);
    if (this.#pausing) return;
    this.#pausing = true;
    this.#world.clock.setTimer(this.#chance.scale(5, 500), () => {
      this.#pausing = false;
      this.#pump();
    });
  }
}

const UNREACHABLE = new BrokerError('UNAVAILABLE', 'nobody listens');
