// fanfare sub: a subscription to standard output. A message is acknowledged once it counts as printed
// (acking-output.ts); what was not acknowledged comes again.
import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { printable } from '../../broker/core/printable.ts';
import type { Client } from '../../client/client.ts';
import type { ReceivedMessage } from '../../client/received-message.ts';
import type { Subscription } from '../../client/subscription.ts';
import { AckingOutput } from '../acking-output.ts';
import type { CommonFlags } from '../config.ts';
import { EndWatch } from '../end-watch.ts';
import { CliError, EXIT } from '../failure.ts';
import { sayWhenCutOff } from '../interruption.ts';
import { notice } from '../notice.ts';
import { outageReporter, withClient } from '../session.ts';
import { standardOutput } from '../standard-output.ts';
import { formatCount, formatMessages } from '../units.ts';

export interface SubFlags extends CommonFlags {
  readonly count?: number;
  readonly exitAtEnd?: boolean;
  readonly exitWhenEmpty?: boolean;
  readonly null?: boolean;
  readonly raw?: boolean;
  readonly maxOutstanding: number;
  readonly clientId?: string;
}

/** The largest credit that subscriber.proto allows. */
const MAX_CREDIT = 1_000_000;

export async function sub(subscription: string, flags: SubFlags, signal: AbortSignal): Promise<void> {
  if (flags.exitAtEnd && flags.exitWhenEmpty) {
    throw new CliError('give only one of --exit-at-end and --exit-when-empty', EXIT.usage);
  }
  await withClient(flags, async (client) => {
    await client.reach({ timeoutMs: flags.timeout, signal });
    await new Sub(client, subscription, flags).run(signal);
  });
}

class Sub {
  readonly #client: Client;
  readonly #name: string;
  readonly #flags: SubFlags;
  readonly #clientId: string;
  readonly #output: AckingOutput;
  readonly #over = new AbortController();
  #subscription: Subscription | undefined;
  #watch: EndWatch | undefined;
  #printed = 0;
  #acknowledged = 0;
  #credit = 0;

  constructor(client: Client, name: string, flags: SubFlags) {
    this.#client = client;
    this.#name = name;
    this.#flags = flags;
    this.#clientId = flags.clientId ?? randomUUID();
    this.#output = new AckingOutput({
      output: standardOutput(),
      onWritten: (written) => {
        this.#printed += written.length;
        this.#watch?.printed(written);
        this.#adjustCredit();
      },
      onRead: (read) => {
        this.#acknowledged += read.length;
        this.#watch?.acknowledged(read);
        // The credit is lowered before the acknowledgements give some back, or too much would come.
        this.#adjustCredit();
      },
      onFailed: () => this.#subscription?.end(),
    });
    sayWhenCutOff(() => this.#interruptedText());
  }

  async run(signal: AbortSignal): Promise<void> {
    const { exitAtEnd, exitWhenEmpty } = this.#flags;
    if (exitAtEnd || exitWhenEmpty) {
      this.#watch = await EndWatch.begin(exitAtEnd ? 'at end' : 'when empty', {
        client: this.#client,
        subscription: this.#name,
        clientId: this.#clientId,
      });
    }
    await this.#print(signal);
    const { failure } = standardOutput();
    if (failure !== undefined && !failure.isClosed) {
      throw new CliError(`${failure.message}: ${this.#printedText()}`, EXIT.failed, { cause: failure });
    }
    if (failure !== undefined) throw failure;
    if (signal.aborted) throw new CliError(this.#interruptedText(), EXIT.interrupted);
    const elsewhere = (await this.#watch?.elsewhere()) ?? 0;
    if (elsewhere > 0) {
      const are = elsewhere === 1 ? 'is' : 'are';
      notice(
        `fanfare: ${formatMessages(elsewhere)} before the end ${are} not printed here: other consumers have them, or are to have them`,
      );
    }
  }

  async #print(signal: AbortSignal): Promise<void> {
    const outage = outageReporter();
    this.#credit = this.#wantedCredit();
    const subscription = this.#client.subscribe(this.#name, {
      clientId: this.#clientId,
      maxOutstandingMessages: this.#credit,
      onRetry: outage.onRetry,
    });
    this.#subscription = subscription;
    const onAbort = () => {
      subscription.end();
      this.#output.abandon();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const atEnd = this.#watch
      ?.reached(this.#over.signal)
      // The iteration ends here; the stream ends once everything printed is acknowledged.
      .finally(() => subscription.end());
    // The promise is awaited below; a failure before that must not count as unhandled.
    atEnd?.catch(() => {});
    try {
      await this.#printAll(subscription, outage.onAlive);
      this.#over.abort();
      await atEnd;
    } finally {
      this.#over.abort();
      await subscription.close();
    }
  }

  async #printAll(subscription: Subscription, onAlive: () => void): Promise<void> {
    const { count = Number.POSITIVE_INFINITY, null: endsWithNul } = this.#flags;
    const terminator = Buffer.from(endsWithNul ? '\0' : '\n');
    for (let received = 0; received < count; ) {
      const { value: message, done } = await subscription.next();
      if (done) break;
      onAlive();
      received += 1;
      this.#watch?.received(message);
      this.#output.add(message, this.#shown(message), terminator);
      // The credit that comes back from now on is not to be used.
      if (received === count) subscription.end();
      await this.#output.room();
    }
    await this.#output.finish();
  }

  /** The message as it is printed: on a terminal as text that can do nothing to it, unless --raw. */
  #shown(message: ReceivedMessage): Uint8Array {
    const { output, raw } = this.#flags;
    const isEscaped = standardOutput().isTerminal && raw !== true;
    if (output !== 'json' && !isEscaped) return message.data;
    const text = output === 'json' ? toJson(message) : message.data.toString('utf8');
    return Buffer.from(isEscaped ? printable(text) : text);
  }

  /**
   * How many messages may be outstanding: those taken ahead of printing and those that may lie in the pipe
   * unread; with --count, no more than are still to come.
   */
  #wantedCredit(): number {
    const { count = Number.POSITIVE_INFINITY } = this.#flags;
    const wanted = Math.min(this.#ahead + this.#output.unread, count - this.#acknowledged);
    return Math.min(Math.max(1, wanted), MAX_CREDIT);
  }

  /** How many messages are taken ahead of printing. */
  get #ahead(): number {
    return Math.min(this.#flags.maxOutstanding, this.#output.appetite);
  }

  #adjustCredit(): void {
    const wanted = this.#wantedCredit();
    const { count = Number.POSITIVE_INFINITY } = this.#flags;
    const mustNotExceed = count - this.#acknowledged;
    // Small changes are left alone in a long row of messages.
    const isFar = Math.abs(wanted - this.#credit) >= Math.max(1, this.#ahead / 4);
    if (!isFar && this.#credit <= mustNotExceed) return;
    this.#credit = wanted;
    this.#subscription?.limitMessages(wanted);
  }

  #printedText(): string {
    const printed = `${formatMessages(this.#printed)} printed`;
    const again = this.#output.unread;
    if (again === 0) return printed;
    const last = again === 1 ? 'the last one comes' : `the last ${formatCount(again)} come`;
    return `${printed}; ${last} again, as nothing tells whether the reader of the pipe has it`;
  }

  #interruptedText(): string {
    return `interrupted: ${this.#printedText()}`;
  }
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
