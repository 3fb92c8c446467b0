// The list of all metrics: name, kind, unit, meaning, and how each is read from a snapshot.
// services/TELEMETRY.md is its table for people (a test compares them).
//
// The hot path counts in plain numbers (engine/stats.ts); everything here happens only when somebody
// collects.
import type { BacklogReport } from '../../core/backlog-report.ts';
import type { TopicSize } from '../../engine/broker.ts';
import type { LocalBacklog } from '../../engine/delivery/backlog-reporter.ts';
import type { Stats } from '../../engine/stats.ts';
import type { ProcessFigures } from './process-figures.ts';

/** What the embedded store counts; `stalled`: it refuses commits now. */
export interface StoreFigures {
  readonly commits: number;
  readonly journalWrites: number;
  readonly journalBytes: number;
  readonly directWrites: number;
  readonly directBytes: number;
  readonly merges: number;
  readonly stalls: number;
  readonly stalled: boolean;
}

/** What became of the log's lines, and of the audit's. */
export interface LineFigures {
  readonly droppedLogLines: number;
  readonly droppedAuditLines: number;
  /** Refusals that only a sum tells of. */
  readonly summedRefusals: number;
}

/** What a broker that shares its store counts. */
export interface ClusterFigures {
  readonly members: number;
  readonly ownedPartitions: number;
  readonly acquisitions: number;
  readonly handOvers: number;
  readonly abandons: number;
  readonly staleClaims: number;
  /** Writes of former owners that the store refused. */
  readonly staleWrites: number;
  /** Times that the lease was lost. */
  readonly fenced: number;
  readonly storeConnects: number;
  readonly storeFailures: number;
  readonly storeTimeouts: number;
  readonly lostSignals: number;
}

/** What the metrics of one collection are read from. */
export interface Snapshot {
  readonly stats: Readonly<Stats>;
  readonly lines: LineFigures;
  readonly cachedBytes: number;
  /** Undefined: the store is not the embedded one. */
  readonly store: StoreFigures | undefined;
  /** Undefined: the broker is alone. */
  readonly cluster: ClusterFigures | undefined;
  readonly topics: readonly TopicSize[];
  readonly backlogs: readonly LocalBacklog[];
  /** Topics and subscriptions that are in neither list because there are too many. */
  readonly unreported: number;
  readonly process: ProcessFigures;
}

export interface Point {
  readonly value: number;
  readonly attributes: Readonly<Record<string, string>>;
}

/**
 * counter: only grows. sum: can be added up over brokers, and falls too. gauge: adding it up makes no sense.
 */
export type MetricKind = 'counter' | 'sum' | 'gauge';

export interface Metric {
  readonly name: string;
  readonly kind: MetricKind;
  /** The unit in UCUM. */
  readonly unit: string;
  readonly meaning: string;
  readonly read: (snapshot: Snapshot) => readonly Point[];
}

