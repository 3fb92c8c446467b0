// The weather of a cluster: deaths, pauses, restarts, joins, drains, cuts between brokers and to the store,
// failovers that lose the last writes; of a lone broker's store outages, errors and damage. When the chaos is
// over it puts everything right again.
import { BrokerError } from '../../../services/broker/core/errors.ts';
import { DamagedLog } from '../../../services/broker/ports/log-store.ts';
import { CLUSTER_SLOT, type Slot } from '../../support/memory-store.ts';
import type { Chance } from '../prng.ts';
import type { Member } from './member.ts';
import { DAY_MS } from './scenario.ts';
import type { ClusterWorld } from './world.ts';

interface Kind {
  readonly perSecond: number;
  readonly happen: () => Promise<void> | void;
}

/** The most names there may be, with those at the beginning. */
const MAX_BROKERS = 6;
/** The longest time whose writes a failover loses. */
const MAX_LOST_MS = 1_500;

/**
 * How long owners may take to notice that the store went back: they look each second whether it has what they
 * wrote, and once more at cursors that rest.
 */
const NOTICED_MS = 12_500;

export class ClusterWeatherman {
  readonly #world: ClusterWorld;
  readonly #chance: Chance;
  readonly #drained = new Set<string>();
  /**
   * Members whose clock was set back: such a machine would not notice at once that it was suspended
   * (MemberLease), so it is only paused.
   */
  readonly #setBack = new WeakSet<Member>();
  #pending = 0;
  #returnedMs = Number.NEGATIVE_INFINITY;
  /** Names that are stopped for a longer time. */
  readonly #absent = new Set<string>();

  constructor(world: ClusterWorld) {
    this.#world = world;
    this.#chance = world.chance.fork();
  }

