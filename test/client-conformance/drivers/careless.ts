// The TypeScript client with a fault planted into it, named by the argument: the suite has to notice each.
// planted-faults.test.ts says which scenarios notice which fault.
import { connect as openSocket } from 'node:net';
import { setTimeout as after } from 'node:timers/promises';
import { Client } from '../../../services/client/client.ts';
import { FanfareError } from '../../../services/client/errors.ts';
import { InHand } from '../../../services/client/in-hand.ts';
import { KeyGate } from '../../../services/client/key-gate.ts';
import { LeaseKeeper } from '../../../services/client/lease-keeper.ts';
import { OutgoingSettles } from '../../../services/client/outgoing-settles.ts';
import { Publisher, type PublisherOptions } from '../../../services/client/publisher.ts';
import { ReceivedMessage } from '../../../services/client/received-message.ts';
import { SubscribeStream } from '../../../services/client/subscribe-stream.ts';
import {
  type MessageHandler,
  Subscriber,
  type SubscriberOptions,
} from '../../../services/client/subscriber.ts';
import { Subscription } from '../../../services/client/subscription.ts';

type Publish = Publisher['publish'];
type Options = PublisherOptions & SubscriberOptions;

const never = new Promise<never>(() => {});

const FAULTS: Readonly<Record<string, () => void>> = {
  'loses attributes'() {
    patch(
      Publisher,
      'publish',
      (publish) =>
        function ({ attributes: _lost, ...message }) {
          return publish.call(this, { data: 'nothing', ...message });
        },
    );
  },
  'sends the last one first'() {
    const waiting: (() => void)[] = [];
    patch(
      Publisher,
      'publish',
      (publish) =>
        function (message) {
          if (waiting.length === 0)
            queueMicrotask(() => {
              for (const send of waiting.splice(0).reverse()) send();
            });
          return new Promise((resolve, reject) => {
            waiting.push(() => publish.call(this, message).then(resolve, reject));
          });
        },
    );
  },
  'refuses with the bad what is beside it'() {
    let turn: Promise<unknown>[] = [];
    patch(
      Publisher,
      'publish',
      (publish) =>
        async function (message) {
          if (turn.length === 0) setImmediate(() => (turn = []));
          const together = turn;
          const published = publish.call(this, message);
          // The rejection reaches everything that shares the turn, through `together` below.
          published.catch(() => {});
          together.push(published);
          await new Promise(setImmediate);
          await Promise.all(together);
          return published;
        },
    );
  },
  'counts the key to the size'() {
    patch(
      Publisher,
      'publish',
      (publish) =>
        function (message) {
          const size = Buffer.byteLength(message.data ?? '') + Buffer.byteLength(message.orderingKey ?? '');
          if (size <= 2 * 1024 * 1024) return publish.call(this, message);
          return Promise.reject(new FanfareError('INVALID_ARGUMENT', `${size} bytes are more than 2097152`));
        },
    );
  },
  'waits for a topic to be created'() {
    onPublishFailure('NOT_FOUND', () => never);
  },
  'never stops a key'() {
    onPublishFailure('FAILED_PRECONDITION', function (publish, message) {
      this.resumeKey(message.orderingKey!);
      return publish.call(this, message);
    });
  },
  'gives up at the first broken connection'() {
    changeOptions((options) => {
      const given = new AbortController();
      const signal = AbortSignal.any([given.signal, ...(options.signal ? [options.signal] : [])]);
      return { ...options, signal, onRetry: () => given.abort() };
    });
  },
  'tries for ever'() {
    changeOptions((options) => ({ ...options, retryDeadlineMs: 3_600_000 }));
  },
  'is deaf to signals'() {
    changeOptions(({ signal: _unheard, ...options }) => options);
  },
  'takes more than it was told to'() {
    const more = (limit: number | undefined, extra: number) => (limit === undefined ? 1_000 : limit + extra);
    changeOptions((options, function_) => ({
      ...options,
      maxOutstandingMessages: more(options.maxOutstandingMessages, function_ === 'publisher' ? 1_000_000 : 3),
      ...(function_ !== 'publisher' && { maxOutstandingBytes: more(options.maxOutstandingBytes, 5_000_000) }),
      ...(function_ === 'subscriber' && { concurrency: more(options.concurrency, 2) }),
    }));
  },
  'waits for a linger to be over'() {
    const idle = async (publisher: Publisher): Promise<void> => {
      while (publisher.outstanding.messages > 0) await after(5);
    };
    patch(
      Publisher,
      'flush',
      () =>
        function () {
          return idle(this);
        },
    );
    patch(
      Publisher,
      'close',
      (close) =>
        async function () {
          await idle(this);
          await close.call(this);
        },
    );
  },
  'never finishes closing'() {
    patch(Client, 'close', () => () => never);
    patch(Subscription, 'close', () => () => never);
  },
  'forgets some acks'() {
    let count = 0;
    patch(
      ReceivedMessage,
      'ack',
      (ack) =>
        function () {
          count += 1;
          if (count % 5 !== 0) ack.call(this);
        },
    );
  },
  'acks what it should give back'() {
    patch(
      ReceivedMessage,
      'nack',
      () =>
        function () {
          this.ack();
        },
    );
  },
  'keeps what it should give back'() {
    patch(ReceivedMessage, 'nack', () => () => {});
  },
  'knows only first attempts'() {
    onHandedOut((message) => {
      message.deliveryAttempt = 1;
    });
  },
  'lets one consumer hold up the others'() {
    const unsettled = new Map<Subscription, number>();
    const of = new WeakMap<ReceivedMessage, Subscription>();
    patch(
      Subscription,
      'next',
      (next) =>
        async function () {
          const others = () => [...unsettled].some(([each, count]) => each !== this && count > 0);
          const result = await next.call(this);
          while (others()) await after(5);
          if (!result.done) {
            of.set(result.value, this);
            unsettled.set(this, (unsettled.get(this) ?? 0) + 1);
          }
          return result;
        },
    );
    patch(
      ReceivedMessage,
      'ack',
      (ack) =>
        function () {
          const by = of.get(this);
          if (by !== undefined) unsettled.set(by, unsettled.get(by)! - 1);
          ack.call(this);
        },
    );
  },
  'handles whatever there is at once'() {
    patch(
      Client,
      'subscriber',
      () =>
        function (subscription, handler, { concurrency: _all, ...options } = {}) {
          const messages = this.subscribe(subscription, options);
          const handle = async (message: ReceivedMessage): Promise<void> => {
            try {
              await handler(message);
              message.ack();
            } catch (error) {
              message.nack();
              options.onHandlerError?.(error, message);
            }
          };
          const closed = (async () => {
            for await (const message of messages) void handle(message);
          })();
          return { closed, stop: () => messages.close() } as Subscriber;
        },
    );
  },
  'closes later than it says'() {
    patch(
      Subscription,
      'close',
      (close) =>
        async function () {
          setTimeout(() => void close.call(this), 300);
        },
    );
    patch(
      Subscriber,
      'stop',
      (stop) =>
        async function () {
          setTimeout(() => void stop.call(this), 300);
        },
    );
  },
  'hides why it ended'() {
    patch(
      Subscription,
      'next',
      (next) =>
        function () {
          return next.call(this).catch(() => ({ done: true, value: undefined }));
        },
    );
    patch(
      Client,
      'subscriber',
      (subscriber) =>
        function (...given) {
          const { closed, stop } = subscriber.apply(this, given);
          return { closed: closed.catch(() => {}), stop } as Subscriber;
        },
    );
  },
  'hides why it does not connect'() {
    patch(
      Client,
      'reach',
      (reach) =>
        function (settings) {
          return reach.call(this, settings).catch(() => {
            throw new FanfareError('UNAVAILABLE', 'failed');
          });
        },
    );
  },
  'asks every proxy there is'() {
    const proxy = new URL(process.env.https_proxy ?? 'http://127.0.0.1:1');
    patch(
      Client,
      'reach',
      (reach) =>
        async function (settings) {
          await new Promise((resolve) =>
            openSocket(Number(proxy.port), proxy.hostname).once('close', resolve).once('error', resolve),
          );
          await reach.call(this, settings);
        },
    );
  },
  'extends no leases'() {
    patch(LeaseKeeper, 'add', () => () => {});
  },
  'handles what it still handles'() {
    patch(InHand, 'holds', () => () => false);
    patch(SubscribeStream, 'wasAcked', () => () => false);
  },
  'extends by the first ack deadline'() {
    const { set } = Object.getOwnPropertyDescriptor(LeaseKeeper.prototype, 'deadlineSeconds')!;
    const known = new WeakSet<LeaseKeeper>();
    Object.defineProperty(LeaseKeeper.prototype, 'deadlineSeconds', {
      set(this: LeaseKeeper, seconds: number) {
        if (!known.has(this)) set!.call(this, seconds);
        known.add(this);
      },
    });
  },
  'hands out what is here after a failure'() {
    patch(KeyGate, 'admits', () => () => true);
  },
  'acks whatever has the name'() {
    patch(OutgoingSettles, 'belongsTo', () => () => false);
    patch(
      SubscribeStream,
      'ack',
      (ack) =>
        function (leases, ...place) {
          ack.call(this, { ...leases, incarnation: 0 }, ...place);
        },
    );
  },
  'leaves consumers out above 1,000'() {
    let count = 0;
    patch(
      Client,
      'subscribe',
      (subscribe) =>
        function (...given) {
          count += 1;
          if (count <= 1_000) return subscribe.apply(this, given);
          const none = {
            next: () => never,
            return: () => never,
            close: () => never,
            [Symbol.asyncIterator]: () => none,
          };
          return none as unknown as Subscription;
        },
    );
  },
};

