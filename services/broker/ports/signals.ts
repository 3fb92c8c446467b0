// Lossy wake-ups between brokers: something stored has changed, look at it now rather than at the next poll.
// Nothing depends on their arrival.

/**
 * What has changed. `assignment`: there is a new one, or a member has come, drains or has left.
 * `definitions`: a topic or subscription was written. `released`: the partition that `detail` names ("5.3")
 * has been.
 */
export type SignalKind = 'assignment' | 'definitions' | 'released';

export interface Signals {
  /** Returns at once; the signal may never arrive. */
  send(kind: SignalKind, detail: string): void;
  /**
   * Hears the signals of other brokers (its own may come back, too). `missed` is called when some may have
   * been lost: after a reconnection. Returns a function that ends it.
   */
  listen(heard: (kind: SignalKind, detail: string) => void, missed: () => void): () => void;
}
