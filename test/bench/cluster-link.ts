// What crosses between two brokers when 64 subscriptions wait behind one relay: each chunk once, so not much
// more than what was published. A proxy before the owner counts the bytes on the wire, TLS and HTTP/2
// included.
import { startCluster } from '../support/cluster.ts';
import { startRedis } from '../support/redis.ts';
import { certsOf, define, ownerOf, REDIS_ARGS } from './cluster-rig.ts';
import { measure, rounded } from './measure.ts';

export interface LinkResult {
  readonly case: string;
  readonly subscriptions: number;
  readonly messageBytes: number;
  readonly rate: number;
  readonly messages: number;
  /** The ratio that is held against the limit, or "no". */
  readonly asserted: string;
  /** Seconds until every subscription had every message. */
  readonly seconds: number;
  readonly deliveriesPerS: number;
  /** MB in both directions: chunks one way; acks, credit and heartbeats the other. */
  readonly linkMb: number;
  /** Bytes on the link ÷ payload: the data of the messages, without ids and times. */
  readonly linkToPayload: number;
  /** The part of linkToPayload that goes towards the owner. */
  readonly backToPayload: number;
  /** Bytes on the link ÷ frames: what one subscriber gets, the payload with ids and times. */
  readonly linkToFrames: number;
}

export interface LinkLoad {
  readonly messageBytes: number;
  readonly messages: number;
  /**
   * Messages a second; 0: as fast as it goes, which is more than the relay can send on, so that subscriptions
   * fall behind.
   */
  readonly rate: number;
  /**
   * What crosses is only reported, not asserted: with a message or so in a chunk, naming it for 64 consumers
   * costs more than is allowed.
   */
  readonly sparse?: boolean;
}

const SUBSCRIPTIONS = 64;
/** Most bytes between the brokers, as a multiple of the payload, or of the frames for small messages. */
const MAX_LINK_TO_PAYLOAD = 1.2;
/**
 * In messages below this size ids and times alone are nearly a fifth, so what crosses is held against the
 * frames.
 */
const SMALL_BYTES = 1024;

/** Rejects if more crosses than is allowed, unless the load is sparse. */
export async function runClusterLink(load: LinkLoad): Promise<LinkResult> {
  const { messageBytes, messages, rate, sparse = false } = load;
  const consumers = Array.from({ length: SUBSCRIPTIONS }, (_, i) => `bench-${i}`);
  await using redis = await startRedis({ args: REDIS_ARGS });
  await using cluster = await startCluster({ redis: redis.address, proxies: true });
  await using client = cluster.client(0);
  await define(client, { topic: 'bench', subscriptions: consumers });
  const owner = await ownerOf(cluster, 'bench');
  const { bytes } = cluster.brokers[owner]!.peerProxy!;
  const edges: { toServer: number; toClient: number }[] = [];
  const { delivered, deliveredBytes, seconds } = await measure(
    {
      address: cluster.brokers[(owner + 1) % cluster.brokers.length]!.address,
      // Through the relay, what is published would cross as well, the other way.
      publisherAddress: cluster.brokers[owner]!.address,
      certs: certsOf(cluster),
      topic: 'bench',
      consumers,
      connections: 'shared',
      messageBytes,
      rate,
      keys: 0,
      outstandingMessages: 20_000,
      publishCount: messages,
      untilDelivered: true,
      seconds: 0,
      warmupSeconds: 0,
    },
    [],
    () => edges.push({ ...bytes }),
  );
  const forth = edges[1]!.toClient - edges[0]!.toClient;
  const back = edges[1]!.toServer - edges[0]!.toServer;
  const payload = messages * messageBytes;
  const result = {
    case: 'cluster-link',
    subscriptions: SUBSCRIPTIONS,
    messageBytes,
    rate,
    messages,
    asserted: sparse ? 'no' : messageBytes < SMALL_BYTES ? 'linkToFrames' : 'linkToPayload',
    seconds: rounded(seconds),
    deliveriesPerS: Math.round(delivered / seconds),
    linkMb: rounded((forth + back) / 1e6),
    linkToPayload: rounded((forth + back) / payload),
    backToPayload: rounded(back / payload),
    linkToFrames: rounded((forth + back) / (deliveredBytes / SUBSCRIPTIONS)),
  };
  const ratio = messageBytes < SMALL_BYTES ? result.linkToFrames : result.linkToPayload;
  if (!sparse && ratio > MAX_LINK_TO_PAYLOAD) {
    throw new Error(
      `${ratio} times the payload crossed between the brokers, at most ${MAX_LINK_TO_PAYLOAD} is allowed: ${JSON.stringify(result)}`,
    );
  }
  return result;
}
