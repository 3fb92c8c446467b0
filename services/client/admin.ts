// Manages topics and subscriptions, and tells how far behind subscriptions are. Short names belong to the
// client's project. What fails, fails with a FanfareError; admin.proto says which, and what the fields allow.
// A call ends within its timeoutMs (DEADLINE_EXCEEDED), at the abort of its signal and when the client is
// closed (both CANCELLED); watchBacklog() and checkStorage() have no timeout.
import type {
  Backlog,
  DrainReport,
  DrainSettings,
  PartitionBacklog,
  PartitionQuestion,
  SkippedMessages,
  StorageReport,
  SubscriptionInfo,
  SubscriptionSettings,
  TopicInfo,
  TopicSettings,
} from './admin-types.ts';
import { Backoff, delay } from './backoff.ts';
import type { CallSettings, Connection } from './connection.ts';
import { FanfareError, type FanfareErrorCode, toFanfareError } from './errors.ts';
import {
  backlogNames,
  CALL,
  CHECK_STORAGE,
  DRAIN,
  offsetNumber,
  PARTITION_QUESTION,
  partitionNumber,
  SUBSCRIPTION_CHANGES,
  SUBSCRIPTION_SETTINGS,
  TOPIC_SETTINGS,
  WATCH_BACKLOG,
} from './option-rules.ts';
import { checkOptions, flag } from './options.ts';

type Codec = typeof import('./admin-codec.ts');

