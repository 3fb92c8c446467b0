// Lossy wake-ups between brokers: something stored has changed, look at it now rather than at the next poll. Nothing depends
// on their arrival. Sent and heard by engine/membership-keeper, engine/ownership-keeper and engine/definitions.

/** `assignment`: a new one, or a member came or left. `definitions`: a topic or subscription. `released`: the partition `detail` ("5.3"). */
export type SignalKind = 'assignment' | 'definitions' | 'released';

export interface Signals {
  /** Returns at once; whether it arrives is nobody's promise. */
  send(kind: SignalKind, detail: string): void;
  /** Hears those of other brokers (its own may come back, too). `missed` is called when some may have been lost: after a reconnection. */
  listen(heard: (kind: SignalKind, detail: string) => void, missed: () => void): () => void;
}
