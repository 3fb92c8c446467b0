// fanfare topic create | list | describe | update | delete
import type { TopicInfo, TopicSettings } from '../../client/admin-types.ts';
import type { CommonFlags } from '../config.ts';
import { confirm } from '../confirm.ts';
import { CliError, EXIT } from '../failure.ts';
import { notice } from '../notice.ts';
import { type Columns, formatLabels, printDone, printList, printOne } from '../output.ts';
import { withClient } from '../session.ts';
import { formatDuration, formatSize } from '../units.ts';

export interface TopicFlags extends CommonFlags {
  readonly partitions?: number;
  /** Milliseconds. */
  readonly retention?: number;
  readonly retentionBytes?: number;
  readonly durability?: NonNullable<TopicSettings['durability']>;
  readonly minReplicas?: number;
  readonly label?: Readonly<Record<string, string>>;
}

const COLUMNS: Columns<TopicInfo> = {
  name: (topic) => topic.id,
  partitions: (topic) => topic.partitions,
  retention: (topic) => formatDuration(topic.retentionMs),
  'max bytes': (topic) =>
    topic.retentionBytesPerPartition === 0
      ? '-'
      : `${formatSize(topic.retentionBytesPerPartition)}/partition`,
  durability: (topic) =>
    topic.durability === 'replicated' ? `replicated(${topic.minReplicas})` : topic.durability,
  labels: (topic) => formatLabels(topic.labels),
};

const DETAILS: Columns<TopicInfo> = {
  ...COLUMNS,
  name: (topic) => topic.name,
  created: (topic) => topic.createTime?.toISOString() ?? '-',
};

export async function createTopic(name: string, flags: TopicFlags): Promise<void> {
  if (flags.minReplicas !== undefined && flags.durability !== 'replicated') {
    throw new CliError('--min-replicas goes with --durability replicated: add it', EXIT.usage);
  }
  const topic = await withClient(flags, (client) => client.admin.createTopic(name, settingsOf(flags)));
  await printDone('the topic was created', flags.output, topic, DETAILS);
}

export async function listTopics(flags: CommonFlags): Promise<void> {
  const topics = await withClient(flags, (client) => client.admin.listTopics());
  if (topics.length === 0 && flags.output === 'table') notice('no topics yet: "fanfare topic create NAME"');
  else await printList(flags.output, topics, COLUMNS);
}

export async function describeTopic(name: string, flags: CommonFlags): Promise<void> {
  const topic = await withClient(flags, (client) => client.admin.getTopic(name));
  await printOne(flags.output, topic, DETAILS);
}

export async function updateTopic(name: string, flags: TopicFlags): Promise<void> {
  const settings = settingsOf(flags);
  if (Object.keys(settings).length === 0) {
    throw new CliError(
      'nothing to change: give --partitions, --retention, --retention-bytes or --label',
      EXIT.usage,
    );
  }
  const topic = await withClient(flags, (client) => client.admin.updateTopic(name, settings));
  await printDone('the topic was changed', flags.output, topic, DETAILS);
}

export async function deleteTopic(
  name: string,
  flags: CommonFlags & { readonly force?: boolean; readonly yes?: boolean },
  signal: AbortSignal,
): Promise<void> {
  const what = flags.force
    ? `topic ${name}, its messages and its subscriptions`
    : `topic ${name} and its messages`;
  await confirm(`Delete ${what}?`, flags.yes, signal);
  await withClient(flags, (client) => client.admin.deleteTopic(name, { force: flags.force ?? false }));
}

function settingsOf(flags: TopicFlags): TopicSettings {
  return {
    ...(flags.partitions !== undefined && { partitions: flags.partitions }),
    ...(flags.retention !== undefined && { retentionMs: flags.retention }),
    ...(flags.retentionBytes !== undefined && { retentionBytesPerPartition: flags.retentionBytes }),
    ...(flags.durability !== undefined && { durability: flags.durability }),
    ...(flags.minReplicas !== undefined && { minReplicas: flags.minReplicas }),
    ...(flags.label !== undefined && { labels: flags.label }),
  };
}
