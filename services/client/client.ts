// Where a program begins: connect() to a broker or several, then publish, subscribe, administer.
//
//   await using client = connect({ address, tls: { ca, cert, key } });
//   await client.publisher('orders').publish({ data: 'hello' });
//   for await (const message of client.subscribe('audit')) message.ack();
import { Admin } from './admin.ts';
import { MAX_STREAMS_PER_BROKER } from './broker-channels.ts';
import { Cluster } from './cluster.ts';
import { type CallSettings, Connection, type ConnectOptions } from './connection.ts';
import { FanfareError } from './errors.ts';
import type { SubscribeOptions } from './message-source.ts';
import { CONNECT, PUBLISHER, STOP, SUBSCRIBE, SUBSCRIBE_RAW, SUBSCRIBER } from './option-rules.ts';
import { checkOptions, func } from './options.ts';
import { Publisher, type PublisherOptions } from './publisher.ts';
import { type RawSubscribeOptions, RawSubscriber } from './raw-subscriber.ts';
import { type MessageHandler, type StopOptions, Subscriber, type SubscriberOptions } from './subscriber.ts';
import { Subscription } from './subscription.ts';

/**
 * Connects in the background: calls wait for it. FanfareError INVALID_ARGUMENT if an option is wrong or the
 * certificates can't be used; the methods of the client throw it for their options, too.
 */
export function connect(options: ConnectOptions): Client {
  checkOptions('connect()', options, CONNECT);
  return new Client(new Connection(options));
}

/**
 * How many publishers and consumers a client can have open: each has a stream at a broker, and
 * some streams are left to what watches. With `direct` it is half as many, since each then watches
 * its topic's owners, too.
 */
const MAX_OPEN = MAX_STREAMS_PER_BROKER - 200;

interface Part {
  readonly closed: Promise<void>;
  close(how?: StopOptions): Promise<void>;
}

export class Client implements AsyncDisposable {
  readonly admin: Admin;
  readonly cluster: Cluster;
  readonly #connection: Connection;
  readonly #publishers = new Set<Part>();
  readonly #consumers = new Set<Part>();
  readonly #definitionOf = (subscription: string) => this.admin.getSubscription(subscription);
  #closing: Promise<void> | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.admin = new Admin(connection);
    this.cluster = new Cluster(connection);
  }

  get project(): string {
    return this.#connection.project;
  }

  /** host:port of the broker in use. */
  get address(): string {
    return this.#connection.address;
  }

  /**
   * Resolves once a broker has answered. Nobody needs to call it, but it tells at once what publishers and
   * consumers would try again and again. UNAVAILABLE with the reason; DEADLINE_EXCEEDED.
   */
  reach(settings?: CallSettings): Promise<void> {
    return this.#connection.reach(settings);
  }

  /**
   * Publishes to a topic, over its own streams. Make one and keep it. RESOURCE_EXHAUSTED: MAX_OPEN are open.
   */
  publisher(topic: string, options: PublisherOptions = {}): Publisher {
    checkOptions('publisher()', options, PUBLISHER);
    this.#checkRoom();
    return keepIn(this.#publishers, new Publisher(this.#connection, topic, options));
  }

  /**
   * A consumer of a subscription, to be read with `for await`; leaving the loop closes it. Ack every message.
   * RESOURCE_EXHAUSTED: MAX_OPEN are open.
   */
  subscribe(subscription: string, options: SubscribeOptions = {}): Subscription {
    checkOptions('subscribe()', options, SUBSCRIBE);
    this.#checkRoom();
    return keepIn(
      this.#consumers,
      new Subscription(this.#connection, subscription, options, this.#definitionOf),
    );
  }

  /**
   * A consumer that calls a handler for each message: acks it on success, gives it back
   * when the handler throws.
   */
  subscriber(subscription: string, handler: MessageHandler, options: SubscriberOptions = {}): Subscriber {
    func('handler', handler);
    checkOptions('subscriber()', options, SUBSCRIBER);
    this.#checkRoom();
    const subscriber = new Subscriber(this.#connection, subscription, handler, options, this.#definitionOf);
    keepIn(this.#consumers, { closed: subscriber.closed, close: (how) => subscriber.stop(how) });
    return subscriber;
  }

  /** A consumer that gets responses as bytes, for programs that pass them on and for load tests. */
  subscribeRaw(subscription: string, options: RawSubscribeOptions): RawSubscriber {
    checkOptions('subscribeRaw()', options, SUBSCRIBE_RAW);
    this.#checkRoom();
    return keepIn(
      this.#consumers,
      new RawSubscriber(this.#connection, subscription, options, this.#definitionOf),
    );
  }

  /**
   * Stops subscribers, then flushes publishers, all of a kind together, and closes the connections: calls
   * that are still under way, and those that begin later, end with CANCELLED. Subscribers wait for handlers
   * that run, as stop() does: `how` limits that for each. Idempotent.
   */
  close(how: StopOptions = {}): Promise<void> {
    checkOptions('close()', how, STOP);
    if (this.#closing === undefined) this.#closing = this.#close(how);
    else void this.#closeParts(how);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(how: StopOptions): Promise<void> {
    // Consumers go first: their handlers may publish.
    const ends = await this.#closeParts(how);
    this.#connection.close();
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  /** Handlers first: they may publish. Never rejects. */
  async #closeParts(how: StopOptions): Promise<PromiseSettledResult<void>[]> {
    return [...(await closeAll(this.#consumers, how)), ...(await closeAll(this.#publishers, how))];
  }

  #checkRoom(): void {
    this.#connection.checkOpen();
    const most = this.#connection.direct ? MAX_OPEN / 2 : MAX_OPEN;
    if (this.#consumers.size + this.#publishers.size < most) return;
    throw new FanfareError(
      'RESOURCE_EXHAUSTED',
      `this client has ${most} publishers and consumers open, which is the most: close some, or connect another client`,
    );
  }
}

function keepIn<P extends Part>(parts: Set<Part>, part: P): P {
  parts.add(part);
  const forget = () => parts.delete(part);
  part.closed.then(forget, forget);
  return part;
}

function closeAll(parts: ReadonlySet<Part>, how: StopOptions): Promise<PromiseSettledResult<void>[]> {
  return Promise.allSettled([...parts].map((part) => part.close(how)));
}
