// fanfare.v1.Admin: from messages to engine/definitions/definitions, the backlog reporter, the draining of
// consumers and the check of the storage, and back.

import type { MessageInitShape } from '@bufbuild/protobuf';
import { Admin, type BacklogSchema } from '../../../gen/fanfare/v1/admin_pb.ts';
import { BrokerError } from '../../core/errors.ts';
import { parseProjectName, parseSubscriptionName } from '../../core/names.ts';
import type { AuditRecord, Definitions } from '../../engine/definitions/definitions.ts';
import type { BacklogReporter } from '../../engine/delivery/backlog-types.ts';
import type { ConsumerDrain } from '../../engine/delivery/draining-consumers.ts';
import {
  DEFAULT_WATCH_INTERVAL_MS,
  FIRST_MESSAGE_DELAY_MS,
  MAX_BACKLOG_SUBSCRIPTIONS,
  MAX_RESPONSE_BYTES,
  MAX_WATCH_INTERVAL_MS,
  MIN_WATCH_INTERVAL_MS,
} from '../../limits.ts';
import type { Clock } from '../../ports/clock.ts';
import { drainRequest, drainResponse } from './admin-drain.ts';
import {
  backlogBytes,
  backlogMessage,
  durationMs,
  subscriptionInput,
  subscriptionMessage,
  topicInput,
  topicMessage,
} from './admin-messages.ts';
import { partitionQuestion, partitionsResponse } from './admin-partitions.ts';
import { StorageCheck, type StorageOptions } from './admin-storage.ts';
import type { Authorize } from './identity.ts';
import { type GrpcService, grpcService, type RpcBorder } from './rpc.ts';
import { ChangeFlag, type WatchSlots } from './watch.ts';

export interface AdminOptions {
  readonly border: RpcBorder;
  readonly definitions: Definitions;
  readonly backlog: BacklogReporter;
  readonly draining: ConsumerDrain;
  readonly storage: StorageOptions;
  readonly audit: (record: AuditRecord) => void;
  readonly authorize: Authorize;
  readonly clock: Clock;
  readonly watches: WatchSlots;
}

export function adminService(options: AdminOptions): GrpcService {
  const { border, definitions, backlog, draining, authorize, audit, clock, watches } = options;
  const { method } = Admin;
  const storage = new StorageCheck(options.storage, definitions, clock);
  return grpcService(Admin, {
    createTopic: border.unary(method.createTopic, async ({ topic }, { principal }) => {
      const input = topicInput(topic);
      authorize(principal, 'create', input.name);
      return { topic: topicMessage(await definitions.createTopic(principal, input)) };
    }),
    getTopic: border.unary(method.getTopic, ({ name }, { principal }) => {
      authorize(principal, 'read', name);
      return { topic: topicMessage(definitions.getTopic(name)) };
    }),
    listTopics: border.unary(method.listTopics, (request, { principal }) => {
      authorize(principal, 'read', request.parent);
      const { items, nextPageToken } = definitions.listTopics(request);
      return { topics: items.map(topicMessage), nextPageToken };
    }),
    updateTopic: border.unary(method.updateTopic, async ({ topic, updateMask }, { principal }) => {
      const input = topicInput(topic);
      authorize(principal, 'update', input.name);
      return {
        topic: topicMessage(await definitions.updateTopic(principal, input, updateMask?.paths ?? [])),
      };
    }),
    deleteTopic: border.unary(method.deleteTopic, async ({ name, force }, { principal }) => {
      authorize(principal, 'delete', name);
      await definitions.deleteTopic(principal, name, { force });
      return {};
    }),
    createSubscription: border.unary(method.createSubscription, async ({ subscription }, { principal }) => {
      const input = subscriptionInput(subscription);
      authorize(principal, 'create', input.name);
      return { subscription: subscriptionMessage(await definitions.createSubscription(principal, input)) };
    }),
    getSubscription: border.unary(method.getSubscription, ({ name }, { principal }) => {
      authorize(principal, 'read', name);
      return { subscription: subscriptionMessage(definitions.getSubscription(name)) };
    }),
    listSubscriptions: border.unary(method.listSubscriptions, (request, { principal }) => {
      authorize(principal, 'read', request.parent);
      const { items, nextPageToken } = definitions.listSubscriptions(request, request.topic);
      return { subscriptions: items.map(subscriptionMessage), nextPageToken };
    }),
    updateSubscription: border.unary(
      method.updateSubscription,
      async ({ subscription, updateMask }, { principal }) => {
        const input = subscriptionInput(subscription);
        authorize(principal, 'update', input.name);
        const changed = await definitions.updateSubscription(principal, input, updateMask?.paths ?? []);
        return { subscription: subscriptionMessage(changed) };
      },
    ),
    deleteSubscription: border.unary(method.deleteSubscription, async ({ name }, { principal }) => {
      authorize(principal, 'delete', name);
      await definitions.deleteSubscription(principal, name);
      return {};
    }),
    getBacklog: border.unary(method.getBacklog, async (request, { principal }) => {
      authorize(principal, 'read', request.parent);
      checkSelection(request);
      return report(backlog, request);
    }),
    getPartitionBacklog: border.unary(method.getPartitionBacklog, async (request, { principal }) => {
      authorize(principal, 'read', request.subscription);
      const question = partitionQuestion(request);
      const { name, topic } = definitions.getSubscription(request.subscription);
      const { project } = parseSubscriptionName(name, 'subscription');
      const [report] = await backlog.report(`projects/${project}`, [name], question);
      return partitionsResponse(report?.partitions ?? [], definitions.getTopic(topic).partitions);
    }),
    watchBacklog: border.serverStream(method.watchBacklog, async (request, stream, { principal, signal }) => {
      authorize(principal, 'read', request.parent);
      checkSelection(request);
      const interval = request.interval && durationMs(request.interval, 'interval');
      const intervalMs = checkInterval(interval ?? DEFAULT_WATCH_INTERVAL_MS);
      using _slot = watches.take(principal, 'backlog');
      const firstMessage = new ChangeFlag();
      const concerns = selector(request);
      const unlisten = backlog.onFirstMessage((name) => concerns(name) && firstMessage.raise());
      try {
        // Each answer is measured when the former one has been taken: a slow reader skips, and still gets the
        // last.
        while (!signal.aborted) {
          await stream.send(await report(backlog, request));
          await firstMessage.waitAtMost(intervalMs, FIRST_MESSAGE_DELAY_MS, clock, signal);
        }
      } finally {
        unlisten();
      }
    }),
    checkStorage: border.serverStream(method.checkStorage, async (request, stream, { principal, signal }) => {
      authorize(principal, 'read', request.parent);
      const topics = storage.topicsOf(request);
      const { conditions } = storage;
      await stream.send({ conditions });
      for await (const partition of storage.run(topics, signal)) await stream.send({ partition });
    }),
    skipDamage: border.unary(method.skipDamage, async (request, { principal }) => {
      const { name: resource } = definitions.getTopic(request.topic);
      authorize(principal, 'update', resource);
      const record = { principal, verb: 'update', resource } as const;
      try {
        const skipped = await storage.skip(request);
        const message = `gave up ${skipped.firstOffset} to ${skipped.endOffset} of partition ${request.partition}`;
        audit({ ...record, result: 'OK', message });
        return skipped;
      } catch (error) {
        if (error instanceof BrokerError) audit({ ...record, result: error.code, message: error.message });
        throw error;
      }
    }),
    drainConsumers: border.unary(method.drainConsumers, async (message, { principal }) => {
      const { name: resource } = definitions.getSubscription(message.subscription);
      authorize(principal, 'update', resource);
      const record = { principal, verb: 'update', resource } as const;
      try {
        const report = await draining.drain(drainRequest(message));
        audit({ ...record, result: 'OK' });
        return drainResponse(report);
      } catch (error) {
        if (error instanceof BrokerError) audit({ ...record, result: error.code, message: error.message });
        throw error;
      }
    }),
  });
}

