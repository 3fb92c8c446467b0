// The life of a link between two brokers, as one end of it sees it: `state` has one writer.
//
//   connecting ─heard─▶ up ─close─▶ closed        connecting ─close─▶ closed
//
// The end that was called is up from the beginning. Beats are counted, not time: a process that stood still
// itself must not take the other for dead.

export type LinkState = 'connecting' | 'up' | 'closed';

export class LinkLife {
  #state: LinkState;
  readonly #bearsBeats: number;
  #silentBeats = 0;

  constructor(state: 'connecting' | 'up', bearsBeats: number) {
    this.#state = state;
    this.#bearsBeats = bearsBeats;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** The other end has said something. True: with that the link is up. */
  heard(): boolean {
    this.#silentBeats = 0;
    if (this.#state !== 'connecting') return false;
    this.#state = 'up';
    return true;
  }

  /** A beat has passed. False: it is one too many, and the other end, or the way to it, is taken for dead. */
  beat(): boolean {
    this.#silentBeats += 1;
    return this.#silentBeats <= this.#bearsBeats;
  }

  /** False: it was closed before. */
  close(): boolean {
    if (this.#state === 'closed') return false;
    this.#state = 'closed';
    return true;
  }
}
