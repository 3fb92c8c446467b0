// The brokers of a simulated cluster by name: starts them, stops and kills them, and starts them again, as a
// supervisor does with processes; knows the network between them.

import { partitionsOf } from '../../../services/broker/core/assignment.ts';
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { MemoryPeers } from '../../support/memory-peers.ts';
import type { Chance } from '../prng.ts';
import { Holders } from './holders.ts';
import { Member } from './member.ts';
import type { ClusterWorld } from './world.ts';

const STOP_MS = 20_000;
/** The longest a call to the store takes, together with what follows an unknown outcome. */
const LONGEST_CALL_MS = 5_000;

export class Members {
  /** The present process of each name. */
  readonly #byName = new Map<string, Member>();
  /** Names that are to have a process. */
  readonly names = new Set<string>();
  readonly all: Member[] = [];
  readonly peers: MemoryPeers;
  readonly #world: ClusterWorld;
  readonly #chance: Chance;
  readonly holders: Holders;

  constructor(world: ClusterWorld) {
    this.#world = world;
    this.#chance = world.chance.fork();
    this.holders = new Holders(world);
    const linkChance = world.chance.fork();
    const { linkMs } = world.scenario.weather;
    this.peers = new MemoryPeers({
      clock: world.clock,
      delayMs: () => (world.phase === 'chaos' ? linkChance.scale(0.1, linkMs * 10) / 10 : 0.2),
      maxPendingBytes: world.scenario.maxLinkBytes,
    });
  }

