// What a publisher of a simulation has sent, with what its place in the order goes by.

export interface SentMessage {
  /** "{publisher}/{n}" */
  readonly identity: string;
  readonly key: string;
  readonly content: string;
  /** The number of its batch, as its publisher counts. */
  readonly batch: number;
  /** Its number among its publisher's messages of the key; below, that of the first one in its batch. */
  readonly nth: number;
  readonly batchFirst: number;
}

export function publisherOf(identity: string): string {
  return identity.slice(0, identity.indexOf('/'));
}
