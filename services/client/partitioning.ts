// Which partition an ordering key goes to: the broker's rule (its core/publish-batch.ts and
// core/partition.ts), copied, since a client shares no code with a broker. It can never change;
// test/unit/client-partitioning.test.ts holds the two together. It only serves to find the owner: the broker
// computes the partition again.

/** Room for the longest key that a message may have. */
const scratch = Buffer.allocUnsafe(1024);

/** The partition in a topic with that many. The key has at most 1,024 bytes and is not empty. */
export function partitionOfKey(orderingKey: string, partitions: number): number {
  return Math.floor((hashOfKey(orderingKey) / 0x1_0000_0000) * partitions);
}

/** FNV-1a of the UTF-8, then murmur3's finaliser; never 0. */
function hashOfKey(orderingKey: string): number {
  const end = scratch.write(orderingKey);
  let hash = 0x811c9dc5;
  for (let at = 0; at < end; at++) hash = Math.imul(hash ^ scratch[at]!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  hash = (hash ^ (hash >>> 16)) >>> 0;
  return hash === 0 ? 1 : hash;
}
