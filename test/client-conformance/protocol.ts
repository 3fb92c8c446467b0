// What the suite and a driver say to each other, one JSON object a line; README.md describes it in prose. The
// suite sends requests on the driver's standard input; the driver writes answers and events on its standard
// output, and whatever it likes on its standard error, which is shown when a scenario fails.

export const PROTOCOL = 1;

/** What a driver may be unable to do. A scenario says what it needs; those that need nothing are basic. */
export const FEATURES = [
  /** Handlers that the client calls: so many at once, those of a key one after the other. */
  'handler',
  /**
   * After a consumer gave a message back, nothing later of its key is handed out before it, whatever has
   * arrived.
   */
  'order',
  /** Ordering keys stop after a failed publish and are resumed. */
  'keys',
  /** Streams are opened again and what was not answered is published again. */
  'reconnect',
  /** Leases of what is held are extended. */
  'leases',
  /** Publishers gather messages, flush, bound what is not acknowledged, and end by a signal. */
  'bounds',
  /** Errors say in words why a broker can't be reached. */
  'reasons',
  /** Proxies are taken from the environment. */
  'proxies',
  /** Certificates are given as paths and read again when they change. */
  'certificateFiles',
  /** More than 1,000 consumers on one client. */
  'manyConsumers',
] as const;

export type Feature = (typeof FEATURES)[number];

export interface Hello {
  readonly protocol: number;
  /** The client's name, for the titles of tests: "TypeScript". */
  readonly client: string;
  readonly features: readonly Feature[];
}

export interface OutgoingMessage {
  readonly data?: string;
  /** The data is so many bytes, all "x", instead of `data`. */
  readonly bytes?: number;
  readonly key?: string;
  readonly attributes?: Readonly<Record<string, string>>;
}

/** `code` is gRPC's name of a code. */
export interface Failure {
  readonly code: string;
  readonly message: string;
}

/** What became of one message: its id, or why it failed. */
export type Outcome = { readonly id: string } | Failure;

/**
 * What the driver does with messages: the first rule that fits a message and is not used up applies. Without
 * one the driver acks at once.
 */
export interface Rule {
  /** Applies only to messages with this text; absent: to all. */
  readonly data?: string;
  /** Used up after so many messages; absent: never. */
  readonly times?: number;
  /**
   * `hold`: kept until the suite settles it. A handler waits meanwhile; a loop goes on to the next message.
   */
  readonly action: 'ack' | 'fail' | 'hold';
  /** Before the action, so many ms of waiting, in which other work of the process goes on. */
  readonly waitMs?: number;
  /** Before the action, so many ms of computing, in which nothing else of the thread goes on. */
  readonly computeMs?: number;
}

export interface ConsumeOptions {
  readonly maxOutstandingMessages?: number;
  readonly maxOutstandingBytes?: number;
  /** For a handler: how many messages it is given at once. */
  readonly concurrency?: number;
  readonly ackDeadlineSeconds?: number;
  readonly clientId?: string;
}

/** The operations by name: what they are given and what they answer. */
export interface Operations {
  hello: { request: object; answer: Hello };
  /**
   * Answers at once; INVALID_ARGUMENT if the options can't be used. `tls`: paths of PEM files; without it:
   * plaintext.
   */
  connect: {
    request: {
      client: string;
      /** host:port, or several, separated by commas. */
      address: string;
      tls?: { ca: string; cert: string; key: string };
      project?: string;
      keepaliveMs?: number;
    };
    answer: object;
  };
  /** Answers once a broker has answered; fails with the reason. */
  reach: { request: { client: string; timeoutMs: number }; answer: object };
  /** Answers when the client is closed: publishers flushed, consumers drained. */
  closeClient: { request: { client: string }; answer: object };
  publisher: {
    request: {
      publisher: string;
      client: string;
      topic: string;
      lingerMs?: number;
      maxOutstandingMessages?: number;
      retryDeadlineMs?: number;
    };
    answer: object;
  };
  /** Publishes all in one turn, in order; answers when each has its outcome. */
  publish: {
    request: { publisher: string; messages: readonly OutgoingMessage[] };
    answer: { outcomes: readonly Outcome[] };
  };
  flush: { request: { publisher: string }; answer: object };
  resumeKey: { request: { publisher: string; key: string }; answer: object };
  closePublisher: { request: { publisher: string }; answer: object };
  /** Ends the publisher by its signal. */
  abortPublisher: { request: { publisher: string }; answer: object };
  /** Answers at once; messages come as events. */
  consume: {
    request: {
      consumer: string;
      client: string;
      subscription: string;
      mode: 'handler' | 'loop';
      rules?: readonly Rule[];
    } & ConsumeOptions;
    answer: object;
  };
  /** Settles a message that is held. */
  settle: { request: { consumer: string; delivery: number; how: 'ack' | 'fail' }; answer: object };
  /** Answers when the consumer is closed. `ended` comes, too. */
  closeConsumer: { request: { consumer: string }; answer: object };
  /** Ends the consumer by its signal. `ended` comes when it has. */
  abortConsumer: { request: { consumer: string }; answer: object };
}

export type Operation = keyof Operations;

export type Request<Op extends Operation = Operation> = {
  readonly [Each in Op]: { readonly id: number; readonly op: Each } & Operations[Each]['request'];
}[Op];

export type Answer = { readonly id: number } & ({ readonly ok: unknown } | { readonly error: Failure });

/** A message was handed out: a handler began, or a loop took it. */
export interface MessageEvent {
  readonly event: 'message';
  readonly consumer: string;
  /** A number that no other handing-out has. */
  readonly delivery: number;
  readonly messageId: string;
  /** At most its first 1,000 characters. */
  readonly data: string;
  readonly bytes: number;
  /** Empty if the message has no key. */
  readonly key: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly attempt: number;
}

/** The client is told, now, that the message was handled, or that it failed. */
export interface SettledEvent {
  readonly event: 'settled';
  readonly consumer: string;
  readonly delivery: number;
  readonly how: 'ack' | 'fail';
}

/** A consumer has ended; error is absent if it was asked to. */
export interface EndedEvent {
  readonly event: 'ended';
  readonly consumer: string;
  readonly error?: Failure;
}

/** A consumer or publisher tries again. */
export interface RetryEvent {
  readonly event: 'retry';
  readonly of: string;
  readonly error: Failure;
}

export type DriverEvent = MessageEvent | SettledEvent | EndedEvent | RetryEvent;
