// fanfare sub: a subscription to standard output. A message is acknowledged after it is written.
import { isUtf8 } from 'node:buffer';
import type { Client } from '../../client/client.ts';
import type { ReceivedMessage } from '../../client/received-message.ts';
import type { Subscription } from '../../client/subscription.ts';
import { AckingOutput } from '../acking-output.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { outageReporter, withClient } from '../session.ts';

export interface SubFlags extends CommonFlags {
  readonly count?: number;
  readonly exitAtEnd?: boolean;
  readonly null?: boolean;
  readonly maxOutstanding: number;
  readonly clientId?: string;
}

/** How often the backlog is asked for with --exit-at-end. */
const END_CHECK_MS = 100;

export async function sub(subscription: string, flags: SubFlags, signal: AbortSignal): Promise<void> {
  await withClient(flags, async (client) => {
    await client.reach({ timeoutMs: flags.timeout, signal });
    await print(client, subscription, flags, signal);
  });
  if (signal.aborted) throw new CliError('interrupted', EXIT.interrupted);
}

async function print(client: Client, name: string, flags: SubFlags, signal: AbortSignal): Promise<void> {
  const outage = outageReporter();
  const subscription = client.subscribe(name, {
    // With --count, no more than asked for is taken from other consumers.
    maxOutstandingMessages: Math.min(flags.count ?? flags.maxOutstanding, flags.maxOutstanding),
    ...(flags.clientId !== undefined && { clientId: flags.clientId }),
    onRetry: outage.onRetry,
  });
  // The iteration ends first, the stream once everything printed is acked.
  const output = new AckingOutput(process.stdout, () => subscription.end());
  const onAbort = () => {
    subscription.end();
    output.stopWaiting();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  let received = 0;
  const atEnd = flags.exitAtEnd ? watchForEnd(client, subscription, () => received, output) : undefined;
  const terminator = flags.null ? '\0' : '\n';
  try {
    while (received < (flags.count ?? Number.POSITIVE_INFINITY)) {
      const { value: message, done } = await subscription.next();
      if (done) break;
      outage.onAlive();
      received++;
      if (flags.output === 'json') output.add(message, toJson(message), terminator);
      else output.add(message, message.data, terminator);
      if (process.stdout.writableNeedDrain) await output.drained();
    }
    await output.finish();
  } finally {
    clearInterval(atEnd);
    await subscription.close();
  }
}

/** Ends the iteration once the backlog is empty and nothing arrived or waited here since the last look. */
function watchForEnd(
  client: Client,
  subscription: Subscription,
  received: () => number,
  output: AckingOutput,
): NodeJS.Timeout {
  let seen = -1;
  let isAsking = false;
  return setInterval(async () => {
    const isQuiet = seen === received() && output.pending === 0;
    seen = received();
    if (!isQuiet || isAsking) return;
    isAsking = true;
    try {
      const [backlog] = await client.admin.getBacklog([subscription.name]);
      if (backlog?.messages === 0 && seen === received()) subscription.end();
    } catch (error) {
      // The broker may be away for a moment; the consumer's own stream tells what is final.
      if (!(error as { retriable?: boolean }).retriable)
        console.error(`fanfare: ${(error as Error).message}`);
    } finally {
      isAsking = false;
    }
  }, END_CHECK_MS);
}

function toJson(message: ReceivedMessage): string {
  const { data } = message;
  return JSON.stringify({
    messageId: message.messageId,
    publishTime: message.publishTime.toISOString(),
    orderingKey: message.orderingKey,
    attributes: message.attributes,
    deliveryAttempt: message.deliveryAttempt,
    ...(isUtf8(data) ? { data: data.toString('utf8') } : { dataBase64: data.toString('base64') }),
  });
}
