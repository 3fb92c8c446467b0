// Standard output for messages: each is acknowledged once its bytes are written. Called by commands/sub.ts. What comes in
// one turn of the event loop is written at once.
import type { Writable } from 'node:stream';
import type { ReceivedMessage } from '../client/received-message.ts';

const MAX_WRITE_BYTES = 64 * 1024;

export class AckingOutput {
  readonly #stream: Writable;
  readonly #onClosed: () => void;
  #parts: (Buffer | string)[] = [];
  #messages: ReceivedMessage[] = [];
  #bytes = 0;
  #scheduled = false;
  /** Handed in, not written. */
  #pending = 0;
  #isClosed = false;
  #isAbandoned = false;
  #wake: (() => void) | undefined;

  /** onClosed: the reader is gone (EPIPE); what was not written is not acked. */
  constructor(stream: Writable, onClosed: () => void) {
    this.#stream = stream;
    this.#onClosed = onClosed;
    stream.on('drain', () => this.#wake?.());
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#close();
      if (error.code !== 'EPIPE') console.error(`fanfare: the output can't be written: ${error.message}`);
    });
  }

  get pending(): number {
    return this.#pending;
  }

  add(message: ReceivedMessage, ...parts: (Buffer | string)[]): void {
    if (this.#isClosed) return;
    this.#pending++;
    this.#messages.push(message);
    for (const part of parts) {
      this.#parts.push(part);
      this.#bytes += part.length;
    }
    if (this.#bytes >= MAX_WRITE_BYTES) this.#flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(() => {
        this.#scheduled = false;
        this.#flush();
      });
    }
  }

  /** Resolves when the stream takes more. */
  drained(): Promise<void> {
    if (!this.#stream.writableNeedDrain || this.#isClosed || this.#isAbandoned) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Whoever waits here, or will, goes on at once: the command was interrupted. */
  stopWaiting(): void {
    this.#isAbandoned = true;
    this.#wake?.();
  }

  /** Resolves when everything handed in is written and acked, or the reader is gone. */
  async finish(): Promise<void> {
    this.#flush();
    if (this.#pending === 0 || this.#isClosed) return;
    await new Promise<void>((resolve) => {
      this.#stream.write('', () => resolve());
    });
  }

  #flush(): void {
    if (this.#messages.length === 0 || this.#isClosed) return;
    const messages = this.#messages;
    const bytes = Buffer.concat(
      this.#parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)),
    );
    this.#messages = [];
    this.#parts = [];
    this.#bytes = 0;
    this.#stream.write(bytes, (error) => {
      this.#pending -= messages.length;
      if (error) this.#close();
      else for (const message of messages) message.ack();
    });
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#wake?.();
    this.#onClosed();
  }
}
