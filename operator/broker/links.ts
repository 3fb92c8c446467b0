// Which broker a resource's connectionRef means.
//
//   connectionRef                          link
//   a Fanfare that could be connected      its own, under its key
//   a Fanfare that can't be used           none, with the reason
//   `default`, where there is no Fanfare   the operator's own; the project is the namespace
//   a Fanfare that was deleted             kept for what is being deleted, until nothing refers to it
import type { Reason } from '../api/v1alpha1/reasons.ts';
import type { ConnectionObserved } from '../core/plan-definition.ts';
import type { Clock, Random } from '../kube/clock.ts';
import type { Counter } from '../kube/metrics.ts';
import type { BrokerAdmin } from './admin.ts';
import { type Credentials, checkCredentials } from './credentials.ts';
import { BrokerLink } from './link.ts';

export interface LinksOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly mayWrite: () => boolean;
  /** How old the listing of a project may be. */
  readonly maxAgeMs: number;
  readonly calls: Counter;
  readonly connect: (options: {
    address: string;
    tls: Credentials & { readonly serverName?: string };
    calls: Counter;
  }) => BrokerAdmin;
}

export interface Endpoint {
  readonly address: string;
  readonly serverName: string | undefined;
  /** Undefined: the resource's namespace. */
  readonly project: string | undefined;
  readonly credentials: Credentials;
}

/** Where a resource's object in a broker is. */
export interface Place {
  readonly link: BrokerLink;
  readonly project: string;
  /** Its Fanfare is gone: it serves deletions only. */
  readonly parting: boolean;
}

interface Entry {
  readonly fingerprint: string;
  readonly project: string | undefined;
  readonly link: BrokerLink;
  parting: boolean;
}

/** The key of the operator's own connection; no Fanfare has a key like it. */
export const OWN = '';
export const DEFAULT_CONNECTION = 'default';

export class BrokerLinks {
  readonly #options: LinksOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #failed = new Map<string, { readonly reason: Reason; readonly message: string }>();
  readonly #listeners: ((key: string, link: BrokerLink) => void)[] = [];

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  /** Calls the listener when a link was made, came back or went away. `key` is the Fanfare's, or OWN. */
  onChange(listener: (key: string, link: BrokerLink) => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Makes the key's link, or keeps the present one if nothing differs. Returns when the client's certificate
   * expires, in milliseconds since 1970. Throws CredentialsError, or BrokerCallError if the client takes no
   * such certificates.
   */
  set(key: string, { address, serverName, project, credentials }: Endpoint): number {
    const { fingerprint, expiresMs } = checkCredentials(credentials);
    const wanted = `${fingerprint} ${address} ${serverName ?? ''}`;
    this.#failed.delete(key);
    const present = this.#entries.get(key);
    if (present?.fingerprint === wanted && present.project === project) {
      present.parting = false;
      return expiresMs;
    }
    const { clock, random, mayWrite, maxAgeMs, calls, connect } = this.#options;
    const tls = serverName === undefined ? credentials : { ...credentials, serverName };
    const link = new BrokerLink({
      label: key === OWN ? "the operator's own broker" : key,
      address,
      admin: connect({ address, tls, calls }),
      clock,
      random,
      mayWrite,
      maxAgeMs,
      onHealth: (changed) => this.#tell(key, changed),
    });
    present?.link.close();
    this.#entries.set(key, { fingerprint: wanted, project, link, parting: false });
    this.#tell(key, link);
    return expiresMs;
  }

  /**
   * The key's link can't be made, for the reason given. A link that is there already is kept: its broker will
   * say if it takes the old certificate no more.
   */
  fail(key: string, reason: Reason, message: string): void {
    if (!this.#entries.has(key)) this.#failed.set(key, { reason, message });
  }

  /** The key's Fanfare is gone. */
  part(key: string): void {
    this.#failed.delete(key);
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.parting = true;
  }

  /** Closes the links of Fanfares that are gone, once nothing refers to them any more. */
  dropParted(isUsed: (key: string) => boolean): void {
    for (const [key, { parting, link }] of this.#entries) {
      if (!parting || isUsed(key)) continue;
      this.#entries.delete(key);
      link.close();
    }
  }

  get(key: string): BrokerLink | undefined {
    return this.#entries.get(key)?.link;
  }

  all(): readonly { readonly key: string; readonly link: BrokerLink }[] {
    return [...this.#entries].map(([key, { link }]) => ({ key, link }));
  }

  /**
   * `hasFanfare`: whether there is a Fanfare of that name. `deleting`: a resource that goes may use a link
   * that goes. Undefined: no link can be used now.
   */
  placeOf(namespace: string, name: string, hasFanfare: boolean, deleting = false): Place | undefined {
    const key = `${namespace}/${name}`;
    const entry = this.#entries.get(key);
    if (entry !== undefined && (hasFanfare || deleting || name !== DEFAULT_CONNECTION)) {
      return { link: entry.link, project: entry.project ?? namespace, parting: !hasFanfare };
    }
    const own = this.#entries.get(OWN);
    if (hasFanfare || name !== DEFAULT_CONNECTION || own === undefined) return undefined;
    return { link: own.link, project: namespace, parting: false };
  }

  observe(namespace: string, name: string, hasFanfare: boolean, deleting: boolean): ConnectionObserved {
    const place = this.placeOf(namespace, name, hasFanfare, deleting);
    if (place !== undefined && (!place.parting || deleting)) {
      const { health } = place.link;
      if (health.kind === 'up') return { kind: 'ready', project: place.project };
      return { kind: 'unusable', reason: health.reason, message: health.message };
    }
    const failed = this.#failed.get(`${namespace}/${name}`);
    if (failed !== undefined) return { kind: 'unusable', ...failed };
    if (hasFanfare) return { kind: 'pending' };
    if (name !== DEFAULT_CONNECTION) return { kind: 'missing', name };
    const own = this.#failed.get(OWN);
    return own === undefined ? { kind: 'pending' } : { kind: 'unusable', ...own };
  }

  close(): void {
    for (const { link } of this.#entries.values()) link.close();
    this.#entries.clear();
  }

  #tell(key: string, link: BrokerLink): void {
    for (const listener of this.#listeners) listener(key, link);
  }
}
