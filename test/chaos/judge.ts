// The judge of a chaos run. It has nothing of the product in it, and hears nothing but the journal: what was
// published and answered with an id, what was handled, what was acknowledged and confirmed. All that it takes
// for wrong is this:
//
//   lost         A message was answered with an id, and a subscription of its topic, which was there before
//                the message was sent and has not been deleted since, has not handled it by the end of the
//                journal.
//   misordered   In a subscription with ordering: a and b are messages of one key, both answered, a before b
//                in the order of publishing (b was sent after a was answered, or stands behind it in one
//                request), and b was handled for the first time before a was handled for the first time.
//                There is no exception. A message that was sent again is still the same one.
//   stranger     Something was handled that nobody has sent to the topic of the subscription, or of a
//                subscription that is not there.
//   double id    One message id for two messages of a topic.
//   late         Handled again longer than GRACE_MS after an acknowledgement was confirmed. Sooner, it may
//                have been on its way.
//   undefined    The brokers' list of topics and subscriptions lacks what was created, or has what was
//                deleted.
//   error        A client heard a status that no fault explains.
//   wrong        The runner itself found something wrong.
//
// A message handled again in any other way is counted and reported, not judged: leases end, and what a stream
// was told may not have been written down when a broker died.
import type { JournalEvent } from './events.ts';
import { type Handled, misorderedIn, PER_LINE } from './judge-order.ts';
import { add, type Finding, finding, type Redelivered, type Stalls, type Verdict } from './verdict.ts';

/**
 * Longer than anything in a run stands still: what was delivered before an acknowledgement may arrive that
 * much later.
 */
export const GRACE_MS = 15_000;
/**
 * What a client must expect of a cluster in trouble, by publisher.proto and subscriber.proto; the deadline is
 * the client's own.
 */
const EXPLAINED = ['Unavailable', 'ResourceExhausted', 'DeadlineExceeded'];

interface Topic {
  readonly name: string;
  /** Replaced, never changed: a message keeps the list of the moment it was sent at. */
  subscriptions: readonly Subscription[];
  /** Message ids with their message, in the order in which they were first heard of. */
  readonly ids: Map<string, { readonly index: number; readonly label: string }>;
}

interface Subscription {
  readonly name: string;
  readonly topic: Topic;
  readonly ordered: boolean;
  deleted: boolean;
  /**
   * Labels of messages that are answered and not handled, with the time of their answer; the oldest first.
   */
  readonly waiting: Map<string, number>;
  /** Where in the journal each message was handled for the first time, by publisher and number. */
  readonly first: Map<string, Handled>;
  /** How often each message was handled, and when it was acknowledged, by the index of its message id. */
  readonly times: number[];
  readonly toldAt: number[];
  readonly confirmedAt: number[];
}

interface Sent {
  readonly key: string;
  readonly sentAt: number;
  answered: boolean;
  readonly wanted: readonly Subscription[];
}

interface Publisher {
  readonly topic: Topic;
  readonly messages: Sent[];
}

