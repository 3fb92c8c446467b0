// A publisher as services/client has it: several batches under way, but never two that share a key; what was
// not answered is sent again, in order, before anything new.

import { BrokerError } from '../../services/broker/core/errors.ts';
import { type PublishBatch, parsePublish } from '../../services/broker/core/publish-batch.ts';
import { LIMITS, requestBytes } from '../support/publish-requests.ts';
import type { Life } from './life.ts';
import type { SentMessage } from './log-history.ts';
import type { Chance } from './prng.ts';
import { contentOf } from './received.ts';
import type { PublisherPlan } from './scenario.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

interface Batch {
  readonly id: number;
  readonly messages: readonly SentMessage[];
  readonly request: PublishBatch;
  readonly keys: ReadonlySet<string>;
}

export class SimPublisher {
  readonly name: string;
  readonly #world: World;
  readonly #topic: string;
  readonly #plan: PublisherPlan;
  readonly #chance: Chance;
  #made = 0;
  #messages = 0;
  /** How many messages were made of each key. */
  readonly #ofKey = new Map<string, number>();
  /** A batch that is made, and held back because one of its keys is under way. */
  #waiting: Batch | undefined;
  #again: Batch[] = [];
  /** Batches under way on the current stream. */
  readonly #sent = new Map<number, Batch>();
  #stream = 0;
  #pausing = false;

  constructor(world: World, topic: string, plan: PublisherPlan) {
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
    while (!this.#world.over && this.#made < this.#plan.batches) {
      await this.#world.sleep(this.#chance.scale(1, this.#plan.pauseMs));
      if (this.#waiting !== undefined) continue;
      this.#waiting = this.#make();
      this.#pump();
      if (this.#chance.bool(this.#plan.disconnects)) this.#breakOff();
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
    this.#world.checker.logs.made(messages);
    const request = parsePublish(requestBytes(this.#topic, bodies), LIMITS);
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

  #send(batch: Batch): void {
    const world = this.#world;
    const life = world.reachable();
    this.#sent.set(batch.id, batch);
    const stream = this.#stream;
    if (life === undefined) {
      world.clock.setTimer(this.#plan.networkMs, () => this.#refused(stream, batch, UNREACHABLE));
      return;
    }
    let answered = false;
    const forget = life.onDeath(() => {
      answered = true;
      if (stream === this.#stream) this.#breakOff();
    });
    const answer = (then: () => void): void => {
      if (answered) world.fail(new Violation(`${this.name} was answered twice on batch ${batch.id}`));
      answered = true;
      forget();
      world.clock.setTimer(this.#plan.networkMs, () => {
        // An answer of a broker that has died may still come through; on a broken stream nothing does.
        if (stream === this.#stream) then();
      });
    };
    world.clock.setTimer(this.#plan.networkMs, () => {
      if (stream !== this.#stream || !life.alive) forget();
      else this.#arrive(life, batch, stream, answer);
    });
  }

  #arrive(life: Life, batch: Batch, stream: number, answer: (then: () => void) => void): void {
    const world = this.#world;
    const refuse = (error: BrokerError): void => {
      if (world.trace.on) world.say(this.name, `batch ${batch.id} is refused: ${error.code}`);
      try {
        if (error.code === 'RESOURCE_EXHAUSTED') world.checker.logs.refused(batch.messages);
      } catch (violation) {
        world.fail(violation);
      }
      answer(() => this.#refused(stream, batch, error));
    };
    if (world.trace.on) {
      const keys = batch.messages.map(({ identity, key }) => `${identity.split('/')[1]}${key && `(${key})`}`);
      world.say(this.name, `batch ${batch.id}: ${keys.join(' ')}`);
    }
    try {
      const { logEpoch, durability } = life.broker.topicDefinition(this.#topic);
      world.checker.logs.sending(batch.messages);
      life.broker.publish(
        this.#topic,
        batch.request,
        (runs) => {
          if (world.trace.on) world.say(this.name, `batch ${batch.id} is stored: ${JSON.stringify(runs)}`);
          try {
            world.checker.logs.told(logEpoch, batch.messages, runs, durability === 'memory');
          } catch (error) {
            world.fail(error);
          }
          answer(() => this.#accepted(batch));
        },
        refuse,
      );
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      refuse(error);
    }
  }

  #accepted(batch: Batch): void {
    this.#sent.delete(batch.id);
    this.#pump();
  }

  #refused(stream: number, batch: Batch, error: BrokerError): void {
    if (stream !== this.#stream) return;
    this.#sent.delete(batch.id);
    if (error.retriable) this.#later([batch]);
    // The topic was deleted: the batch is given up, as a client would.
    else if (error.code === 'NOT_FOUND') this.#pump();
    else this.#world.fail(error);
  }

  /** Nothing more comes back on the stream: all that was under way is sent again. */
  #breakOff(): void {
    this.#stream += 1;
    const unanswered = [...this.#sent.values()];
    this.#sent.clear();
    if (unanswered.length > 0) this.#later(unanswered);
  }

  #later(batches: readonly Batch[]): void {
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