type Method<Instance, Name extends keyof Instance> = Instance[Name] extends (
  ...given: infer Given
) => infer Result
  ? (this: Instance, ...given: Given) => Result
  : never;

/** Replaces a method of a class. */
function patch<Instance, Name extends keyof Instance>(
  of: { readonly prototype: Instance },
  name: Name,
  make: (original: Method<Instance, Name>) => Method<Instance, Name>,
): void {
  const prototype = of.prototype as Record<Name, Method<Instance, Name>>;
  prototype[name] = make(prototype[name]);
}

function onPublishFailure(
  code: string,
  instead: (this: Publisher, publish: Publish, message: Parameters<Publish>[0]) => ReturnType<Publish>,
): void {
  patch(
    Publisher,
    'publish',
    (publish) =>
      async function (message) {
        try {
          return await publish.call(this, message);
        } catch (error) {
          if ((error as FanfareError).code !== code) throw error;
          return instead.call(this, publish as Publish, message);
        }
      },
  );
}

/** Changes the options of publishers and consumers. */
function changeOptions(
  change: (options: Options, of: 'publisher' | 'subscribe' | 'subscriber') => object,
): void {
  patch(
    Client,
    'publisher',
    (publisher) =>
      function (topic, options = {}) {
        return publisher.call(this, topic, change(options, 'publisher'));
      },
  );
  patch(
    Client,
    'subscribe',
    (subscribe) =>
      function (subscription, options = {}) {
        return subscribe.call(this, subscription, change(options, 'subscribe'));
      },
  );
  patch(
    Client,
    'subscriber',
    (subscriber) =>
      function (subscription, handler, options = {}) {
        return subscriber.call(this, subscription, handler, change(options, 'subscriber'));
      },
  );
}

/** Changes a message before a loop or a handler sees it. */
function onHandedOut(change: (message: ReceivedMessage) => void): void {
  patch(
    Subscription,
    'next',
    (next) =>
      async function () {
        const result = await next.call(this);
        if (!result.done) change(result.value);
        return result;
      },
  );
  patch(
    Client,
    'subscriber',
    (subscriber) =>
      function (subscription, handler, options) {
        const changed: MessageHandler = (message) => {
          change(message);
          return handler(message);
        };
        return subscriber.call(this, subscription, changed, options);
      },
  );
}

const [fault = ''] = process.argv.slice(2);
const plant = FAULTS[fault];
if (plant === undefined) throw new Error(`there is no fault "${fault}": ${Object.keys(FAULTS).join('; ')}`);
plant();
await import('./typescript.ts');
