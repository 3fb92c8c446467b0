// Who a consumer is: its client, by which ordering keys are shared out and leases wait when a stream ends,
// and its stream, which is the same at every owner to which it is attached.
//
// Invariant: no two streams have one name, whichever brokers they are at and whenever they were opened.
import { hashOfKey } from './publish-batch.ts';

/**
 * How a consumer connects. A client with an id has at most one consumer of each kind at a broker's
 * dispatchers: a newer stream takes the place of an older one. An `owned` stream (owned_only) may stand
 * beside a `stream`: a client that can't reach an owner opens both. Consumers that pull have no identity of
 * their own.
 */
export type ConsumerKind = 'stream' | 'owned' | 'pull';

/** The consumer that has a lease, as every owner knows it. */
export interface ConsumerIdentity {
  /** The client's: 32 bits; 0 stands for nobody. */
  readonly hash: number;
  /**
   * The name of its stream. Empty where it has none: `owned` streams, which for a client are one, pulls, a
   * broker that is alone, and brokers of an older version. Its leases go by the hash alone then.
   */
  readonly stream: string;
}

export interface ConsumerClient extends ConsumerIdentity {
  readonly kind: ConsumerKind;
  /** The client id; empty: it gave none, and each stream is another client. */
  readonly id: string;
}

/** The client of all Pull calls: they are one client, so that ordering keys stay with them. */
export const PULLING: ConsumerClient = { kind: 'pull', id: '', hash: 0x9e3779b1, stream: '' };

const utf8 = new TextEncoder();

/**
 * A client that opens a stream. `random` gives at least 0 and below 1, for a client without an id: no two of
 * them may have the same hash, whichever brokers they are at.
 */
export function consumerClient(
  kind: 'stream' | 'owned',
  id: string,
  random: () => number,
  stream: string,
): ConsumerClient {
  if (id === '') return { kind, id, hash: 1 + Math.floor(random() * 0xffff_ffff), stream };
  const bytes = utf8.encode(id);
  return { kind, id, hash: hashOfKey(bytes, 0, bytes.length), stream };
}
