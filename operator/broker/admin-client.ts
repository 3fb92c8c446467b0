// The BrokerAdmin port over services/client's connection: encodes with its codec, counts every call, turns
// its errors into BrokerCallErrors.
import * as codec from '../../services/client/admin-codec.ts';
import type { Backlog } from '../../services/client/admin-types.ts';
import { Connection, type TlsOptions } from '../../services/client/connection.ts';
import { toFanfareError } from '../../services/client/errors.ts';
import type { Counter } from '../kube/metrics.ts';
import { type BacklogReport, type BrokerAdmin, BrokerCallError, type Listing } from './admin.ts';

export interface AdminClientOptions {
  /** host:port, or several with commas between. */
  readonly address: string;
  readonly tls: TlsOptions;
  /** Labels: method, code. */
  readonly calls: Counter;
}

/** The time of one unary call, all its tries together. */
const CALL_TIMEOUT_MS = 10_000;
const SERVICE = '/fanfare.v1.Admin';

/** Throws BrokerCallError INVALID_ARGUMENT if the certificates can't be used. */
export function createAdminClient({ address, tls, calls }: AdminClientOptions): BrokerAdmin {
  const connection = orFail(() => new Connection({ address, tls, callTimeoutMs: CALL_TIMEOUT_MS }));

  const call = async (method: string, request: Buffer, signal: AbortSignal): Promise<Buffer> => {
    try {
      const answer = await connection.unary(`${SERVICE}/${method}`, request, { signal });
      calls.add([method, 'OK']);
      return answer;
    } catch (error) {
      const failure = callError(error);
      calls.add([method, failure.code]);
      throw failure;
    }
  };
  const orNone = async <T>(answer: Promise<T>): Promise<T | undefined> => {
    try {
      return await answer;
    } catch (error) {
      if (error instanceof BrokerCallError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  };
  const pages = async <T>(
    next: (token: string) => Promise<{ items: T[]; nextPageToken: string }>,
  ): Promise<T[]> => {
    const all: T[] = [];
    let token = '';
    do {
      const page = await next(token);
      all.push(...page.items);
      token = page.nextPageToken;
    } while (token !== '');
    return all;
  };

  return {
    getTopic: (name, signal) =>
      orNone(call('GetTopic', codec.encodeName(name), signal).then(codec.decodeTopic)),
    createTopic: async (name, settings, signal) =>
      codec.decodeTopic(await call('CreateTopic', codec.encodeCreateTopic(name, settings), signal)),
    updateTopic: async (name, change, signal) =>
      codec.decodeTopic(await call('UpdateTopic', codec.encodeUpdateTopic(name, change), signal)),
    deleteTopic: async (name, signal) => {
      await orNone(call('DeleteTopic', codec.encodeDeleteTopic(name, true), signal));
    },
    getSubscription: (name, signal) =>
      orNone(call('GetSubscription', codec.encodeName(name), signal).then(codec.decodeSubscription)),
    createSubscription: async (name, { topic, ...settings }, signal) =>
      codec.decodeSubscription(
        await call('CreateSubscription', codec.encodeCreateSubscription(name, topic, settings), signal),
      ),
    updateSubscription: async (name, change, signal) =>
      codec.decodeSubscription(
        await call('UpdateSubscription', codec.encodeUpdateSubscription(name, change), signal),
      ),
    deleteSubscription: async (name, signal) => {
      await orNone(call('DeleteSubscription', codec.encodeName(name), signal));
    },
    async list(project, signal): Promise<Listing> {
      const parent = `projects/${project}`;
      return {
        topics: await pages(async (token) =>
          codec.decodeTopics(await call('ListTopics', codec.encodeListTopics(parent, token), signal)),
        ),
        subscriptions: await pages(async (token) =>
          codec.decodeSubscriptions(
            await call('ListSubscriptions', codec.encodeListSubscriptions(parent, '', token), signal),
          ),
        ),
      };
    },
    async getBacklog(project, names, signal) {
      const request = codec.encodeGetBacklog(`projects/${project}`, names);
      return codec.decodeBacklogs(await call('GetBacklog', request, signal)).map(reportOf);
    },
    async *watchBacklog(project, names, intervalMs, signal) {
      const request = codec.encodeWatchBacklog(`projects/${project}`, names, intervalMs);
      const stream = connection.openReadStream(`${SERVICE}/WatchBacklog`, request);
      const cancel = (): void => stream.cancel();
      if (signal.aborted) cancel();
      signal.addEventListener('abort', cancel, { once: true });
      calls.add(['WatchBacklog', 'OPENED']);
      try {
        for await (const bytes of stream) yield codec.decodeBacklogs(bytes).map(reportOf);
        throw new BrokerCallError('UNAVAILABLE', 'the broker has ended the stream');
      } catch (error) {
        if (!signal.aborted) throw callError(error);
      } finally {
        signal.removeEventListener('abort', cancel);
        stream.cancel();
      }
    },
    drainConsumers: async ({ subscription, ...settings }, signal) =>
      codec.decodeDrainReport(
        await call('DrainConsumers', codec.encodeDrainConsumers(subscription, settings), signal),
      ),
    async reach(signal) {
      try {
        await connection.reach({ signal, timeoutMs: CALL_TIMEOUT_MS });
      } catch (error) {
        throw callError(error);
      }
    },
    close: () => connection.close(),
  };
}

function reportOf(backlog: Backlog): BacklogReport {
  return {
    subscription: backlog.subscription,
    messages: backlog.messages,
    outstandingMessages: backlog.outstandingMessages,
    oldestUnackedAgeMs: backlog.oldestUnackedAgeMs,
    consumers: backlog.consumers,
    appendedTotal: backlog.appendedTotal,
    ackedTotal: backlog.ackedTotal,
    redeliveredTotal: backlog.redeliveredTotal,
    consumersWithoutCredit: backlog.consumersWithoutCredit,
    blockedMessages: backlog.blockedMessages,
    activeKeys: backlog.activeKeys,
    measureTimeMs: backlog.measureTime?.getTime() ?? 0,
  };
}

function orFail<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw callError(error);
  }
}

/**
 * CANCELLED becomes UNAVAILABLE: nobody waits for a call that its caller has cancelled, and one that a closed
 * connection has cancelled is to be made again on the next.
 */
function callError(error: unknown): BrokerCallError {
  if (error instanceof BrokerCallError) return error;
  const { code, message, notSent, unreachable } = toFanfareError(error);
  return new BrokerCallError(code === 'CANCELLED' ? 'UNAVAILABLE' : code, message, {
    cause: error,
    notSent,
    isAboutCertificates: unreachable === 'certificate',
  });
}
