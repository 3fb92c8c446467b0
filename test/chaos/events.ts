// The journal of a run, as the clients write it (test/clients/go/chaos/journal.go), with the runner's notes
// between their lines. One process writes all of it, so the order of its lines is the order in which things
// happened.

/** What every line has. */
interface Timed {
  /** Milliseconds since the clients' process began, by its monotonic clock. */
  readonly t: number;
}

/**
 * Lines of the clients. Publishers are `p`, consumers `c`, subscriptions `s`; `m` are messages, `ids` message
 * ids.
 */
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

/** Lines of the runner. */
export type Note =
  /**
   * The topic or subscription is there: its creation was answered. A topic of the same name as a former one
   * is another topic.
   */
  | { readonly ev: 'topic'; readonly topic: string }
  | { readonly ev: 'subscription'; readonly s: string; readonly topic: string; readonly ordered: boolean }
  /** The topic, with its subscriptions, or the subscription is about to be deleted. */
  | { readonly ev: 'deleting'; readonly topic?: string; readonly s?: string }
  /** The topics and subscriptions that a broker lists. */
  | { readonly ev: 'listed'; readonly names: readonly string[] }
  | { readonly ev: 'fault'; readonly kind: string }
  | { readonly ev: 'over'; readonly kind: string }
  /** What was answered before this line has to be delivered before anything else is done. */
  | { readonly ev: 'waiting' }
  /**
   * What the runner itself found to be wrong: a broker that ended by itself, a fault that nobody recovers
   * from.
   */
  | { readonly ev: 'wrong'; readonly what: string };

export type JournalEvent = ClientEvent | (Timed & Note);
