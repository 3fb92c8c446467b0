// Where a program begins: connect() to a broker or several, then publish, subscribe, administer.
//
//   await using client = connect({ address, tls: { ca, cert, key } });
//   await client.publisher('orders').publish({ data: 'hello' });
//   for await (const message of client.subscribe('audit')) message.ack();
import { Admin } from './admin.ts';
import { Cluster } from './cluster.ts';
import { type CallSettings, Connection, type ConnectOptions } from './connection.ts';
import type { SubscribeOptions } from './message-source.ts';
import { CONNECT, PUBLISHER, STOP, SUBSCRIBE, SUBSCRIBE_RAW, SUBSCRIBER } from './option-rules.ts';
import { checkOptions, func } from './options.ts';
import { Publisher, type PublisherOptions } from './publisher.ts';
import { type RawSubscribeOptions, RawSubscriber } from './raw-subscriber.ts';
import { type MessageHandler, type StopOptions, Subscriber, type SubscriberOptions } from './subscriber.ts';
import { Subscription } from './subscription.ts';

/**
 * Connects in the background: calls wait for it. FanfareError INVALID_ARGUMENT if an option is wrong or the certificates can't be
 * used; the methods below throw it for their options, too.
 */
export function connect(options: ConnectOptions): Client {
  checkOptions('connect()', options, CONNECT);
  return new Client(new Connection(options));
}

interface Part {
  readonly closed: Promise<void>;
  close(how?: StopOptions): Promise<void>;
}

export class Client implements AsyncDisposable {
  readonly admin: Admin;
  readonly cluster: Cluster;
  readonly #connection: Connection;
  readonly #open = new Set<Part>();
  #closing: Promise<void> | undefined;
  readonly #definitionOf = (subscription: string) => this.admin.getSubscription(subscription);

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
   * Resolves once a broker has answered; nobody needs to call it, but it tells at once what publishers and consumers would
   * try again and again. UNAVAILABLE with the reason; DEADLINE_EXCEEDED.
   */
  reach(settings?: CallSettings): Promise<void> {
    return this.#connection.reach(settings);
  }

  /** Publishes to a topic, over a stream of its own. Make one and keep it. */
  publisher(topic: string, options: PublisherOptions = {}): Publisher {
    checkOptions('publisher()', options, PUBLISHER);
    return this.#keep(new Publisher(this.#connection, topic, options));
  }

  /** A consumer of a subscription, to be read with `for await`; leaving the loop closes it. Ack every message. */
  subscribe(subscription: string, options: SubscribeOptions = {}): Subscription {
    checkOptions('subscribe()', options, SUBSCRIBE);
    return this.#keep(new Subscription(this.#connection, subscription, options, this.#definitionOf));
  }

  /** A consumer that calls a handler for each message, acks when it succeeds and gives back when it throws. */
  subscriber(subscription: string, handler: MessageHandler, options: SubscriberOptions = {}): Subscriber {
    func('handler', handler);
    checkOptions('subscriber()', options, SUBSCRIBER);
    const subscriber = new Subscriber(this.#connection, subscription, handler, options, this.#definitionOf);
    this.#keep({ closed: subscriber.closed, close: (how) => subscriber.stop(how) });
    return subscriber;
  }

  /** A consumer that gets responses as bytes, for relays and load tests. */
  subscribeRaw(subscription: string, options: RawSubscribeOptions): RawSubscriber {
    checkOptions('subscribeRaw()', options, SUBSCRIBE_RAW);
    return this.#keep(new RawSubscriber(this.#connection, subscription, options, this.#definitionOf));
  }

  /**
   * Flushes publishers, stops subscribers (which wait for handlers that run, as stop() does: `how` limits that for each), and
   * closes the connection. Idempotent.
   */
  close(how: StopOptions = {}): Promise<void> {
    checkOptions('close()', how, STOP);
    this.#closing ??= this.#close(how);
    return this.#closing;
  }

  async #close(how: StopOptions): Promise<void> {
    // Handlers first: they may publish.
    for (const part of [...this.#open].reverse()) await part.close(how);
    this.#connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #keep<P extends Part>(part: P): P {
    this.#open.add(part);
    const forget = () => this.#open.delete(part);
    part.closed.then(forget, forget);
    return part;
  }
}