  start(): void {
    const { weather } = this.#world.scenario;
    const kinds: Kind[] = [
      { perSecond: weather.kills, happen: () => this.#withAny((member) => this.#world.members.kill(member)) },
      { perSecond: weather.pauses, happen: () => this.#withAny((member) => this.#pause(member)) },
      { perSecond: weather.restarts, happen: () => this.#withAny((member) => this.#restart(member)) },
      { perSecond: weather.joins, happen: () => this.#join() },
      { perSecond: weather.drains, happen: () => this.#drain() },
      { perSecond: weather.storeCuts, happen: () => this.#withAny((member) => this.#cutStore([member])) },
      { perSecond: weather.outages, happen: () => this.#outage() },
      { perSecond: weather.fullStores, happen: () => this.#fill() },
      { perSecond: weather.failovers, happen: () => this.#failOver() },
      { perSecond: weather.linkCuts, happen: () => this.#withTwo((a, b) => this.#cutLinks(a, b)) },
      { perSecond: weather.silences, happen: () => this.#withTwo((a, b) => this.#silence(a, b)) },
      { perSecond: weather.wallJumps, happen: () => this.#jump() },
      { perSecond: weather.storeClockJumps, happen: () => this.#jumpStore() },
      { perSecond: weather.faultChanges, happen: () => this.#changeFaults() },
      { perSecond: weather.damages, happen: () => this.#damage() },
    ];
    if (weather.faultChanges > 0) this.#changeFaults();
    for (const kind of kinds) if (kind.perSecond > 0) this.#world.spawn(this.#repeat(kind));
  }

  /** What is still to come of the faults that have begun; undefined: nothing. */
  get pending(): string | undefined {
    if (this.#pending > 0) return `${this.#pending} faults have not ended`;
    const isLate = this.#world.clock.monotonicMs() - this.#returnedMs > NOTICED_MS;
    return isLate ? undefined : 'the store went back a moment ago';
  }

  /** Ends all faults. */
  async calm(): Promise<void> {
    const { members, state, confirmation, storeFaults } = this.#world;
    state.full = false;
    Object.assign(storeFaults, { down: false, slow: 0, failBefore: 0, timeoutAfter: 0 });
    confirmation.fails = 0;
    members.peers.heal();
    for (const member of members.all) {
      members.resume(member);
      const { faults } = member.connection;
      if (faults !== undefined)
        Object.assign(faults, { cut: false, loseAnswers: 0, loseRequests: 0, loseSignals: 0 });
    }
    for (const name of this.#drained) await this.#setDrained(name, false);
    for (const name of this.#absent) members.names.add(name);
  }

  async #repeat({ perSecond, happen }: Kind): Promise<void> {
    while (this.#world.phase === 'chaos' && !this.#world.over) {
      await this.#world.sleep(this.#chance.pauseMs(perSecond));
      if (this.#world.phase !== 'chaos' || this.#world.over) return;
      this.#pending += 1;
      await happen();
      this.#pending -= 1;
    }
  }

  #withAny(happen: (member: Member) => Promise<void> | void): Promise<void> | void {
    const { alive } = this.#world.members;
    if (alive.length > 0) return happen(this.#chance.pick(alive));
  }

  #withTwo(happen: (a: Member, b: Member) => Promise<void>): Promise<void> | void {
    const [a, b] = this.#chance.shuffled(this.#world.members.alive);
    if (a !== undefined && b !== undefined) return happen(a, b);
  }

  async #pause(member: Member): Promise<void> {
    if (member.paused) return;
    this.#world.members.pause(
      member,
      this.#chance.bool(this.#world.scenario.weather.suspended) && !this.#setBack.has(member),
    );
    await this.#world.sleep(this.#chance.scale(50, 6_000));
    this.#world.members.resume(member);
  }

  /** Stops the member in order; it is back at once, or after a while. */
  async #restart(member: Member): Promise<void> {
    const { members } = this.#world;
    // Killed if it takes too long, as a supervisor would.
    if (this.#world.scenario.alone) return members.stop(member, this.#chance.scale(10, 3_000));
    const { name } = member;
    const staysAway = members.names.size > 2 && this.#chance.bool(0.4);
    if (staysAway) {
      members.names.delete(name);
      this.#absent.add(name);
    }
    await members.stop(member);
    if (!staysAway) return;
    await this.#world.sleep(this.#chance.scale(100, 5_000));
    this.#absent.delete(name);
    members.names.add(name);
  }

  #join(): void {
    const { members } = this.#world;
    const count = members.names.size + this.#absent.size;
    if (count < MAX_BROKERS) members.begin(`broker-${count + 1}`);
  }

  async #drain(): Promise<void> {
    const name = this.#chance.pick([...this.#world.members.names]);
    if (this.#drained.has(name)) return;
    await this.#setDrained(name, true);
    await this.#world.sleep(this.#chance.scale(100, 3_000));
    if (this.#world.phase === 'chaos') await this.#setDrained(name, false);
  }

  async #setDrained(name: string, drained: boolean): Promise<void> {
    if (this.#world.trace.on)
      this.#world.say('operator', `${drained ? 'drains' : 'no longer drains'} ${name}`);
    if (drained) this.#drained.add(name);
    else this.#drained.delete(name);
    const { membership, signals } = this.#world.operatorStores;
    await membership.setDrained(name, drained);
    signals.send('assignment', 'drained');
  }

  /** The store is out of everybody's reach. */
  async #outage(): Promise<void> {
    const { scenario, storeFaults } = this.#world;
    if (!scenario.alone) return this.#cutStore(this.#world.members.alive);
    this.#world.say('store', 'is down');
    storeFaults.down = true;
    await this.#world.sleep(this.#chance.scale(10, 3_000));
    storeFaults.down = false;
    this.#world.say('store', 'is no longer down');
  }

  /** How often the store is slow, fails, or writes and says that it has not answered. */
  #changeFaults(): void {
    const { storeFaults, scenario } = this.#world;
    const draw = (): number =>
      this.#chance.bool(0.5) ? 0 : this.#chance.random() * scenario.weather.worstFault;
    Object.assign(storeFaults, {
      slow: draw(),
      failBefore: draw(),
      timeoutAfter: draw(),
      slowMs: this.#chance.scale(5, 400),
    });
    if (this.#world.trace.on) this.#world.say('store', `faults are now ${JSON.stringify(storeFaults)}`);
  }

  /** Damages a chunk, which an operator gives up after a while. */
  async #damage(): Promise<void> {
    const { checker, memory, operatorStores } = this.#world;
    const { stored } = checker;
    if (stored.length === 0) return;
    const { id, headOffset, endOffset } = this.#chance.pick(stored);
    const offset = this.#chance.int(headOffset, endOffset - 1);
    memory.damage(id, offset, 'flip');
    this.#world.say('store', `has damaged ${id.logEpoch}.${id.partition}-${offset}`);
    await this.#world.sleep(this.#chance.scale(10, 5_000));
    const { log } = operatorStores;
    const error: unknown = await log.read(id, offset, 1).catch((reason: unknown) => reason);
    if (!(error instanceof DamagedLog)) return;
    // It is refused if the topic has been deleted meanwhile.
    await log.skip(id, error.range).catch(expectAborted);
    checker.partition(id).gaveUpDamaged(error.range);
    this.#world.say('operator', `gives up what is damaged: ${error.message}`);
  }

  async #cutStore(members: readonly Member[]): Promise<void> {
    for (const { id, connection } of members) {
      if (this.#world.trace.on) this.#world.say('store', `is cut from ${id}`);
      connection.faults!.cut = true;
    }
    await this.#world.sleep(this.#chance.scale(100, 5_000));
    for (const { id, connection } of members) {
      if (this.#world.trace.on) this.#world.say('store', `is reached by ${id}`);
      connection.faults!.cut = false;
    }
  }

  async #fill(): Promise<void> {
    const { state } = this.#world;
    this.#world.say('store', 'is full');
    state.full = true;
    await this.#world.sleep(this.#chance.scale(50, 2_000));
    state.full = false;
    this.#world.say('store', 'has room');
  }

  async #failOver(): Promise<void> {
    const { memory, checker, members } = this.#world;
    // What fails is a whole server, or one of those that share the slots of a Redis Cluster.
    const fails = this.#chance.pick<(slot: Slot) => boolean>([
      () => true,
      (slot) => slot === CLUSTER_SLOT,
      (slot) => slot !== CLUSTER_SLOT,
      (slot) => slot.endsWith('0'),
    ]);
    const goBack = memory.checkpoint(fails);
    const followBack = checker.checkpoint(fails);
    this.#world.say('store', 'a replica stays behind');
    await this.#world.sleep(this.#chance.scale(5, MAX_LOST_MS));
    this.#world.say('store', 'the replica takes over');
    goBack();
    this.#returnedMs = this.#world.clock.monotonicMs();
    followBack((id) => members.all.find((each) => each.id === id)?.membership?.holds === true);
  }

  async #cutLinks(a: Member, b: Member): Promise<void> {
    const { peers } = this.#world.members;
    if (this.#chance.bool(0.5)) {
      this.#world.say('network', `links of ${a.id} and ${b.id} break`);
      peers.cut(a.id, b.id);
      return;
    }
    this.#world.say('network', `${a.id} and ${b.id} are separated`);
    peers.separate(a.id, b.id);
    await this.#world.sleep(this.#chance.scale(50, 4_000));
    this.#world.say('network', 'is whole');
    peers.heal();
  }

  async #silence(a: Member, b: Member): Promise<void> {
    const { peers } = this.#world.members;
    const both = this.#chance.bool(0.5);
    this.#world.say(
      'network',
      `nothing of ${a.id} arrives at ${b.id}${both ? ', and the other way round' : ''}`,
    );
    peers.silence(a.id, b.id);
    if (both) peers.silence(b.id, a.id);
    await this.#world.sleep(this.#chance.scale(50, 4_000));
    this.#world.say('network', 'is whole');
    peers.heal();
  }

  /** Sets the wall clock of one machine, or of all: a bad time server. */
  #jump(): void {
    const { alive } = this.#world.members;
    const byMs = this.#jumpMs();
    const concerned = this.#chance.bool(0.2) ? alive : this.#chance.shuffled(alive).slice(0, 1);
    for (const member of concerned) {
      if (member.paused) continue;
      member.skewMs += byMs;
      if (byMs < 0) this.#setBack.add(member);
      if (this.#world.trace.on) this.#world.say(member.id, 'has its wall clock set');
    }
  }

  #jumpStore(): void {
    const byMs = this.#jumpMs();
    if (this.#world.trace.on) this.#world.say('store', `has its clock set by ${byMs} ms`);
    this.#world.memory.setClock(byMs);
  }

  #jumpMs(): number {
    const most = this.#chance.pick([20_000, 20_000, 30 * DAY_MS, 20 * 365 * DAY_MS]);
    return this.#chance.int(-most, most);
  }
}

function expectAborted(error: unknown): void {
  if (!(error instanceof BrokerError) || error.code !== 'ABORTED') throw error;
}