export const METRICS: readonly Metric[] = [
  stat('publishRequests', 'publish.requests', 'counter', '{request}', 'Publish requests taken in'),
  stat('publishedMessages', 'publish.messages', 'counter', '{message}', 'Messages published and stored'),
  stat('publishedBytes', 'publish.size', 'counter', 'By', 'Frames published and stored'),
  stat('refusedPublishes', 'publish.refused', 'counter', '{refusal}', 'Publishes refused as too much waited'),
  stat('uncommittedBytes', 'publish.uncommitted.size', 'sum', 'By', 'Messages received and not stored yet'),

  stat('appends', 'append.count', 'counter', '{append}', 'Group commits handed to the store'),
  stat('appendedChunks', 'append.chunks', 'counter', '{chunk}', 'Chunks that group commits wrote'),
  stat('appendFailures', 'append.failures', 'counter', '{append}', 'Appends that the store did not confirm'),
  stat('unknownOutcomes', 'append.unknown', 'counter', '{append}', 'Outcomes read from the tail'),
  stat('restoredMessages', 'append.restored', 'counter', '{message}', 'Messages that the store had lost'),
  stat('damagedRanges', 'log.damaged', 'sum', '{range}', 'Places in logs that cannot be read as written'),
  stat('lostClaims', 'append.stale', 'counter', '{partition}', 'Partitions lost by a refused write'),

  stat('deliveredMessages', 'delivery.messages', 'counter', '{message}', 'Messages delivered, again or not'),
  stat('deliveredBytes', 'delivery.size', 'counter', 'By', 'Frames delivered, again or not'),
  stat('redeliveredMessages', 'delivery.redelivered', 'counter', '{message}', 'Messages of attempts above 1'),
  stat('deliveryWrites', 'delivery.writes', 'counter', '{write}', 'Writes to streams and Pulls'),
  stat('ackedMessages', 'settle.acked', 'counter', '{message}', 'Messages acknowledged'),
  stat('nackedMessages', 'settle.nacked', 'counter', '{message}', 'Messages given back'),
  stat('expiredLeases', 'settle.expired', 'counter', '{message}', 'Messages whose ack deadline passed'),
  stat('consumers', 'consumers', 'sum', '{consumer}', 'Consumers connected to this broker'),
  stat('slowConsumers', 'consumers.slow', 'counter', '{consumer}', 'Streams closed as SLOW_CONSUMER'),

  stat('cursorCommits', 'cursor.commits', 'counter', '{commit}', 'Cursors committed'),
  stat('cursorCommitFailures', 'cursor.failures', 'counter', '{commit}', 'Commits of cursors that failed'),
  stat('trimmedChunks', 'retention.trims', 'counter', '{trim}', 'Times that retention trimmed a log'),
  one('cache.size', 'sum', 'By', 'Recent chunks kept in memory', (s) => s.cachedBytes),
  one('lines.dropped', 'counter', '{line}', 'Lines that nobody took', (s) => s.lines.droppedLogLines),
  one('audit.dropped', 'counter', '{line}', 'The same of changes made', (s) => s.lines.droppedAuditLines),
  one('audit.summed', 'counter', '{refusal}', 'Refusals in sums only', (s) => s.lines.summedRefusals),

  store('commits', 'commits', 'counter', '{commit}', 'Commits of all kinds'),
  store('journalWrites', 'journal.writes', 'counter', '{write}', 'Groups of them written to the journal'),
  store('journalBytes', 'journal.size', 'counter', 'By', 'Bytes written to the journal'),
  store('directWrites', 'direct.writes', 'counter', '{write}', 'Groups large enough for LMDB at once'),
  store('directBytes', 'direct.size', 'counter', 'By', 'Bytes written to LMDB at once'),
  store('merges', 'merges', 'counter', '{merge}', 'Merges of the journal into LMDB'),
  store('stalls', 'stalls', 'counter', '{stall}', 'Times that the disk was full or failed'),
  store('stalled', 'stalled', 'gauge', '1', '1 while the disk makes it refuse commits'),

  cluster('members', 'members', 'gauge', '{broker}', 'Brokers whose lease holds'),
  cluster('ownedPartitions', 'partitions', 'sum', '{partition}', 'Partitions owned here'),
  cluster('acquisitions', 'acquisitions', 'counter', '{partition}', 'Partitions taken'),
  cluster('handOvers', 'hand_overs', 'counter', '{partition}', 'Partitions handed over in order'),
  cluster('abandons', 'abandons', 'counter', '{partition}', 'Partitions dropped at once'),
  cluster('staleClaims', 'stale_claims', 'counter', '{partition}', 'Claims found to be stale'),
  cluster('staleWrites', 'stale_writes', 'counter', '{write}', 'Writes refused, of a former owner'),
  cluster('fenced', 'fenced', 'counter', '{time}', 'Times that the lease was lost'),
  cluster('storeConnects', 'store.connects', 'counter', '{connection}', 'Connections to Redis'),
  cluster('storeFailures', 'store.failures', 'counter', '{command}', 'Commands that failed'),
  cluster('storeTimeouts', 'store.timeouts', 'counter', '{command}', 'Commands not answered in time'),
  cluster('lostSignals', 'signals.lost', 'counter', '{signal}', 'Signals that could not be sent'),

  topic(
    'publish.messages',
    'counter',
    '{message}',
    'Messages since it was created',
    (t) => t.publishedMessages,
  ),
  topic('stored.messages', 'sum', '{message}', 'Messages that its logs hold', (t) => t.storedMessages),
  topic('stored.size', 'sum', 'By', 'Frames that its logs hold', (t) => t.storedBytes),

  subscription('backlog.messages', 'sum', '{message}', 'Messages not acknowledged', (b) => b.messages),
  subscription('backlog.size', 'sum', 'By', 'Frames not acknowledged, about', (b) => b.bytes),
  subscription('backlog.age', 'gauge', 's', 'Oldest unacked age; absent without backlog', oldestAgeSeconds),
  subscription(
    'outstanding',
    'sum',
    '{message}',
    'Messages leased to consumers',
    (b) => b.outstandingMessages,
  ),
  subscription(
    'consumers',
    'sum',
    '{consumer}',
    'Consumers connected to this broker',
    (b) => b.connectedConsumers,
  ),
  subscription('appended', 'counter', '{message}', 'Messages appended for it', (b) => b.appendedTotal),
  subscription('delivered', 'counter', '{message}', 'Messages delivered to it', (b) => b.deliveredTotal),
  subscription(
    'redelivered',
    'counter',
    '{message}',
    'Messages of attempts above 1',
    (b) => b.redeliveredTotal,
  ),
  subscription('acked', 'counter', '{message}', 'Messages acknowledged', (b) => b.ackedTotal),
  subscription(
    'lost',
    'counter',
    '{message}',
    'Messages trimmed before their ack',
    (b) => b.expiredByRetentionTotal,
  ),
  one('unreported', 'gauge', '{resource}', 'Topics and subscriptions left out', (s) => s.unreported),

  // These have the names of OpenTelemetry's conventions.
  figures('process.cpu.time', 'counter', 's', 'CPU time', 'cpu.mode', (p) => p.cpuSeconds),
  figure('process.memory.usage', 'sum', 'By', 'Resident memory', (p) => p.residentBytes),
  figure('process.uptime', 'gauge', 's', 'Since the process was started', (p) => p.uptimeSeconds),
  figure('v8js.memory.heap.used', 'sum', 'By', 'JavaScript heap in use', (p) => p.heapUsedBytes),
  figures(
    'nodejs.eventloop.time',
    'counter',
    's',
    'Time at work and waiting',
    'nodejs.eventloop.state',
    (p) => p.loopSeconds,
  ),
  figure('nodejs.eventloop.delay.p50', 'gauge', 's', 'Lateness, median', (p) => p.loopDelay.p50),
  figure('nodejs.eventloop.delay.p99', 'gauge', 's', 'Lateness, 99th percentile', (p) => p.loopDelay.p99),
  figure('nodejs.eventloop.delay.max', 'gauge', 's', 'Lateness, largest', (p) => p.loopDelay.max),
];

