// Who a consumer is, beyond one stream of it: what ordering keys are shared out by, and what waits for it when its stream ends.
import { hashOfKey } from './publish-batch.ts';

/**
 * What a consumer connects by. One client has at most one consumer of each kind at a broker's dispatchers: a newer stream takes the
 * place of an older one. An `owned` stream (owned_only) may stand beside a `stream`: a client that can't reach an owner opens
 * both. Those who pull have no identity, and are all one.
 */
export type ConsumerKind = 'stream' | 'owned' | 'pull';

export interface ConsumerClient {
  readonly kind: ConsumerKind;
  /** The client id; empty: it gave none, and is another one with each stream. */
  readonly id: string;
  /** 32 bits, never 0; 0 stands for nobody in hand-over notes. */
  readonly hash: number;
}

/** All who pull are one to us, so that ordering keys stay with them. */
export const PULLING: ConsumerClient = { kind: 'pull', id: '', hash: 0x9e3779b1 };

const utf8 = new TextEncoder();

/** `random`: at least 0, below 1; only used without an id, for brokers must not give two consumers the same hash. */
export function consumerClient(kind: 'stream' | 'owned', id: string, random: () => number): ConsumerClient {
  if (id === '') return { kind, id, hash: 1 + Math.floor(random() * 0xffff_ffff) };
  const bytes = utf8.encode(id);
  return { kind, id, hash: hashOfKey(bytes, 0, bytes.length) };
}
