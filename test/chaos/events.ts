// The journal of a run, as the clients write it (test/clients/go/chaos/journal.go) with the notes of the runner between. One process
// writes all of it, so the order of its lines is the order in which things happened.

/** All of them. */
interface Timed {
  /** Milliseconds since the clients' process began, by its monotonic clock. */
  readonly t: number;
}

/** Clients. Publishers are `p`, consumers `c`, subscriptions `s`; `m` are messages, `ids` message ids. */
export type ClientEvent = Timed &
  (
    | {
        readonly ev: 'sent';
        readonly p: string;
        readonly topic: string;
        readonly m: readonly (readonly [number: number, key: string])[];
      }
    | {
        readonly ev: 'answered';
        readonly p: string;
        readonly m: readonly (readonly [number: number, id: string])[];
      }
    | {
        readonly ev: 'handled';
        readonly s: string;
        readonly c: string;
        readonly m: readonly (readonly [publisher: string, number: number, id: string, attempt: number])[];
      }
    | {
        readonly ev: 'told' | 'confirmed' | 'nacked';
        readonly s: string;
        readonly c: string;
        readonly ids: readonly string[];
      }
    | {
        readonly ev: 'error';
        readonly p?: string;
        readonly c?: string;
        readonly op: string;
        readonly code: string;
        readonly text: string;
      }
    | { readonly ev: 'left' | 'stopped'; readonly p?: string; readonly c?: string }
  );

/** The runner. */
export type Note =
  /** It is there: its creation was answered. A topic of the same name as a former one is another topic. */
  | { readonly ev: 'topic'; readonly topic: string }
  | { readonly ev: 'subscription'; readonly s: string; readonly topic: string; readonly ordered: boolean }
  /** Is about to be deleted; a topic with its subscriptions. */
  | { readonly ev: 'deleting'; readonly topic?: string; readonly s?: string }
  /** What a broker says there is of topics and subscriptions. */
  | { readonly ev: 'listed'; readonly names: readonly string[] }
  | { readonly ev: 'fault'; readonly kind: string }
  | { readonly ev: 'over'; readonly kind: string }
  /** What was answered before has to be delivered before anything else is done. */
  | { readonly ev: 'waiting' }
  /** What the runner itself found to be wrong: a broker that ended by itself, a fault that nobody recovers from. */
  | { readonly ev: 'wrong'; readonly what: string };

export type JournalEvent = ClientEvent | (Timed & Note);
