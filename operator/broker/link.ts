// One connection to a broker (or to several of one cluster): its calls, whether it is there, and what its
// projects hold.
//
//   state   what happens                              next
//   up      a call finds nobody, or gets no answer    away: everybody is told; calls fail at once, unsent
//   away    the prober reaches it                     up: everybody is told, and reconciles what waits
//   any     replaced (certificate, address…), gone    closed
//
// So an outage costs about one call every PROBE_MOST_MS, however many resources wait for the broker, and no
// storm comes after it.
import type { Clock, Random } from '../kube/clock.ts';
import { sleep } from '../kube/clock.ts';
import { type BrokerAdmin, BrokerCallError } from './admin.ts';
import { ProjectView } from './project-view.ts';

export type Health =
  | { readonly kind: 'up' }
  | {
      readonly kind: 'away';
      readonly sinceMs: number;
      readonly reason: 'BrokerUnreachable' | 'CertificateInvalid';
      readonly message: string;
    };

export interface LinkOptions {
  /** The link's name for people: the Fanfare's key, or words for the operator's own broker. */
  readonly label: string;
  readonly address: string;
  readonly admin: BrokerAdmin;
  readonly clock: Clock;
  readonly random: Random;
  /** Asked before every call that changes something: a former leader must not send it. */
  readonly mayWrite: () => boolean;
  readonly onHealth: (link: BrokerLink) => void;
  /** How old the listing of a project may be. */
  readonly maxAgeMs: number;
}

const PROBE_FIRST_MS = 500;
const PROBE_MOST_MS = 15_000;

export class BrokerLink {
  readonly label: string;
  readonly address: string;
  /**
   * Its calls fail at once with UNAVAILABLE while the broker is away; watchBacklog and reach are sent even
   * so.
   */
  readonly admin: BrokerAdmin;
  readonly #options: LinkOptions;
  readonly #views = new Map<string, ProjectView>();
  readonly #closed = new AbortController();
  #health: Health = { kind: 'up' };

  constructor(options: LinkOptions) {
    this.#options = options;
    this.label = options.label;
    this.address = options.address;
    this.admin = guarded(options.admin, this.#call, options.mayWrite);
  }

  get health(): Health {
    return this.#health;
  }

  /** Aborts when the link is closed. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  view(project: string): ProjectView {
    let view = this.#views.get(project);
    if (view === undefined) {
      view = new ProjectView(this.admin, project, this.#options.clock, this.#options.maxAgeMs, this.closed);
      this.#views.set(project, view);
    }
    return view;
  }

  /** Takes note of a watchBacklog or reach that found nobody: the link does not see those fail. */
  reportAway(error: BrokerCallError): void {
    if (error.isAway) this.#away(error);
  }

  close(): void {
    this.#closed.abort();
    this.#options.admin.close();
  }

  readonly #call = async <T>(send: () => Promise<T>): Promise<T> => {
    if (this.#health.kind === 'away') {
      throw new BrokerCallError('UNAVAILABLE', this.#health.message, { notSent: true });
    }
    try {
      return await send();
    } catch (error) {
      if (error instanceof BrokerCallError && error.isAway) this.#away(error);
      throw error;
    }
  };

  #away(error: BrokerCallError): void {
    if (this.#health.kind === 'away' || this.closed.aborted) return;
    const reason = error.isAboutCertificates ? 'CertificateInvalid' : 'BrokerUnreachable';
    const message = `${this.address}: ${error.message}`;
    this.#health = { kind: 'away', sinceMs: this.#options.clock.nowMs(), reason, message };
    void this.#probe();
    this.#options.onHealth(this);
  }

  async #probe(): Promise<void> {
    const { clock, random, admin } = this.#options;
    for (let waitMs = PROBE_FIRST_MS; ; waitMs = Math.min(PROBE_MOST_MS, waitMs * 2)) {
      if (!(await sleep(clock, waitMs * (0.5 + random()), this.closed))) return;
      try {
        await admin.reach(this.closed);
        break;
      } catch (error) {
        if (this.closed.aborted) return;
        if (!(error instanceof BrokerCallError)) throw error;
      }
    }
    this.#health = { kind: 'up' };
    // The broker may be another one, or have lost what it had.
    for (const view of this.#views.values()) view.forget();
    this.#options.onHealth(this);
  }
}

const WRITES: ReadonlySet<keyof BrokerAdmin> = new Set([
  'createTopic',
  'updateTopic',
  'deleteTopic',
  'createSubscription',
  'updateSubscription',
  'deleteSubscription',
  'drainConsumers',
]);

function guarded(
  admin: BrokerAdmin,
  call: <T>(send: () => Promise<T>) => Promise<T>,
  mayWrite: () => boolean,
): BrokerAdmin {
  const wrap =
    <A extends unknown[], T>(name: keyof BrokerAdmin, method: (...args: A) => Promise<T>) =>
    (...args: A): Promise<T> => {
      if (WRITES.has(name) && !mayWrite()) {
        return Promise.reject(
          new BrokerCallError('ABORTED', `${name} was not sent: this process is not the leader any more`),
        );
      }
      return call(() => method(...args));
    };
  return {
    getTopic: wrap('getTopic', admin.getTopic),
    createTopic: wrap('createTopic', admin.createTopic),
    updateTopic: wrap('updateTopic', admin.updateTopic),
    deleteTopic: wrap('deleteTopic', admin.deleteTopic),
    getSubscription: wrap('getSubscription', admin.getSubscription),
    createSubscription: wrap('createSubscription', admin.createSubscription),
    updateSubscription: wrap('updateSubscription', admin.updateSubscription),
    deleteSubscription: wrap('deleteSubscription', admin.deleteSubscription),
    list: wrap('list', admin.list),
    getBacklog: wrap('getBacklog', admin.getBacklog),
    drainConsumers: wrap('drainConsumers', admin.drainConsumers),
    watchBacklog: admin.watchBacklog,
    reach: admin.reach,
    close: admin.close,
  };
}
