// Bugs in the adapters: the embedded store, the Redis store's own part, and gRPC.
import { type PlantedBug, unit } from '../bug.ts';

const ADAPTERS = 'services/broker/adapters';
const integration = (file: string, named: string) => ({ test: `test/integration/${file}.test.ts`, named });
const embedded = (named: string) => ({ test: 'test/conformance/embedded.test.ts', named });

export const ADAPTER_BUGS: readonly PlantedBug[] = [
  {
    name: 'the checksum of a chunk is not verified',
    file: `${ADAPTERS}/embedded/log-store.ts`,
    find: 'framesSum(bytes) === info.framesSum;',
    replace: 'info.framesSum !== -1;',
    noticed: embedded('a chunk that a bad disk has damaged'),
  },
  {
    name: 'a trim deletes the chunk that holds the offset',
    file: `${ADAPTERS}/embedded/log-store.ts`,
    find: 'if (endOffset > beforeOffset || ops.length',
    replace: 'if (info.firstOffset >= beforeOffset || ops.length',
    noticed: embedded('trims whole chunks below the offset, as many as asked'),
  },
  {
    name: 'an append that expects another end is written',
    file: `${ADAPTERS}/embedded/log-store.ts`,
    find: 'if (expectedEnd !== endOffset) {',
    replace: 'if (expectedEnd < 0) {',
    noticed: embedded('refuses an append that expects another end, and writes nothing'),
  },
  {
    name: 'a stale owner appends',
    file: `${ADAPTERS}/embedded/partition-table.ts`,
    find: 'if (ownerEpoch < newest) {',
    replace: 'if (ownerEpoch < 0) {',
    noticed: embedded('a stale ownerEpoch can neither append nor trim, after reopening too'),
  },
  {
    name: 'a stale owner puts cursors back',
    file: `${ADAPTERS}/embedded/cursor-store.ts`,
    find: 'if (this.#partitions.refusal(commit.partition, commit.ownerEpoch)) stale.push(index);\n          else ops',
    replace: 'ops',
    noticed: embedded('writes those with a current ownerEpoch and returns the indexes of the others'),
  },
  {
    name: 'a claim is given that was given before',
    file: `${ADAPTERS}/embedded/ownership-store.ts`,
    find: 'Math.max(staged.ownerEpoch, above) + 1',
    replace: 'staged.ownerEpoch + 1',
    noticed: embedded('an epoch is above the one that the caller has seen'),
  },
  {
    name: 'a journal with a record missing in the middle is taken as it is',
    file: `${ADAPTERS}/embedded/journal.ts`,
    find: 'if (record.sequence === expected) continue;',
    replace: 'if (record.sequence >= expected) continue;',
    noticed: integration('store-folder', 'the journal at start'),
  },
  {
    name: 'the checksum of a journal record is not verified',
    file: `${ADAPTERS}/embedded/journal-record.ts`,
    find: 'return payloadCrc === file.readUInt32BE(at + 8) ? payloadBytes : undefined;',
    replace: 'return payloadCrc >= 0 ? payloadBytes : undefined;',
    noticed: unit('journal-record'),
  },
  {
    name: 'a journal file is used again before LMDB has what is in it',
    file: `${ADAPTERS}/embedded/durable-kv.ts`,
    find: 'this.#overlay.thaw();\n      this.#tablesFailed = true;\n      await this.#stalled(error, 0);\n      return;',
    replace: 'this.#tablesFailed = true;\n      await this.#stalled(error, 0);',
    noticed: integration('store-faults', 'a merge'),
  },
  {
    name: 'what a merge has failed to write is forgotten',
    file: `${ADAPTERS}/embedded/overlay.ts`,
    find: 'this.#pending = this.#frozen;\n    this.#frozen = new Map();',
    replace: 'this.#frozen = new Map();',
    noticed: integration('store-faults', 'a merge'),
  },
  {
    name: 'on a full disk messages take the space that trims and cursors need',
    file: `${ADAPTERS}/embedded/reserve.ts`,
    find: 'if (bytes > this.#allowanceBytes) return false;',
    replace: '',
    noticed: unit('reserve'),
  },
  {
    name: 'the checksum of a chunk in Redis is not verified',
    file: `${ADAPTERS}/redis/chunk-entry.ts`,
    find: 'Number(sum) === sumOf(text.slice(0, sumAt), frames)',
    replace: 'Number(sum) >= 0',
    noticed: { test: 'test/conformance/redis.test.ts', named: 'a chunk that a bad disk has damaged' },
  },
  {
    name: 'after an append of unknown outcome the bounds are read without forbidding it',
    file: `${ADAPTERS}/redis/log-store.ts`,
    find: 'this.#doubtful.add(formatPartitionId(partition));',
    replace: '',
    noticed: unit('redis-log-store'),
  },
  {
    name: 'a publish stream is read on, however much of it is unanswered',
    file: `${ADAPTERS}/grpc/publisher.ts`,
    find: 'if (blocked || unansweredBytes > limits.maxStreamBytes) call.pause();',
    replace: 'if (blocked) call.pause();',
    noticed: integration('limits-connection', 'a publish stream whose requests are not answered'),
  },
  {
    name: 'a consumer that reads nothing is given whatever its credit allows',
    file: `${ADAPTERS}/grpc/subscriber.ts`,
    find: 'this.#bytes < this.#options.limits.outboxBytes && this.#writes < OUTBOX_WRITES',
    replace: 'this.#writes < 1e9',
    noticed: integration('limits-connection', 'a consumer that reads nothing'),
  },
  {
    name: 'a consumer that reads nothing keeps its stream',
    file: `${ADAPTERS}/grpc/subscriber.ts`,
    find: 'if (!this.writable && this.#cancelWatch === undefined) this.#watch();',
    replace: '',
    noticed: integration('limits-connection', 'a consumer that reads nothing is given as much'),
  },
  {
    name: 'whoever has a certificate opens a link as a broker',
    file: `${ADAPTERS}/grpc/peer.ts`,
    find: 'if (!isBroker(principal)) {',
    replace: "if (principal === '') {",
    noticed: integration('peer', 'only a broker opens a link'),
  },
  {
    name: 'a link that is meant for a former process of this broker is taken',
    file: `${ADAPTERS}/grpc/peer.ts`,
    find: 'if (to !== selfId)',
    replace: "if (to === '')",
    noticed: integration('peer', 'only a broker opens a link'),
  },
  {
    name: 'what waits for a link’s transport grows without end',
    file: `${ADAPTERS}/grpc/peer-writer.ts`,
    find: 'if (this.#pending + this.#gathered > MAX_PENDING_BYTES) this.#full = true;',
    replace: '',
    noticed: unit('peer-writer'),
  },
  {
    name: 'consumers that get runs of different chunks are told that they are of one',
    file: `${ADAPTERS}/grpc/peer-answers.ts`,
    find: 'a.chunk === b.chunk &&',
    replace: '',
    noticed: unit('peer-codec'),
  },
];