export class Judge {
  readonly #topics = new Map<string, Topic>();
  readonly #subscriptions = new Map<string, Subscription>();
  /** Every subscription that ever was: deleted ones, and former ones of a name, too. */
  readonly #everySubscription: Subscription[] = [];
  readonly #publishers = new Map<string, Publisher>();
  readonly #strangers = finding();
  readonly #doubleIds = finding();
  readonly #late = finding();
  readonly #undefined = finding();
  readonly #unexplained = finding();
  readonly #wrong = finding();
  readonly #errors = new Map<string, number>();
  readonly #stalls: Stalls = new Map();
  readonly #redelivered: Redelivered = {
    all: 0,
    afterTold: 0,
    afterConfirmed: 0,
    longestMs: 0,
    saidFirst: 0,
    byFault: new Map(),
  };
  #handled = 0;
  #published = 0;
  #line = 0;
  #fault = 'no fault';

  /** Takes the next line of the journal. */
  hear(event: JournalEvent): void {
    this.#line += 1;
    switch (event.ev) {
      case 'topic':
        this.#topics.set(event.topic, { name: event.topic, subscriptions: [], ids: new Map() });
        break;
      case 'subscription':
        this.#created(event.s, this.#topics.get(event.topic)!, event.ordered);
        break;
      case 'deleting':
        this.#deleting(event.topic, event.s);
        break;
      case 'listed':
        this.#listed(event.names);
        break;
      case 'sent':
        this.#sent(event);
        break;
      case 'answered':
        this.#answered(event);
        break;
      case 'handled':
        this.#handledBatch(event);
        break;
      case 'told':
      case 'confirmed':
        this.#acknowledged(event);
        break;
      case 'error':
        this.#failed(event);
        break;
      case 'fault':
        this.#fault = event.kind;
        break;
      case 'wrong':
        add(this.#wrong, event.what);
        break;
    }
  }

  /** The oldest answer to a message that is not handled yet. */
  oldestWaiting(): { readonly answeredAt: number; readonly what: string } | undefined {
    let oldest: { answeredAt: number; what: string } | undefined;
    for (const { name, waiting } of this.#subscriptions.values()) {
      for (const [label, answeredAt] of waiting) {
        if (oldest === undefined || answeredAt < oldest.answeredAt)
          oldest = { answeredAt, what: `${name} has not got ${label}` };
        break;
      }
    }
    return oldest;
  }

  /** Counts for progress lines. */
  counts(): { published: number; handled: number; redelivered: number; errors: number } {
    const errors = [...this.#errors.values()].reduce((sum, count) => sum + count, 0);
    return {
      published: this.#published,
      handled: this.#handled,
      redelivered: this.#redelivered.all,
      errors,
    };
  }

  /** Full names of what was created and not deleted, sorted. */
  definitions(): string[] {
    return [...this.#topics.keys(), ...this.#subscriptions.keys()].sort();
  }

  verdict(): Verdict {
    const sent = [...this.#publishers.values()].flatMap(({ messages }) => messages);
    const distinctIds = [...this.#allTopics()].reduce((sum, { ids }) => sum + ids.size, 0);
    const labels = new Set(
      [...this.#allTopics()].flatMap(({ ids }) => [...ids.values()].map(({ label }) => label)),
    );
    return {
      lost: this.#lost(),
      misordered: this.#misordered(),
      strangers: this.#strangers,
      doubleIds: this.#doubleIds,
      late: this.#late,
      undefined: this.#undefined,
      unexplained: this.#unexplained,
      wrong: this.#wrong,
      published: this.#published,
      unanswered: sent.filter(({ answered }) => !answered).length,
      handled: this.#handled,
      storedAgain: distinctIds - labels.size,
      redelivered: this.#redelivered,
      errors: this.#errors,
      stalls: this.#stalls,
    };
  }

  #allTopics(): Set<Topic> {
    return new Set([
      ...this.#topics.values(),
      ...[...this.#publishers.values()].map(({ topic }) => topic),
      ...this.#everySubscription.map(({ topic }) => topic),
    ]);
  }

  #created(name: string, topic: Topic, ordered: boolean): void {
    const made = { name, topic, ordered, deleted: false, waiting: new Map(), first: new Map() };
    const subscription: Subscription = { ...made, times: [], toldAt: [], confirmedAt: [] };
    topic.subscriptions = [...topic.subscriptions, subscription];
    this.#subscriptions.set(name, subscription);
    this.#everySubscription.push(subscription);
  }

  #deleting(topicName: string | undefined, name: string | undefined): void {
    const topic = this.#topics.get(topicName ?? '');
    const gone = topic ? topic.subscriptions : [this.#subscriptions.get(name!)!];
    for (const subscription of gone) {
      subscription.deleted = true;
      subscription.waiting.clear();
      this.#subscriptions.delete(subscription.name);
      subscription.topic.subscriptions = subscription.topic.subscriptions.filter(
        (each) => each !== subscription,
      );
    }
    if (topic) this.#topics.delete(topic.name);
  }

  #listed(names: readonly string[]): void {
    const there = new Set(names);
    const expected = new Set(this.definitions());
    for (const name of expected) if (!there.has(name)) add(this.#undefined, `${name} is not there any more`);
    for (const name of there) if (!expected.has(name)) add(this.#undefined, `${name} is there again`);
  }

  #sent({ p, topic, m, t }: JournalEvent & { ev: 'sent' }): void {
    let publisher = this.#publishers.get(p);
    if (publisher === undefined) {
      publisher = { topic: this.#topics.get(topic)!, messages: [] };
      this.#publishers.set(p, publisher);
    }
    const wanted = publisher.topic.subscriptions;
    for (const [number, key] of m) publisher.messages[number] = { key, sentAt: t, answered: false, wanted };
  }

  #answered({ p, m, t }: JournalEvent & { ev: 'answered' }): void {
    const { topic, messages } = this.#publishers.get(p)!;
    for (const [number, id] of m) {
      const label = `${p}/${number}`;
      const message = messages[number]!;
      message.answered = true;
      this.#published += 1;
      this.#place(topic, id, label);
      this.#stalled('publish', t - message.sentAt, `${label} answered`);
      for (const subscription of message.wanted) {
        if (!subscription.deleted && subscription.first.get(p)?.[number] === undefined)
          subscription.waiting.set(label, t);
      }
    }
  }

  #handledBatch({ s, c, m, t }: JournalEvent & { ev: 'handled' }): void {
    const subscription = this.#subscriptions.get(s);
    if (subscription === undefined) {
      add(this.#strangers, `${at(this.#line)}: ${c} got messages of ${s}, which is not there`);
      return;
    }
    for (const [index, [p, number, id, attempt]] of m.entries()) {
      const label = `${p}/${number}`;
      const publisher = this.#publishers.get(p);
      if (publisher?.topic !== subscription.topic || publisher.messages[number] === undefined) {
        add(this.#strangers, `${at(this.#line)}: ${s} got ${label} (${id}), which nobody has sent there`);
        continue;
      }
      const place = this.#place(subscription.topic, id, label);
      if (subscription.times[place]) this.#again(subscription, place, id, attempt, t);
      subscription.times[place] = (subscription.times[place] ?? 0) + 1;

      const first = subscription.first.get(p) ?? [];
      subscription.first.set(p, first);
      if (first[number] !== undefined) continue;
      first[number] = this.#line * PER_LINE + index;
      this.#handled += 1;
      const answeredAt = subscription.waiting.get(label);
      if (answeredAt === undefined) continue;
      subscription.waiting.delete(label);
      this.#stalled('delivery', t - answeredAt, `${label} handled by ${s}`);
    }
  }

  #again(subscription: Subscription, place: number, id: string, attempt: number, t: number): void {
    const counts = this.#redelivered;
    const of = counts.byFault.get(this.#fault) ?? { all: 0, afterConfirmed: 0, saidFirst: 0 };
    counts.byFault.set(this.#fault, of);
    for (const each of [counts, of]) {
      each.all += 1;
      if (attempt === 1) each.saidFirst += 1;
      if (subscription.confirmedAt[place] !== undefined) each.afterConfirmed += 1;
    }
    const confirmedAt = subscription.confirmedAt[place];
    if (confirmedAt === undefined) {
      if (subscription.toldAt[place] !== undefined) counts.afterTold += 1;
      return;
    }
    const laterMs = t - confirmedAt;
    counts.longestMs = Math.max(counts.longestMs, laterMs);
    if (laterMs > GRACE_MS) {
      const when = `${Math.round(laterMs)} ms after its acknowledgement was confirmed`;
      add(this.#late, `${at(this.#line)}: ${subscription.name} got ${id} again (attempt ${attempt}) ${when}`);
    }
  }

  #acknowledged({ ev, s, ids, t }: JournalEvent & { ev: 'told' | 'confirmed' | 'nacked' }): void {
    const subscription = this.#subscriptions.get(s);
    if (subscription === undefined) return;
    const into = ev === 'told' ? subscription.toldAt : subscription.confirmedAt;
    for (const id of ids) {
      const place = subscription.topic.ids.get(id)?.index;
      if (place !== undefined) into[place] ??= t;
    }
  }

  #failed({ op, code, text, p, c }: JournalEvent & { ev: 'error' }): void {
    const kind = `${op} ${code}`;
    this.#errors.set(kind, (this.#errors.get(kind) ?? 0) + 1);
    if (!EXPLAINED.includes(code)) add(this.#unexplained, `${at(this.#line)}: ${p ?? c}: ${kind}: ${text}`);
  }

  /** The index of a message id within its topic. A new id gets the next one. */
  #place(topic: Topic, id: string, label: string): number {
    const known = topic.ids.get(id);
    if (known === undefined) {
      const index = topic.ids.size;
      topic.ids.set(id, { index, label });
      return index;
    }
    if (known.label !== label)
      add(this.#doubleIds, `${at(this.#line)}: ${id} is ${label}, and was ${known.label}`);
    return known.index;
  }

  #stalled(kind: 'publish' | 'delivery', ms: number, what: string): void {
    let longest = this.#stalls.get(this.#fault);
    if (longest === undefined) {
      longest = { publish: { ms: 0, what: '' }, delivery: { ms: 0, what: '' } };
      this.#stalls.set(this.#fault, longest);
    }
    if (ms > longest[kind].ms) longest[kind] = { ms, what };
  }

  #lost(): Finding {
    const lost = finding();
    for (const { name, waiting } of this.#subscriptions.values()) {
      for (const [label, answeredAt] of waiting)
        add(lost, `${name} has not got ${label}, answered at ${Math.round(answeredAt)} ms`);
    }
    return lost;
  }

  #misordered(): Finding {
    const found = finding();
    for (const { name, ordered, first } of this.#everySubscription) {
      for (const [p, places] of ordered ? first : [])
        misorderedIn(name, p, this.#publishers.get(p)!.messages, places, found);
    }
    return found;
  }
}

function at(line: number): string {
  return `line ${line}`;
}
