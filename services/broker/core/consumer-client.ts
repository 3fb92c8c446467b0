// Who a consumer is beyond one of its streams: by that, ordering keys are shared out and leases wait for it
// when a stream ends.
import { hashOfKey } from './publish-batch.ts';

/**
 * How a consumer connects. A client with an id has at most one consumer of each kind at a broker's
 * dispatchers: a newer stream takes the place of an older one. An `owned` stream (owned_only) may stand
 * beside a `stream`: a client that can't reach an owner opens both. Consumers that pull have no identity of
 * their own.
 */
export type ConsumerKind = 'stream' | 'owned' | 'pull';

export interface ConsumerClient {
  readonly kind: ConsumerKind;
  /** The client id; empty: it gave none, and each stream is another client. */
  readonly id: string;
  /** 32 bits, never 0, which stands for nobody in hand-over notes. */
  readonly hash: number;
}

/** The client of all Pull calls: they are one client, so that ordering keys stay with them. */
export const PULLING: ConsumerClient = { kind: 'pull', id: '', hash: 0x9e3779b1 };

const utf8 = new TextEncoder();

/**
 * A client that opens a stream. `random` gives at least 0 and below 1, for a client without an id: no two of
 * them may have the same hash, whichever brokers they are at.
 */
export function consumerClient(kind: 'stream' | 'owned', id: string, random: () => number): ConsumerClient {
  if (id === '') return { kind, id, hash: 1 + Math.floor(random() * 0xffff_ffff) };
  const bytes = utf8.encode(id);
  return { kind, id, hash: hashOfKey(bytes, 0, bytes.length) };
}
