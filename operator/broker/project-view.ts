// What a project holds in the broker, as last seen: one listing serves all reconciles for some minutes, so
// that a thousand resources that are as they should be cost two calls a round, not two thousand.
//
// The view may be old: somebody may have changed the broker since. Nothing goes wrong by that: what is made
// is refused if it is there, what is changed is set, and an object that is to be deleted is looked at afresh;
// drift is seen at the next listing.
import type { FoundSubscription } from '../core/plan-subscription.ts';
import type { FoundTopic } from '../core/plan-topic.ts';
import type { Clock } from '../kube/clock.ts';
import type { BrokerAdmin } from './admin.ts';

/** A project with more objects is not held: its objects are asked for one by one. */
const MAX_LISTED = 50_000;

export class ProjectView {
  readonly #admin: BrokerAdmin;
  readonly #project: string;
  readonly #clock: Clock;
  readonly #maxAgeMs: number;
  readonly #closed: AbortSignal;
  readonly #topics = new Map<string, FoundTopic>();
  readonly #subscriptions = new Map<string, FoundSubscription>();
  #loadedMs = Number.NEGATIVE_INFINITY;
  #loading: Promise<void> | undefined;
  /** What was noted while a listing was under way: the listing may not have it. */
  #meanwhile: (() => void)[] | undefined;
  #tooLarge = false;

  /** `closed` ends listings: callers share them, so they don't end with one of them. */
  constructor(admin: BrokerAdmin, project: string, clock: Clock, maxAgeMs: number, closed: AbortSignal) {
    this.#admin = admin;
    this.#project = project;
    this.#clock = clock;
    this.#maxAgeMs = maxAgeMs;
    this.#closed = closed;
  }

  /** `fresh`: asks the broker now. Undefined: there is no such topic. */
  async topic(name: string, fresh: boolean, signal: AbortSignal): Promise<FoundTopic | undefined> {
    if (!fresh && (await this.#load())) return this.#topics.get(name);
    const found = await this.#admin.getTopic(name, signal);
    this.noteTopic(name, found);
    return found;
  }

  async subscription(
    name: string,
    fresh: boolean,
    signal: AbortSignal,
  ): Promise<FoundSubscription | undefined> {
    if (!fresh && (await this.#load())) return this.#subscriptions.get(name);
    const found = await this.#admin.getSubscription(name, signal);
    this.noteSubscription(name, found);
    return found;
  }

  /**
   * The names of a topic's subscriptions, as last seen. Only noted ones if the project is too large to be
   * held.
   */
  async subscriptionsOf(topic: string): Promise<string[]> {
    await this.#load();
    return [...this.#subscriptions.values()].filter((each) => each.topic === topic).map(({ name }) => name);
  }

  /**
   * Takes note of what a call has just answered. Undefined: there is no such topic, and its subscriptions
   * went with it.
   */
  noteTopic(name: string, found: FoundTopic | undefined): void {
    this.#note(() => {
      if (found !== undefined) {
        this.#topics.set(name, found);
        return;
      }
      this.#topics.delete(name);
      for (const { topic, name: each } of [...this.#subscriptions.values()]) {
        if (topic === name) this.#subscriptions.delete(each);
      }
    });
  }

  noteSubscription(name: string, found: FoundSubscription | undefined): void {
    this.#note(() => {
      if (found === undefined) this.#subscriptions.delete(name);
      else this.#subscriptions.set(name, found);
    });
  }

  /** The next look lists anew. */
  forget(): void {
    this.#loadedMs = Number.NEGATIVE_INFINITY;
  }

  #note(change: () => void): void {
    change();
    this.#meanwhile?.push(change);
  }

  /** Lists if what is held is too old. Returns whether it is the whole project. */
  async #load(): Promise<boolean> {
    if (this.#clock.monotonicMs() - this.#loadedMs > this.#maxAgeMs) {
      this.#loading ??= this.#list().finally(() => {
        this.#loading = undefined;
        this.#meanwhile = undefined;
      });
      await this.#loading;
    }
    return !this.#tooLarge;
  }

  async #list(): Promise<void> {
    this.#meanwhile = [];
    const atMs = this.#clock.monotonicMs();
    const { topics, subscriptions } = await this.#admin.list(this.#project, this.#closed);
    this.#topics.clear();
    this.#subscriptions.clear();
    this.#tooLarge = topics.length + subscriptions.length > MAX_LISTED;
    if (!this.#tooLarge) {
      for (const topic of topics) this.#topics.set(topic.name, topic);
      for (const subscription of subscriptions) this.#subscriptions.set(subscription.name, subscription);
    }
    for (const change of this.#meanwhile) change();
    this.#loadedMs = atMs;
  }
}