/** The part that GetBacklog and WatchBacklog have in common. */
interface Selection {
  readonly parent: string;
  readonly subscriptions: readonly string[];
}

function checkSelection({ parent, subscriptions }: Selection): void {
  const project = parseProjectName(parent, 'parent');
  if (subscriptions.length > MAX_BACKLOG_SUBSCRIPTIONS) {
    const message = `subscriptions has ${subscriptions.length} names: at most ${MAX_BACKLOG_SUBSCRIPTIONS}, or none for all`;
    throw new BrokerError('INVALID_ARGUMENT', message);
  }
  for (const [at, name] of subscriptions.entries()) {
    if (parseSubscriptionName(name, `subscriptions[${at}]`).project !== project) {
      throw new BrokerError('INVALID_ARGUMENT', `subscriptions[${at}] is ${name}: must be in ${parent}`);
    }
  }
}

function checkInterval(intervalMs: number): number {
  if (intervalMs >= MIN_WATCH_INTERVAL_MS && intervalMs <= MAX_WATCH_INTERVAL_MS) return intervalMs;
  const message = `interval is ${intervalMs} ms: must be ${MIN_WATCH_INTERVAL_MS} to ${MAX_WATCH_INTERVAL_MS} ms`;
  throw new BrokerError('INVALID_ARGUMENT', message);
}

function selector({ parent, subscriptions }: Selection): (name: string) => boolean {
  const names = new Set(subscriptions);
  return names.size > 0 ? (name) => names.has(name) : (name) => name.startsWith(`${parent}/`);
}

async function report(
  backlog: BacklogReporter,
  { parent, subscriptions }: Selection,
): Promise<{ backlogs: MessageInitShape<typeof BacklogSchema>[] }> {
  const reports = await backlog.report(parent, subscriptions);
  const bytes = reports.reduce((sum, each) => sum + backlogBytes(each), 0);
  if (bytes > MAX_RESPONSE_BYTES) {
    throw new BrokerError(
      'RESOURCE_EXHAUSTED',
      `the backlog of ${reports.length} subscriptions exceeds an answer's ${MAX_RESPONSE_BYTES} bytes: name those of ` +
        `interest, at most ${MAX_BACKLOG_SUBSCRIPTIONS} at a time`,
    );
  }
  return { backlogs: reports.map(backlogMessage) };
}
