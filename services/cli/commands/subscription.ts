// fanfare subscription create | list | describe | update | delete
import type { Backlog, SubscriptionInfo } from '../../client/admin-types.ts';
import type { CommonFlags } from '../config.ts';
import { confirm } from '../confirm.ts';
import { CliError, EXIT } from '../failure.ts';
import { notice } from '../notice.ts';
import { type Columns, formatLabels, printDone, printList, printOne } from '../output.ts';
import { withClient } from '../session.ts';
import { formatCount, formatDuration } from '../units.ts';

export interface SubscriptionFlags extends CommonFlags {
  readonly topic: string;
  readonly ordering?: boolean;
  readonly from?: 'latest' | 'earliest';
  /** Milliseconds. */
  readonly ackDeadline?: number;
  readonly label?: Readonly<Record<string, string>>;
}

const COLUMNS: Columns<SubscriptionInfo> = {
  name: (subscription) => subscription.id,
  topic: (subscription) => subscription.topic.slice(subscription.topic.lastIndexOf('/') + 1),
  ordering: (subscription) => (subscription.ordering ? 'yes' : 'no'),
  'ack deadline': (subscription) => `${subscription.ackDeadlineSeconds}s`,
  labels: (subscription) => formatLabels(subscription.labels),
};

const DETAILS: Columns<SubscriptionInfo & { readonly backlog?: Backlog }> = {
  ...COLUMNS,
  name: (subscription) => subscription.name,
  topic: (subscription) => subscription.topic,
  from: (subscription) => subscription.start,
  created: (subscription) => subscription.createTime?.toISOString() ?? '-',
};

const WITH_BACKLOG: Columns<SubscriptionInfo & { readonly backlog?: Backlog }> = {
  ...DETAILS,
  backlog: ({ backlog }) => `${formatCount(backlog?.messages ?? 0)} messages`,
  outstanding: ({ backlog }) => formatCount(backlog?.outstandingMessages ?? 0),
  'oldest unacked': ({ backlog }) =>
    backlog?.oldestUnackedAgeMs === undefined ? '-' : formatDuration(backlog.oldestUnackedAgeMs),
  consumers: ({ backlog }) => backlog?.consumers ?? 0,
};

export async function createSubscription(name: string, flags: SubscriptionFlags): Promise<void> {
  const subscription = await withClient(flags, (client) =>
    client.admin.createSubscription(name, {
      topic: flags.topic,
      ordering: flags.ordering ?? false,
      ...(flags.from !== undefined && { start: flags.from }),
      ...deadlineOf(flags),
      ...(flags.label !== undefined && { labels: flags.label }),
    }),
  );
  await printDone('the subscription was created', flags.output, subscription, DETAILS);
}

export async function listSubscriptions(flags: CommonFlags & { readonly topic?: string }): Promise<void> {
  const subscriptions = await withClient(flags, (client) =>
    client.admin.listSubscriptions(flags.topic === undefined ? {} : { topic: flags.topic }),
  );
  if (subscriptions.length === 0 && flags.output === 'table') {
    notice('no subscriptions yet: "fanfare subscription create NAME --topic TOPIC"');
  } else await printList(flags.output, subscriptions, COLUMNS);
}

export async function describeSubscription(name: string, flags: CommonFlags): Promise<void> {
  const described = await withClient(flags, async (client) => {
    const subscription = await client.admin.getSubscription(name);
    const [backlog] = await client.admin.getBacklog([name]);
    return backlog === undefined ? subscription : { ...subscription, backlog };
  });
  await printOne(flags.output, described, WITH_BACKLOG);
}

export async function updateSubscription(
  name: string,
  flags: Omit<SubscriptionFlags, 'topic'>,
): Promise<void> {
  const settings = { ...deadlineOf(flags), ...(flags.label !== undefined && { labels: flags.label }) };
  if (Object.keys(settings).length === 0) {
    throw new CliError('nothing to change: give --ack-deadline or --label', EXIT.usage);
  }
  const subscription = await withClient(flags, (client) => client.admin.updateSubscription(name, settings));
  await printDone('the subscription was changed', flags.output, subscription, DETAILS);
}

export async function deleteSubscription(
  name: string,
  flags: CommonFlags & { readonly yes?: boolean },
  signal: AbortSignal,
): Promise<void> {
  await confirm(`Delete subscription ${name} and its place in the topic?`, flags.yes, signal);
  await withClient(flags, (client) => client.admin.deleteSubscription(name));
}

function deadlineOf({ ackDeadline }: { readonly ackDeadline?: number }): { ackDeadlineSeconds?: number } {
  if (ackDeadline === undefined) return {};
  if (ackDeadline % 1_000 !== 0)
    throw new CliError('--ack-deadline is in whole seconds, 1s to 600s', EXIT.usage);
  return { ackDeadlineSeconds: ackDeadline / 1_000 };
}