  get ready(): Member[] {
    return [...this.#byName.values()].filter(({ state }) => state === 'ready');
  }

  get alive(): Member[] {
    return [...this.#byName.values()].filter(({ alive }) => alive);
  }

  /** A member that clients can reach, whether it answers or not. */
  reachable(chance: Chance): Member | undefined {
    const { ready } = this;
    return ready.length === 0 ? undefined : chance.pick(ready);
  }

  named(name: string): Member | undefined {
    return this.#byName.get(name);
  }

  /** From now on there is a process of that name, except while it is stopped or killed. */
  begin(name: string): void {
    this.names.add(name);
    this.#world.spawn(this.#keepAlive(name));
  }

  kill(member: Member): void {
    if (!member.alive) return;
    this.#say(`${member.id} is killed`);
    this.#bury(member);
  }

  /** Resolves when it has stopped, or was killed meanwhile or for taking too long. */
  async stop(member: Member, patienceMs = STOP_MS): Promise<void> {
    if (member.state !== 'ready') return;
    this.#say(`${member.id} is asked to stop`);
    const { world } = this;
    const inOrder = world.checker.stopping(member.id);
    const stopped = world.calls
      .call(member, () => member.stop(patienceMs * 0.6))
      .then(
        () => this.#say(`${member.id} has stopped`),
        (error: unknown) => {
          if (!(error instanceof BrokerError)) throw error;
        },
      );
    const cancel = world.clock.setTimer(patienceMs, () => this.kill(member));
    await stopped;
    cancel();
    if (!member.alive) return;
    inOrder();
    // What an owner that was given up has under way may take as long as a call to the store.
    const isLate = world.clock.monotonicMs() - member.abandonedMs < LONGEST_CALL_MS;
    if (member.broker.stats.uncommittedBytes !== 0 && !isLate)
      world.fail(
        new Error(`${member.id} has stopped with ${member.broker.stats.uncommittedBytes} uncommitted bytes`),
      );
    this.#bury(member);
  }

  pause(member: Member, suspended = false): void {
    this.#say(`${member.id} is ${suspended ? 'suspended' : 'paused'}`);
    member.pause(suspended);
  }

  resume(member: Member): void {
    if (!member.paused) return;
    if (member.alive) this.#say(`${member.id} goes on`);
    member.resume();
  }

  /** What keeps the cluster from being as it should be; undefined if nothing does. */
  get unsettled(): string | undefined {
    const names = [...this.names].sort();
    if (this.ready.length < names.length) return `${names.length - this.ready.length} brokers are not ready`;
    for (const { id, name, membership, definitions } of this.ready) {
      if (membership === undefined) {
        const missing = this.#missingAlone(name);
        if (missing !== undefined) return missing;
        continue;
      }
      const { assignment } = membership.known;
      if (!membership.inForce) return `${id} has no lease or no assignment`;
      if (assignment.members.join() !== names.join())
        return `${id} has the members ${assignment.members.join()}`;
      const topics = [...definitions.topics()];
      if (assignment.topics.size !== topics.length)
        return `${id} has ${assignment.topics.size} topics assigned`;
      for (const { logEpoch, partitions } of topics) {
        // There may be more if a store that went back, and all who knew, have forgotten that the topic has
        // grown.
        if ((assignment.topics.get(logEpoch)?.members.length ?? 0) < partitions)
          return `the topic ${logEpoch} is not wholly assigned at ${id}`;
      }
      for (const partition of partitionsOf(assignment, membership.self.name)) {
        const { claim, returns } = this.#world.checker.partition(partition);
        // A store that went back may not know the claim until something is written again.
        const isKnown = claim?.memberId === id || returns > 0;
        if (!isKnown || this.named(membership.self.name)?.broker.owner(partition) === undefined)
          return `${id} does not own ${partition.logEpoch}.${partition.partition} yet`;
      }
    }
    return undefined;
  }

  /** A partition that a lone broker has not opened yet. */
  #missingAlone(name: string): string | undefined {
    const { definitions, broker } = this.named(name)!;
    for (const { logEpoch, partitions } of definitions.topics())
      for (let partition = 0; partition < partitions; partition += 1)
        if (broker.owner({ logEpoch, partition }) === undefined)
          return `${name} has not opened ${logEpoch}.${partition} yet`;
    return undefined;
  }

  get world(): ClusterWorld {
    return this.#world;
  }

  async #keepAlive(name: string): Promise<void> {
    const { world } = this;
    while (!world.over) {
      if (this.#byName.get(name)?.alive !== true && this.names.has(name)) await this.#live(name);
      await world.sleep(this.#chance.scale(20, 1_500));
    }
  }

  async #live(name: string): Promise<void> {
    const { world } = this;
    const former = this.#byName.get(name);
    while ((former?.connection.unfencedCalls() ?? 0) > 0) await world.sleep(1);
    const member = this.#make(name);
    this.#byName.set(name, member);
    this.all.push(member);
    this.#say(`${member.id} starts`);
    try {
      await world.calls.call(member, () => member.start());
      this.#say(`${member.id} is ready`);
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error;
      if (!member.alive) return;
      this.#say(`${member.id} could not start: ${error.message}`);
      this.#bury(member);
    }
  }

  #make(name: string): Member {
    const { world } = this;
    const { scenario, trace, checker, sabotage } = world;
    const chance = this.#chance.fork();
    const id = `${name}#${this.all.filter((each) => each.name === name).length + 1}`;
    const rate = 1 + (chance.random() * 2 - 1) * scenario.drift;
    const connection = world.connect(id, rate);
    const { storeMs } = scenario.weather;
    if (connection.faults !== undefined)
      Object.assign(connection.faults, this.#faults(), {
        latencyMs: () => (world.phase === 'chaos' ? chance.scale(1, storeMs * 10) / 10 : 0.1),
      });
    const member: Member = new Member({
      id,
      name,
      scenario,
      connection,
      // A lone broker starts again on the same machine.
      skewMs: (scenario.alone ? this.named(name)?.skewMs : undefined) ?? chance.int(-2_000, 2_000),
      connector: (clock) => this.peers.connector(id, clock),
      listen: (address, clock, accept) =>
        this.peers.listen(id, address, clock, this.holders.watch(member, accept)),
      trace,
      sabotage,
      onCommit: (commits) => checker.commitBegins(commits),
      onDelivered: (from, write) => this.holders.delivered(from, write),
      onFenced: () => {
        this.#say(`${id} has lost its lease`);
        checker.gaveUp(id);
      },
      onCutOff: (isCutOff) =>
        this.#say(`${id} ${isCutOff ? 'sends its clients away' : 'takes clients again'}`),
      onAbandoned: (_member, partition) => {
        member.abandonedMs = world.clock.monotonicMs();
        checker.gaveUp(id, partition);
      },
      onBug: (error) => world.fail(error),
    });
    return member;
  }

  /** The faults of a connection that begins now. */
  #faults(): { loseSignals: number; loseRequests: number; loseAnswers: number } {
    const { loseSignals, loseRequests, loseAnswers } = this.#world.scenario.weather;
    return this.#world.phase === 'chaos'
      ? { loseSignals, loseRequests, loseAnswers }
      : { loseSignals: 0, loseRequests: 0, loseAnswers: 0 };
  }

  #bury(member: Member): void {
    member.kill();
    this.peers.kill(member.id);
    this.#world.checker.died(member.id);
  }

  #say(what: string): void {
    if (this.#world.trace.on) this.#world.say('supervisor', what);
  }
}
