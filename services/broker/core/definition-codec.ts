// Definitions as JSON text, which is what a DefinitionStore keeps.
//
// Every document says its format; one of a newer format is refused rather than misread. A *tombstone* is the
// document of something deleted whose data may still be there: it stays until the data is gone, so that a
// crash leaks nothing.
import { DURABILITY_LEVELS, type SubscriptionDefinition, type TopicDefinition } from './definitions.ts';
import { BrokerError } from './errors.ts';

export const DEFINITION_FORMAT = 1;

export interface Stored<T> {
  readonly definition: T;
  readonly deleted: boolean;
}

export function encodeDefinition(definition: TopicDefinition | SubscriptionDefinition): string {
  // Name and revision are the store's own columns.
  const { name: _name, revision: _revision, ...rest } = definition;
  return JSON.stringify({ format: DEFINITION_FORMAT, ...rest });
}

/** Leaves out labels and start offsets: they can be long, and nobody needs those of something deleted. */
export function encodeTombstone(definition: TopicDefinition | SubscriptionDefinition): string {
  const { name: _name, revision: _revision, ...rest } = definition;
  const shorter = { ...rest, labels: {}, startOffsets: undefined };
  return JSON.stringify({ format: DEFINITION_FORMAT, deleted: true, ...shorter });
}

/** FAILED_PRECONDITION: the document has a newer format. INTERNAL: it is not a topic's. */
export function decodeTopic(name: string, revision: number, body: string): Stored<TopicDefinition> {
  const document = parse(name, body);
  const durability = DURABILITY_LEVELS.find((level) => level === document.durability);
  const { formerPartitions } = document;
  if (durability === undefined) throw damaged(name, 'durability');
  if (formerPartitions !== undefined && !isNumbers(formerPartitions)) throw damaged(name, 'formerPartitions');
  return {
    deleted: document.deleted === true,
    definition: {
      name,
      revision,
      partitions: number(name, document, 'partitions'),
      ...(formerPartitions !== undefined && { formerPartitions }),
      retentionMs: number(name, document, 'retentionMs'),
      retentionBytesPerPartition: number(name, document, 'retentionBytesPerPartition'),
      durability,
      // Documents from before minReplicas existed have none.
      minReplicas: document.minReplicas === undefined ? 0 : number(name, document, 'minReplicas'),
      labels: labels(name, document),
      logEpoch: number(name, document, 'logEpoch'),
      createTimeMs: number(name, document, 'createTimeMs'),
    },
  };
}

/** As decodeTopic. */
export function decodeSubscription(
  name: string,
  revision: number,
  body: string,
): Stored<SubscriptionDefinition> {
  const document = parse(name, body);
  const { topic, start, startOffsets } = document;
  if (typeof topic !== 'string') throw damaged(name, 'topic');
  if (start !== 'latest' && start !== 'earliest') throw damaged(name, 'start');
  if (startOffsets !== undefined && !isNumbers(startOffsets)) throw damaged(name, 'startOffsets');
  return {
    deleted: document.deleted === true,
    definition: {
      name,
      revision,
      topic,
      ackDeadlineMs: number(name, document, 'ackDeadlineMs'),
      ordering: document.ordering === true,
      start,
      ...(startOffsets !== undefined && { startOffsets }),
      labels: labels(name, document),
      incarnation: number(name, document, 'incarnation'),
      createTimeMs: number(name, document, 'createTimeMs'),
      topicEpoch: number(name, document, 'topicEpoch'),
    },
  };
}

type Document = Readonly<Record<string, unknown>>;

function parse(name: string, body: string): Document {
  let document: unknown;
  try {
    document = JSON.parse(body);
  } catch (cause) {
    throw new BrokerError('INTERNAL', `the stored definition of ${name} is not JSON: restore a backup`, {
      cause,
    });
  }
  if (!isDocument(document) || typeof document.format !== 'number') throw damaged(name, 'format');
  if (document.format > DEFINITION_FORMAT) {
    throw new BrokerError(
      'FAILED_PRECONDITION',
      `the stored definition of ${name} has format ${document.format}, this version reads up to ` +
        `${DEFINITION_FORMAT}: start a newer version`,
    );
  }
  return document;
}

function isDocument(value: unknown): value is Document {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((entry) => Number.isSafeInteger(entry));
}

function number(name: string, document: Document, field: string): number {
  const value = document[field];
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw damaged(name, field);
  return value;
}

function labels(name: string, document: Document): Record<string, string> {
  const value = document.labels;
  if (!isDocument(value)) throw damaged(name, 'labels');
  const entries = Object.entries(value);
  for (const [, text] of entries) if (typeof text !== 'string') throw damaged(name, 'labels');
  return Object.fromEntries(entries as [string, string][]);
}

function damaged(name: string, field: string): BrokerError {
  return new BrokerError(
    'INTERNAL',
    `the stored definition of ${name} is damaged at "${field}": restore a backup`,
  );
}