export class Admin {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async createTopic(name: string, settings: TopicSettings = {}, call?: CallSettings): Promise<TopicInfo> {
    checkOptions('createTopic()', settings, TOPIC_SETTINGS);
    const codec = await loadCodec();
    const request = codec.encodeCreateTopic(this.#connection.topicName(name), settings);
    const rest = this.#timer(call);
    try {
      return codec.decodeTopic(await this.#call('CreateTopic', request, rest()));
    } catch (error) {
      if (!isOwnDoing(error, 'ALREADY_EXISTS')) throw error;
      return this.getTopic(name, rest());
    }
  }

  async getTopic(name: string, call?: CallSettings): Promise<TopicInfo> {
    const codec = await loadCodec();
    const request = codec.encodeName(this.#connection.topicName(name));
    return codec.decodeTopic(await this.#call('GetTopic', request, call));
  }

  /** All topics of the project, sorted by name. */
  async listTopics(call?: CallSettings): Promise<TopicInfo[]> {
    const codec = await loadCodec();
    const parent = this.#connection.projectName;
    return this.#all(call, async (token, rest) =>
      codec.decodeTopics(await this.#call('ListTopics', codec.encodeListTopics(parent, token), rest)),
    );
  }

  /** Changes only the settings that are given. */
  async updateTopic(name: string, settings: TopicSettings, call?: CallSettings): Promise<TopicInfo> {
    checkOptions('updateTopic()', settings, TOPIC_SETTINGS);
    const codec = await loadCodec();
    const request = codec.encodeUpdateTopic(this.#connection.topicName(name), settings);
    return codec.decodeTopic(await this.#call('UpdateTopic', request, call));
  }

  /** With force, deletes its subscriptions too; without, FAILED_PRECONDITION while it has any. */
  async deleteTopic(name: string, options: { force?: boolean } & CallSettings = {}): Promise<void> {
    const { force = false, ...call } = options;
    flag('force', force);
    const codec = await loadCodec();
    const request = codec.encodeDeleteTopic(this.#connection.topicName(name), force);
    await this.#delete('DeleteTopic', request, call);
  }

  async createSubscription(
    name: string,
    settings: SubscriptionSettings & { readonly topic: string },
    call?: CallSettings,
  ): Promise<SubscriptionInfo> {
    checkOptions('createSubscription()', settings, SUBSCRIPTION_SETTINGS);
    const codec = await loadCodec();
    const request = codec.encodeCreateSubscription(
      this.#connection.subscriptionName(name),
      this.#connection.topicName(settings.topic),
      settings,
    );
    const rest = this.#timer(call);
    try {
      return codec.decodeSubscription(await this.#call('CreateSubscription', request, rest()));
    } catch (error) {
      if (!isOwnDoing(error, 'ALREADY_EXISTS')) throw error;
      return this.getSubscription(name, rest());
    }
  }

  async getSubscription(name: string, call?: CallSettings): Promise<SubscriptionInfo> {
    const codec = await loadCodec();
    const request = codec.encodeName(this.#connection.subscriptionName(name));
    return codec.decodeSubscription(await this.#call('GetSubscription', request, call));
  }

  /** All subscriptions of the project, or those of one topic, sorted by name. */
  async listSubscriptions(options: { topic?: string } & CallSettings = {}): Promise<SubscriptionInfo[]> {
    const { topic: ofTopic, ...call } = options;
    const codec = await loadCodec();
    const parent = this.#connection.projectName;
    const topic = ofTopic === undefined ? '' : this.#connection.topicName(ofTopic);
    return this.#all(call, async (token, rest) =>
      codec.decodeSubscriptions(
        await this.#call('ListSubscriptions', codec.encodeListSubscriptions(parent, topic, token), rest),
      ),
    );
  }

  /** Changes only the settings that are given: ackDeadlineSeconds, labels. */
  async updateSubscription(
    name: string,
    settings: Pick<SubscriptionSettings, 'ackDeadlineSeconds' | 'labels'>,
    call?: CallSettings,
  ): Promise<SubscriptionInfo> {
    checkOptions('updateSubscription()', settings, SUBSCRIPTION_CHANGES);
    const codec = await loadCodec();
    const request = codec.encodeUpdateSubscription(this.#connection.subscriptionName(name), settings);
    return codec.decodeSubscription(await this.#call('UpdateSubscription', request, call));
  }

  async deleteSubscription(name: string, call?: CallSettings): Promise<void> {
    const codec = await loadCodec();
    const request = codec.encodeName(this.#connection.subscriptionName(name));
    await this.#delete('DeleteSubscription', request, call);
  }

  /**
   * Gives no new work to the named consumers of the subscription until ttlMs have passed; replaces what was
   * asked for the subscription before, so repeat it in time. Answers what they hold. No names, or a ttlMs
   * of 0: they get work again.
   */
  async drainConsumers(
    subscription: string,
    settings: DrainSettings,
    call?: CallSettings,
  ): Promise<DrainReport> {
    checkOptions('drainConsumers()', settings, DRAIN);
    const codec = await loadCodec();
    const name = this.#connection.subscriptionName(subscription);
    const request = codec.encodeDrainConsumers(name, settings);
    return codec.decodeDrainReport(await this.#call('DrainConsumers', request, call));
  }

  /** The backlogs of the given subscriptions, at most 1,000, or of all of the project. */
  async getBacklog(subscriptions: readonly string[] = [], call?: CallSettings): Promise<Backlog[]> {
    backlogNames('subscriptions', subscriptions);
    const codec = await loadCodec();
    const names = subscriptions.map((name) => this.#connection.subscriptionName(name));
    const request = codec.encodeGetBacklog(this.#connection.projectName, names);
    return codec.decodeBacklogs(await this.#call('GetBacklog', request, call));
  }

  /**
   * How far behind each partition of one subscription is, in order, as one of its consumers sees it.
   * UNAVAILABLE while a partition is moving.
   */
  async getPartitionBacklog(
    subscription: string,
    question: PartitionQuestion = {},
    call?: CallSettings,
  ): Promise<PartitionBacklog[]> {
    checkOptions('getPartitionBacklog()', question, PARTITION_QUESTION);
    const codec = await loadCodec();
    const request = codec.encodeGetPartitionBacklog(
      this.#connection.subscriptionName(subscription),
      question,
    );
    return codec.decodePartitionBacklogs(await this.#call('GetPartitionBacklog', request, call));
  }

  /**
   * The backlogs, at once and then at every interval (100 ms to 60 s; default 1 s), until the loop is left or
   * the signal is aborted. Goes on after lost connections.
   */
  async *watchBacklog(
    options: { subscriptions?: readonly string[]; intervalMs?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<Backlog[], void, undefined> {
    checkOptions('watchBacklog()', options, WATCH_BACKLOG);
    const codec = await loadCodec();
    const names = (options.subscriptions ?? []).map((name) => this.#connection.subscriptionName(name));
    const { signal } = options;
    const request = codec.encodeWatchBacklog(
      this.#connection.projectName,
      names,
      options.intervalMs ?? 1_000,
    );
    const backoff = new Backoff(this.#connection.backoffDefaults);
    while (!signal?.aborted) {
      const stream = this.#connection.openReadStream('/fanfare.v1.Admin/WatchBacklog', request);
      const cancel = () => stream.cancel();
      signal?.addEventListener('abort', cancel, { once: true });
      try {
        for await (const bytes of stream) {
          backoff.reset();
          yield codec.decodeBacklogs(bytes);
        }
      } catch (error) {
        if (signal?.aborted) return;
        const failure = toFanfareError(error);
        if (!failure.retriable && failure.code !== 'CANCELLED') throw failure;
      } finally {
        signal?.removeEventListener('abort', cancel);
        stream.cancel();
      }
      await delay(backoff.nextMs(), signal).catch(() => {
        // Aborted: the loop ends.
      });
    }
  }

  /**
   * Says what is wrong with the store and then, partition by partition, which stored messages of the topics
   * (none named: all of the project) are not as they were written. Reads all of them, unless the loop is left
   * or the signal is aborted (CANCELLED).
   */
  async *checkStorage(
    options: { topics?: readonly string[]; signal?: AbortSignal } = {},
  ): AsyncGenerator<StorageReport, void, undefined> {
    checkOptions('checkStorage()', options, CHECK_STORAGE);
    const codec = await loadCodec();
    const { topics = [], signal } = options;
    const names = topics.map((topic) => this.#connection.topicName(topic));
    const request = codec.encodeCheckStorage(this.#connection.projectName, names);
    if (signal?.aborted) throw new FanfareError('CANCELLED', 'cancelled by the caller');
    const stream = this.#connection.openReadStream('/fanfare.v1.Admin/CheckStorage', request);
    const cancel = () => stream.cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      for await (const bytes of stream) yield codec.decodeStorageReport(bytes);
    } catch (error) {
      throw toFanfareError(error);
    } finally {
      signal?.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  /**
   * Gives up the messages that are damaged at that offset of a topic's partition, for good.
   * Answers which they were.
   */
  async skipDamage(
    topic: string,
    partition: number,
    offset: number,
    call?: CallSettings,
  ): Promise<SkippedMessages> {
    partitionNumber('partition', partition);
    offsetNumber('offset', offset);
    const codec = await loadCodec();
    const request = codec.encodeSkipDamage(this.#connection.topicName(topic), partition, offset);
    return codec.decodeSkipped(await this.#call('SkipDamage', request, call));
  }

  async #all<Item>(
    call: CallSettings | undefined,
    page: (token: string, rest: CallSettings) => Promise<{ items: Item[]; nextPageToken: string }>,
  ): Promise<Item[]> {
    const rest = this.#timer(call);
    const all: Item[] = [];
    let token = '';
    do {
      const { items, nextPageToken } = await page(token, rest());
      all.push(...items);
      token = nextPageToken;
    } while (token !== '');
    return all;
  }

  /** Gives the settings for the next of several calls that share one timeout. */
  #timer(call: CallSettings = {}): () => CallSettings {
    checkOptions('a call', call, CALL);
    const endMs = performance.now() + (call.timeoutMs ?? this.#connection.callTimeoutMs);
    return () => ({ ...call, timeoutMs: Math.max(1, endMs - performance.now()) });
  }

  async #delete(method: string, request: Buffer, settings?: CallSettings): Promise<void> {
    try {
      await this.#call(method, request, settings);
    } catch (error) {
      if (!isOwnDoing(error, 'NOT_FOUND')) throw error;
    }
  }

  #call(method: string, request: Buffer, settings?: CallSettings): Promise<Buffer> {
    return this.#connection.unary(`/fanfare.v1.Admin/${method}`, request, settings);
  }
}

/** Whether a call failed only because an earlier try of it had been done after all. */
function isOwnDoing(error: unknown, code: FanfareErrorCode): boolean {
  return error instanceof FanfareError && error.code === code && error.mayHaveBeenDone;
}

function loadCodec(): Promise<Codec> {
  return import('./admin-codec.ts');
}
