// The weather of a simulation: crashes, restarts, outages, full and flaky stores, jumping clocks. It rests
// when the chaos is over.
import { BrokerError } from '../../services/broker/core/errors.ts';
import { DamagedLog } from '../../services/broker/ports/log-store.ts';
import type { Chance } from './prng.ts';
import { DAY_MS } from './scenario.ts';
import type { World } from './world.ts';

interface Kind {
  readonly perSecond: number;
  readonly happen: () => Promise<void> | void;
}

export class Weatherman {
  readonly #world: World;
  readonly #chance: Chance;

  constructor(world: World) {
    this.#world = world;
    this.#chance = world.chance.fork();
  }

  start(): void {
    const { weather } = this.#world.scenario;
    const { stores } = this.#world;
    const kinds: Kind[] = [
      { perSecond: weather.crashes, happen: () => this.#world.supervisor.crash() },
      { perSecond: weather.gracefulRestarts, happen: () => this.#stop() },
      { perSecond: weather.outages, happen: () => this.#for('down') },
      { perSecond: weather.fullStores, happen: () => this.#for('full') },
      { perSecond: weather.faultChanges, happen: () => this.#changeFaults(weather.worstFault) },
      { perSecond: weather.damages, happen: () => this.#damage() },
      { perSecond: weather.clockJumps, happen: () => this.#world.clock.jumpWallClock(this.#jumpMs()) },
    ];
    if (weather.faultChanges > 0) this.#changeFaults(weather.worstFault);
    stores.faults.slowMs = this.#chance.scale(5, 400);
    for (const kind of kinds) if (kind.perSecond > 0) this.#world.spawn(this.#repeat(kind));
  }

  async #repeat({ perSecond, happen }: Kind): Promise<void> {
    while (this.#world.phase === 'chaos' && !this.#world.over) {
      await this.#world.sleep(this.#chance.pauseMs(perSecond));
      if (this.#world.phase === 'chaos') await happen();
    }
  }

  /** Stops the broker, and kills it if the stop takes too long, as a supervisor would. */
  async #stop(): Promise<void> {
    const life = this.#world.reachable();
    const patienceMs = this.#chance.scale(10, 3_000);
    const stopped = this.#world.supervisor.stopGracefully();
    const killed = this.#world.sleep(patienceMs).then(() => {
      if (life !== undefined && this.#world.supervisor.life === life) this.#world.supervisor.crash();
    });
    await Promise.all([stopped, killed]);
  }

  async #for(fault: 'down' | 'full'): Promise<void> {
    const { faults } = this.#world.stores;
    faults[fault] = true;
    this.#world.say('store', `is ${fault}`);
    await this.#world.sleep(this.#chance.scale(10, 3_000));
    faults[fault] = false;
    this.#world.say('store', `is no longer ${fault}`);
  }

  /** Damages a chunk, which an operator gives up after a while. */
  async #damage(): Promise<void> {
    const { checker, memory, plain } = this.#world;
    const { stored } = checker.logs;
    if (stored.length === 0) return;
    const { id, headOffset, endOffset } = this.#chance.pick(stored);
    const offset = this.#chance.int(headOffset, endOffset - 1);
    memory.damage(id, offset, 'flip');
    this.#world.say('store', `has damaged ${id.logEpoch}.${id.partition}-${offset}`);
    await this.#world.sleep(this.#chance.scale(10, 5_000));
    const error: unknown = await plain.log.read(id, offset, 1).catch((reason: unknown) => reason);
    if (!(error instanceof DamagedLog)) return;
    // It is refused if the topic has been deleted meanwhile.
    await plain.log.skip(id, error.range).catch(expectAborted);
    checker.logs.gaveUp(id, error.range);
    this.#world.say('operator', `gives up what is damaged: ${error.message}`);
  }

  #changeFaults(worst: number): void {
    const draw = (): number => (this.#chance.bool(0.5) ? 0 : this.#chance.random() * worst);
    const { faults } = this.#world.stores;
    faults.slow = draw();
    faults.failBefore = draw();
    faults.timeoutAfter = draw();
    if (this.#world.trace.on) this.#world.say('store', `faults are now ${JSON.stringify(faults)}`);
  }

  /** Seconds, days or years, in either direction. */
  #jumpMs(): number {
    const most = this.#chance.pick([20_000, 20_000, 30 * DAY_MS, 20 * 365 * DAY_MS]);
    return this.#chance.int(-most, most);
  }
}

function expectAborted(error: unknown): void {
  if (!(error instanceof BrokerError) || error.code !== 'ABORTED') throw error;
}