function one(
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
  read: (snapshot: Snapshot) => number,
): Metric {
  const points = (snapshot: Snapshot): Point[] => [{ value: read(snapshot), attributes: {} }];
  return { name: `fanfare.broker.${name}`, kind, unit, meaning, read: points };
}

function stat(field: keyof Stats, name: string, kind: MetricKind, unit: string, meaning: string): Metric {
  return one(name, kind, unit, meaning, ({ stats }) => stats[field]);
}

function store(
  field: keyof StoreFigures,
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
): Metric {
  const points = (snapshot: Snapshot): Point[] =>
    snapshot.store === undefined ? [] : [{ value: Number(snapshot.store[field]), attributes: {} }];
  return { name: `fanfare.broker.store.${name}`, kind, unit, meaning, read: points };
}

function cluster(
  field: keyof ClusterFigures,
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
): Metric {
  const points = (snapshot: Snapshot): Point[] =>
    snapshot.cluster === undefined ? [] : [{ value: snapshot.cluster[field], attributes: {} }];
  return { name: `fanfare.broker.cluster.${name}`, kind, unit, meaning, read: points };
}

function topic(
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
  read: (size: TopicSize) => number,
): Metric {
  const points = ({ topics }: Snapshot): Point[] =>
    topics.map((size) => ({ value: read(size), attributes: { 'fanfare.topic': size.topic } }));
  return { name: `fanfare.broker.topic.${name}`, kind, unit, meaning, read: points };
}

/** A subscription for which `read` gives undefined has no point. */
function subscription(
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
  read: (report: LocalBacklog) => number | undefined,
): Metric {
  const points = ({ backlogs }: Snapshot): Point[] => {
    const all: Point[] = [];
    for (const report of backlogs) {
      const value = read(report);
      const attributes = { 'fanfare.subscription': report.subscription, 'fanfare.topic': report.topic };
      if (value !== undefined) all.push({ value, attributes });
    }
    return all;
  };
  return { name: `fanfare.broker.subscription.${name}`, kind, unit, meaning, read: points };
}

function oldestAgeSeconds({ oldestUnackedAgeMs }: BacklogReport): number | undefined {
  return oldestUnackedAgeMs === undefined ? undefined : oldestUnackedAgeMs / 1000;
}

function figure(
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
  read: (figures: ProcessFigures) => number,
): Metric {
  const points = (snapshot: Snapshot): Point[] => [{ value: read(snapshot.process), attributes: {} }];
  return { name, kind, unit, meaning, read: points };
}

/** One point for each entry, told apart by the attribute. */
function figures(
  name: string,
  kind: MetricKind,
  unit: string,
  meaning: string,
  attribute: string,
  read: (figures: ProcessFigures) => Readonly<Record<string, number>>,
): Metric {
  const points = (snapshot: Snapshot): Point[] =>
    Object.entries(read(snapshot.process)).map(([key, value]) => ({
      value,
      attributes: { [attribute]: key },
    }));
  return { name, kind, unit, meaning, read: points };
}
