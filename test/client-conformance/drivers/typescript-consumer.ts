// A consumer of the TypeScript driver: does with each message what the suite's rules say, in a handler or in
// a loop.
import { setTimeout as after } from 'node:timers/promises';
import type { Client } from '../../../services/client/client.ts';
import { toFanfareError } from '../../../services/client/errors.ts';
import type { SubscribeOptions } from '../../../services/client/message-source.ts';
import type { ReceivedMessage } from '../../../services/client/received-message.ts';
import type { SubscriberOptions } from '../../../services/client/subscriber.ts';
import type { Operations, Rule } from '../protocol.ts';
import { emit } from './wire.ts';

type How = 'ack' | 'fail';

interface Held {
  readonly settle: (how: How) => void;
}

interface Treatment {
  /** A value rather than a promise if nothing has to be waited for. */
  readonly how: How | Promise<How>;
  readonly isHeld: boolean;
}

type Treat = (message: ReceivedMessage) => Treatment;

interface Part {
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

export interface Consumer {
  settle(delivery: number, how: How): void;
  close(): Promise<void>;
  abort(): void;
}

const MAX_SHOWN_CHARS = 1_000;
let deliveries = 0;

export function startConsumer(client: Client, request: Operations['consume']['request']): Consumer {
  const { consumer, subscription, mode } = request;
  const held = new Map<number, Held>();
  const abort = new AbortController();
  const take = rulesOf(request.rules ?? []);
  const options = {
    ...given(request, 'maxOutstandingMessages'),
    ...given(request, 'maxOutstandingBytes'),
    ...given(request, 'ackDeadlineSeconds'),
    ...given(request, 'clientId'),
    signal: abort.signal,
    onRetry: (error: unknown) => emit({ event: 'retry', of: consumer, error: failure(error) }),
  };

  const treat = (message: ReceivedMessage): Treatment => {
    const delivery = show(consumer, message);
    const { action, waitMs = 0, computeMs = 0 } = take(message.text);
    compute(computeMs);
    const told = (how: How): How => {
      emit({ event: 'settled', consumer, delivery, how });
      return how;
    };
    if (action === 'hold') {
      const settled = new Promise<How>((resolve) => {
        held.set(delivery, { settle: (how) => resolve(told(how)) });
      });
      return { how: settled, isHeld: true };
    }
    return { how: waitMs === 0 ? told(action) : after(waitMs).then(() => told(action)), isHeld: false };
  };

  const { ended, close } =
    mode === 'handler'
      ? handle(client, subscription, treat, { ...options, ...given(request, 'concurrency') })
      : loop(client, subscription, treat, options);
  ended.then(
    () => emit({ event: 'ended', consumer }),
    (error) => emit({ event: 'ended', consumer, error: failure(error) }),
  );
  const heldOf = (delivery: number): Held => {
    const found = held.get(delivery);
    if (found === undefined) throw new Error(`delivery ${delivery} of ${consumer} is not held`);
    return found;
  };
  return {
    settle(delivery, how) {
      heldOf(delivery).settle(how);
      held.delete(delivery);
    },
    close,
    abort: () => abort.abort(),
  };
}

function handle(client: Client, subscription: string, treat: Treat, options: SubscriberOptions): Part {
  const handler = ({ how }: Treatment): void | Promise<void> => {
    if (typeof how !== 'string') return how.then(failIf);
    failIf(how);
  };
  const subscriber = client.subscriber(subscription, (message) => handler(treat(message)), options);
  return { ended: subscriber.closed, close: () => subscriber.stop() };
}

function loop(client: Client, subscription: string, treat: Treat, options: SubscribeOptions): Part {
  const messages = client.subscribe(subscription, options);
  const run = async (): Promise<void> => {
    for await (const message of messages) {
      const { how, isHeld } = treat(message);
      if (typeof how === 'string') settle(message, how);
      else if (isHeld) void how.then((later) => settle(message, later));
      else settle(message, await how);
    }
  };
  return { ended: run(), close: () => messages.close() };
}

function settle(message: ReceivedMessage, how: How): void {
  if (how === 'ack') message.ack();
  else message.nack();
}

function failIf(how: How): void {
  if (how === 'fail') throw new Error('as the rule says');
}

/** A function that takes the rule for the next message with that text. */
function rulesOf(rules: readonly Rule[]): (text: string) => Rule {
  const left = rules.map((rule) => ({ rule, times: rule.times ?? Number.POSITIVE_INFINITY }));
  return (text) => {
    const found = left.find(
      ({ rule, times }) => times > 0 && (rule.data === undefined || rule.data === text),
    );
    if (found === undefined) return { action: 'ack' };
    found.times -= 1;
    return found.rule;
  };
}

function show(consumer: string, message: ReceivedMessage): number {
  deliveries += 1;
  emit({
    ...{ event: 'message', consumer, delivery: deliveries, messageId: message.messageId },
    ...{ data: message.text.slice(0, MAX_SHOWN_CHARS), bytes: message.data.length, key: message.orderingKey },
    ...{ attributes: message.attributes, attempt: message.deliveryAttempt },
  } as const);
  return deliveries;
}

/** Blocks the thread for so long. */
function compute(forMs: number): void {
  const untilMs = performance.now() + forMs;
  while (performance.now() < untilMs);
}

function failure(error: unknown) {
  const { code, message } = toFanfareError(error);
  return { code, message };
}

function given<Options, Name extends keyof Options>(
  options: Options,
  name: Name,
): Pick<Options, Name> | object {
  return options[name] === undefined ? {} : { [name]: options[name] };
}
