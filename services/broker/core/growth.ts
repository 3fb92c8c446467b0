// How a topic grows without mixing up the order of its ordering keys. A key of a topic with n partitions may
// belong to another partition when there are m. So each partition's log is cut into *eras*: from a certain
// offset on its messages were accepted by the new count. Two rules keep the order, and both ask from which
// partitions keys come (sourcesOf):
//
//   publishing   a partition takes messages by a count once every partition from which keys come to it has
//                begun that era, and so takes none of these keys any more
//   delivery     in a subscription with ordering a partition's era waits until the subscription has settled,
//                in every partition from which keys come, what was accepted before
//
// An era waits for earlier ones alone, so nothing ever waits in a circle. A partition's eras are stored as
// the record of a cursor whose subscription is the topic's own incarnation, fenced like every cursor.
import { BrokerError } from './errors.ts';

/** The messages of a partition that were accepted while its topic had so many, up to the next era. */
export interface Era {
  readonly partitions: number;
  readonly fromOffset: number;
}

/** A partition and an era that it must have begun; what lies before that era is what has to be settled. */
export interface Source {
  readonly partition: number;
  /** The era's count of partitions. */
  readonly partitions: number;
}

/** All counts of partitions that the topic has had, rising. */
export function partitionCounts(topic: {
  readonly partitions: number;
  readonly formerPartitions?: readonly number[];
}): readonly number[] {
  return [...(topic.formerPartitions ?? []), topic.partitions];
}

/** The first era of a partition without a record: by the first count with which the partition exists. */
export function firstEra(counts: readonly number[], partition: number): Era {
  const partitions = counts.find((count) => count > partition) ?? counts.at(-1)!;
  return { partitions, fromOffset: 0 };
}

/**
 * The other partitions from which keys have come to `partition` with its era of that count, directly or over
 * partitions in between. partitionOfKey gives each partition an equal range of hashes, so a partition takes
 * keys over from neighbours.
 */
export function sourcesOf(counts: readonly number[], partition: number, partitions: number): Source[] {
  const sources: Source[] = [];
  let first = partition;
  let last = partition;
  for (let at = counts.indexOf(partitions); at > 0; at -= 1) {
    const before = counts[at - 1]!;
    const after = counts[at]!;
    first = Math.floor((first * before) / after);
    last = Math.ceil(((last + 1) * before) / after) - 1;
    for (let source = first; source <= last; source += 1)
      if (source !== partition) sources.push({ partition: source, partitions: after });
  }
  return sources;
}

/** Where the era of that count, or else of the next greater one, begins. Undefined: there is none yet. */
export function beginOf(eras: readonly Era[], partitions: number): number | undefined {
  return eras.find((era) => era.partitions >= partitions)?.fromOffset;
}

/**
 * The eras of a log that ends there. A store that went back may have forgotten messages behind which an era
 * had begun: it begins at the log's end then, or what is waited for would never come.
 */
export function erasWithin(eras: readonly Era[], endOffset: number): Era[] {
  return eras.map((era) => ({ ...era, fromOffset: Math.min(era.fromOffset, endOffset) }));
}

const FORMAT = 1;

export function encodeEras(eras: readonly Era[]): Uint8Array {
  const numbers = eras.flatMap(({ partitions, fromOffset }) => [partitions, fromOffset]);
  return new TextEncoder().encode([FORMAT, ...numbers].join(' '));
}

/** FAILED_PRECONDITION on bytes of another format: a record of a newer version, or a damaged store. */
export function decodeEras(record: Uint8Array): Era[] {
  const [format, ...numbers] = new TextDecoder().decode(record).split(' ').map(Number);
  const isWhole = numbers.length % 2 === 0 && numbers.every((number) => Number.isSafeInteger(number));
  if (format !== FORMAT || !isWhole)
    throw new BrokerError(
      'FAILED_PRECONDITION',
      'the stored eras of a partition cannot be read. Was the data written by a newer version?',
    );
  return Array.from({ length: numbers.length / 2 }, (_, index) => ({
    partitions: numbers[index * 2]!,
    fromOffset: numbers[index * 2 + 1]!,
  }));
}
