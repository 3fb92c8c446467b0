// Decides which lane a message goes into and which stream carries which lane.
//
// Without a routing table (the default, and until there is one), brokers find the owners: one lane, one
// stream to any broker. With one: a lane for each partition, a stream for each owner; lanes of partitions
// that nobody owns, or whose owner can't be reached, are carried by the stream to any broker. A lane changes
// its stream only while nothing of it is in flight; when the number of partitions changes, new lanes take
// over, and are held until those before them are empty. So nothing of an ordering key overtakes anything.
import type { Connection } from './connection.ts';
import type { FanfareError } from './errors.ts';
import { partitionOfKey } from './partitioning.ts';
import { type LaneOptions, PublishLane } from './publish-lane.ts';
import { PublishStream } from './publish-stream.ts';
import { type RouteTable, RouteWatch } from './routes.ts';

export interface PublishRouterOptions extends LaneOptions {
  readonly onRetry: (error: FanfareError, delayMs: number) => void;
}

/**
 * Deadlines are looked at every quarter of retryDeadlineMs, within these bounds: so late one may be noticed.
 */
const MIN_DEADLINE_CHECK_MS = 10;
const MAX_DEADLINE_CHECK_MS = 1_000;
/**
 * Messages without a key stay with one partition for so many bytes or so long: large
 * batches, and a share for all.
 */
const STICKY_BYTES = 256 * 1024;
const STICKY_MS = 50;
/** An owner whose stream breaks so often in a row without an answer is gone around for a while. */
const MAX_BROKEN = 2;
const AROUND_MS = 5_000;

export class PublishRouter {
  readonly #connection: Connection;
  readonly #options: PublishRouterOptions;
  /** The streams, by the addresses of their owners; '': the stream to any broker. */
  readonly #streams = new Map<string, PublishStream>();
  readonly #watch: RouteWatch | undefined;
  #table: RouteTable = [];
  /** New messages go here: into a lane for each partition, or the only one, for all. */
  #lanes: PublishLane[];
  /** The lanes before those that are not empty yet, the oldest first: only the oldest are not held. */
  #former: PublishLane[][] = [];
  /** Until when owners are gone around, by performance.now(). */
  readonly #around = new Map<string, number>();
  readonly #deadlineCheck: NodeJS.Timeout;
  #sticky = 0;
  #stickyBytes = 0;
  #stickySinceMs = 0;

  constructor(connection: Connection, options: PublishRouterOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#lanes = [new PublishLane(undefined, options)];
    this.#route(this.#lanes[0]!);
    const checkMs = Math.max(
      MIN_DEADLINE_CHECK_MS,
      Math.min(MAX_DEADLINE_CHECK_MS, options.retryDeadlineMs / 4),
    );
    this.#deadlineCheck = setInterval(() => this.#checkDeadlines(), checkMs);
    // What is outstanding has sockets and timers of its own.
    this.#deadlineCheck.unref();
    this.#watch = connection.direct
      ? new RouteWatch(connection, options.topic, {
          onTable: (table) => this.#onTable(table),
          // Brokers are left to find the owners.
          onNone: () => this.#onTable([]),
        })
      : undefined;
  }

