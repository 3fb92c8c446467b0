// Members, their leases, the coordinator and the assignment, all in one slot; the comments of
// ports/membership-store.ts are the contract. Leases are counted by the clock of the server that holds the
// slot.
import { BrokerError } from '../../core/errors.ts';
import type { ClusterView, Member, MembershipStore, StoredAssignment } from '../../ports/membership-store.ts';
import type { RedisConnection } from './connection.ts';
import { readIdentity } from './identity.ts';
import type { RedisKeys } from './keys.ts';
import { type Verdict, verdictOf } from './replies.ts';

export class RedisMembershipStore implements MembershipStore {
  readonly #connection: RedisConnection;
  readonly #keys: RedisKeys;
  /** Members that have had a lease, as far as this process knows: in production just one. */
  readonly #joined = new Set<string>();

  constructor(connection: RedisConnection, keys: RedisKeys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  identity(): Promise<string | undefined> {
    return readIdentity(this.#connection, this.#keys);
  }

  async initialize(identity: string): Promise<string> {
    await this.#connection.run('initialize', (client) => client.setnx(this.#keys.identity, identity));
    return (await this.identity()) ?? identity;
  }

  async heartbeat(identity: string, member: Member, leaseMs: number): Promise<ClusterView> {
    const { identity: key, members, ids, leases, coordinator, assignment, drained } = this.#keys;
    const verdict = verdictOf(
      await this.#connection.script(
        'heartbeat',
        [key, members, ids, leases, coordinator, assignment, drained],
        [
          ...[identity, member.id, member.name, JSON.stringify(member), leaseMs, member.draining ? 1 : 0],
          this.#joined.has(member.id) ? 1 : 0,
        ],
      ),
    );
    const [word, found] = verdict;
    if (word === 'IDENTITY') {
      const holds = found === '' ? 'no cluster: was it emptied?' : `the cluster ${String(found)}`;
      throw new BrokerError('FAILED_PRECONDITION', `the store holds ${holds}, not ${identity}`);
    }
    if (word === 'NAME') {
      throw new BrokerError(
        'ABORTED',
        `another broker is alive under the name ${member.name} (${String(found)}): give each its own name`,
      );
    }
    this.#joined.add(member.id);
    return viewOf(verdict);
  }

  async leave(memberId: string): Promise<void> {
    const { members, ids, leases, coordinator } = this.#keys;
    this.#joined.delete(memberId);
    await this.#connection.script('leave', [members, ids, leases, coordinator], [memberId]);
  }

  async assignment(): Promise<StoredAssignment> {
    const [version, body] = await this.#connection.run('assignment', (client) =>
      client.hmget(this.#keys.assignment, 'version', 'body'),
    );
    return { version: Number(version ?? 0), body: body ?? '' };
  }

  async assign(memberId: string, term: number, expectedVersion: number, body: string): Promise<number> {
    const { coordinator, assignment } = this.#keys;
    const [word, first, second] = verdictOf(
      await this.#connection.script(
        'assign',
        [coordinator, assignment],
        [memberId, term, expectedVersion, body],
      ),
    );
    if (word === 'OK') return Number(first);
    if (word === 'VERSION') {
      throw new BrokerError(
        'ABORTED',
        `the assignment is at version ${String(first)}, not ${expectedVersion}`,
      );
    }
    throw new BrokerError(
      'ABORTED',
      `${memberId} does not coordinate in term ${term}: term ${String(second)} is ${String(first) || 'nobody'}'s`,
    );
  }

  async setDrained(name: string, drained: boolean): Promise<void> {
    const key = this.#keys.drained;
    await this.#connection.run('drain', (client) =>
      drained ? client.sadd(key, name) : client.srem(key, name),
    );
  }
}

function viewOf([, members, id, term, version, drained, missed]: Verdict): ClusterView {
  return {
    members: (members as string[])
      .map((text) => JSON.parse(text) as Member)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    coordinator: { id: String(id), term: Number(term) },
    assignmentVersion: Number(version),
    drained: (drained as string[]).sort(),
    missed: missed === '1',
  };
}
