// What a Topic asks of the broker, and how that differs from what the broker has. Pure.
import type { Topic, TopicSpec } from '../api/v1alpha1/topic.ts';
import { type Comparison, sameLabels, settingsHash } from './plan-definition.ts';
import { type Owner, ownerLabels, withoutOwner } from './plan-owner.ts';

/** Durability as the admin API knows it (services/client/admin-types.ts). */
export type BrokerDurability = 'default' | 'memory' | 'stored' | 'replicated' | 'fsync';

/** A topic in the broker. */
export interface FoundTopic {
  readonly name: string;
  readonly partitions: number;
  readonly retentionMs: number;
  readonly retentionBytesPerPartition: number;
  readonly durability: BrokerDurability;
  readonly minReplicas: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly logEpoch: number;
}

export interface CreateTopic {
  readonly partitions: number;
  readonly retentionMs: number;
  readonly retentionBytesPerPartition: number;
  readonly durability?: BrokerDurability;
  readonly minReplicas?: number;
  readonly labels: Readonly<Record<string, string>>;
}

export type TopicChange = Partial<
  Pick<CreateTopic, 'partitions' | 'retentionMs' | 'retentionBytesPerPartition' | 'labels'>
>;

export function topicId({ metadata, spec }: Pick<Topic, 'metadata' | 'spec'>): string {
  return spec.topicName ?? metadata.name;
}

export function topicName(project: string, topic: Pick<Topic, 'metadata' | 'spec'>): string {
  return `projects/${project}/topics/${topicId(topic)}`;
}

export function desiredTopic(spec: TopicSpec, owner: Owner): { create: CreateTopic; hash: string } {
  const settings = {
    partitions: spec.partitions,
    retentionMs: spec.retentionSeconds * 1000,
    retentionBytesPerPartition: spec.retentionBytesPerPartition,
    ...(spec.durability !== undefined && {
      durability: spec.durability.toLowerCase() as BrokerDurability,
    }),
    ...(spec.minReplicas !== undefined && { minReplicas: spec.minReplicas }),
  };
  const create = { ...settings, labels: { ...spec.labels, ...ownerLabels(owner) } };
  return { create, hash: settingsHash({ ...settings, labels: spec.labels ?? null }) };
}

/** If the spec has no labels, those of the object stay as they are, whoever set them. */
export function compareTopic(spec: TopicSpec, owner: Owner, found: FoundTopic): Comparison<TopicChange> {
  const { create } = desiredTopic(spec, owner);
  const fixed: string[] = [];
  if (found.partitions > create.partitions) {
    fixed.push(
      `it has ${found.partitions} partitions in the broker, which can only grow, and the spec says ${create.partitions}`,
    );
  }
  if (create.durability !== undefined && create.durability !== found.durability) {
    fixed.push(`its durability in the broker is ${found.durability}, and the spec says ${spec.durability}`);
  }
  if (create.minReplicas !== undefined && create.minReplicas !== found.minReplicas) {
    fixed.push(
      `its minReplicas in the broker are ${found.minReplicas}, and the spec says ${create.minReplicas}`,
    );
  }
  const labels =
    spec.labels === undefined ? { ...withoutOwner(found.labels), ...ownerLabels(owner) } : create.labels;
  const change: TopicChange = {
    ...(create.partitions > found.partitions && { partitions: create.partitions }),
    ...(create.retentionMs !== found.retentionMs && { retentionMs: create.retentionMs }),
    ...(create.retentionBytesPerPartition !== found.retentionBytesPerPartition && {
      retentionBytesPerPartition: create.retentionBytesPerPartition,
    }),
    ...(!sameLabels(labels, found.labels) && { labels }),
  };
  return { fixed, change: Object.keys(change).length === 0 ? undefined : change };
}