  /** The lane for a message of that many bytes. */
  laneFor(orderingKey: string | undefined, bytes: number): PublishLane {
    const lanes = this.#lanes;
    if (lanes.length === 1) return lanes[0]!;
    return lanes[orderingKey ? partitionOfKey(orderingKey, lanes.length) : this.#stickyPartition(bytes)]!;
  }

  /** Rejects the messages of failed keys that are not in flight. */
  rejectKeys(failed: ReadonlySet<string>, cause: FanfareError): void {
    for (const lane of this.#allLanes()) lane.rejectKeys(failed, cause);
  }

  /** Lets everything be sent as soon as it can be. */
  flush(): void {
    for (const lane of this.#allLanes()) lane.flush();
  }

  /** Ends the streams, gently where everything was answered, and rejects everything else with the error. */
  close(error: FanfareError): void {
    this.#watch?.close();
    clearInterval(this.#deadlineCheck);
    for (const stream of this.#streams.values()) stream.abandon(error);
    this.#streams.clear();
    for (const lane of this.#allLanes()) lane.close(error);
  }

  #onTable(table: RouteTable): void {
    const count = Math.max(table.length, 1);
    this.#table = table;
    const wereDirect = this.#lanes[0]!.partition !== undefined;
    if (count !== this.#lanes.length || wereDirect !== table.length > 0) {
      this.#former.push(this.#lanes);
      this.#lanes = Array.from(
        { length: count },
        (_, partition) => new PublishLane(table.length === 0 ? undefined : partition, this.#options, true),
      );
    }
    for (const lane of this.#lanes) this.#route(lane);
    this.#retireFormer();
    this.#closeUnused();
  }

  /**
   * Gives the lane to the stream that should carry it: now or, by #onIdle, once nothing of it is in flight.
   */
  #route(lane: PublishLane): void {
    const address = this.#addressFor(lane);
    const carrier = lane.carrier as PublishStream | undefined;
    if (carrier !== undefined && (carrier.address === address || !lane.isIdle)) return;
    const stream = this.#streamTo(address);
    carrier?.lanes.delete(lane);
    stream.lanes.add(lane);
    lane.carrier = stream;
    stream.wake(lane);
  }

  /** Undefined: any broker. */
  #addressFor({ partition }: PublishLane): string | undefined {
    const address = partition === undefined ? undefined : this.#table[partition];
    if (address === undefined) return undefined;
    const untilMs = this.#around.get(address);
    if (untilMs === undefined) return address;
    if (performance.now() < untilMs) return undefined;
    this.#around.delete(address);
    return address;
  }

  #streamTo(address: string | undefined): PublishStream {
    let stream = this.#streams.get(address ?? '');
    if (stream === undefined) {
      const { retryDeadlineMs, backoff, onRetry } = this.#options;
      stream = new PublishStream(this.#connection, {
        address,
        retryDeadlineMs,
        backoff,
        onRetry,
        onBroken: (broken, times) => this.#onBroken(broken, times),
        onIdle: (lane) => this.#onIdle(lane),
      });
      this.#streams.set(address ?? '', stream);
    }
    return stream;
  }

  #onIdle(lane: PublishLane): void {
    if (this.#former.length > 0) this.#retireFormer();
    if (this.#watch === undefined) return;
    const before = lane.carrier;
    this.#route(lane);
    if (lane.carrier !== before) this.#closeUnused();
  }

  #onBroken({ address, lanes }: PublishStream, times: number): void {
    if (address === undefined || times < MAX_BROKEN) return;
    this.#around.set(address, performance.now() + AROUND_MS);
    for (const lane of [...lanes]) this.#route(lane);
  }

  /** Lets the next lanes go once those before them have nothing left. */
  #retireFormer(): void {
    while (this.#former[0]?.every((lane) => lane.isEmpty)) {
      for (const lane of this.#former.shift()!) (lane.carrier as PublishStream).lanes.delete(lane);
      for (const lane of this.#former[0] ?? this.#lanes) lane.release();
      this.#closeUnused();
    }
  }

  #allLanes(): PublishLane[] {
    return [...this.#former.flat(), ...this.#lanes];
  }

  #closeUnused(): void {
    for (const [key, stream] of this.#streams) {
      if (stream.lanes.size > 0 || !stream.isIdle) continue;
      this.#streams.delete(key);
      stream.close();
    }
  }

  #checkDeadlines(): void {
    const nowMs = performance.now();
    for (const stream of [...this.#streams.values()]) stream.checkDeadlines(nowMs);
    for (const lane of this.#allLanes()) {
      lane.giveUpLate(nowMs);
      // The owner of the lane's partition may be worth another try.
      if (this.#around.size > 0) this.#route(lane);
    }
    this.#retireFormer();
  }

  /** The partition for a message without a key: one that somebody owns, if there is any. */
  #stickyPartition(bytes: number): number {
    const nowMs = performance.now();
    this.#stickyBytes += bytes;
    if (this.#stickyBytes < STICKY_BYTES && nowMs - this.#stickySinceMs < STICKY_MS) {
      if (this.#sticky < this.#lanes.length) return this.#sticky;
    }
    this.#stickyBytes = bytes;
    this.#stickySinceMs = nowMs;
    for (let tries = 0; tries < this.#lanes.length; tries++) {
      this.#sticky = (this.#sticky + 1) % this.#lanes.length;
      if (this.#table[this.#sticky] !== undefined) break;
    }
    return this.#sticky;
  }
}
