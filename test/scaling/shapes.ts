// The load shapes: what arrives, what a pod can do, and what goes wrong, over simulated hours.
import type { Chance } from '../sim/prng.ts';

export interface LaneShape {
  /** The lane's share of the arrivals. */
  readonly share: number;
  /** Most messages per second that this lane can go; 0 while it is stuck. */
  readonly maxRate: (at: number) => number;
}

export interface Shape {
  readonly name: string;
  readonly says: string;
  readonly seconds: number;
  /** Mean arrivals per second. Draws from chance the same number of times each second. */
  readonly rate: (at: number, chance: Chance) => number;
  /** Messages per second of one pod of nominal speed. */
  readonly podRate: (at: number) => number;
  /** Messages that a pod processes at once. */
  readonly concurrency: number;
  /** Most messages that a pod holds, as a multiple of concurrency. */
  readonly prefetch: number;
  readonly startupSeconds: number;
  /** Most messages per second of all pods together. */
  readonly downstreamRate: (at: number) => number;
  readonly lanes: readonly LaneShape[];
  readonly metricsDown: (at: number) => boolean;
  readonly ordered: boolean;
  readonly maxReplicas: number;
}

const MINUTE = 60;
const HOUR = 3600;
const NO_LIMIT = (): number => Number.POSITIVE_INFINITY;

function shape(name: string, says: string, rate: Shape['rate'], more: Partial<Shape> = {}): Shape {
  return {
    name,
    says,
    rate,
    seconds: 2 * HOUR,
    podRate: () => 50,
    concurrency: 10,
    prefetch: 2,
    startupSeconds: 25,
    downstreamRate: NO_LIMIT,
    lanes: [{ share: 1, maxRate: NO_LIMIT }],
    metricsDown: () => false,
    ordered: false,
    maxReplicas: 64,
    ...more,
  };
}

/** New shapes for each run: some remember where a random walk has got to. */
export function loadShapes(): Shape[] {
  return [
    shape('steady', '500/s, wandering by a third', wander(500, 0.35)),
    shape('step', '100/s, 1,200/s for 45 min', (at) => (between(at, 30, 75) ? 1200 : 100)),
    shape('ramp', '50 to 2,000/s in an hour, back in 20 min', (at) =>
      at < HOUR ? 50 + (1950 * at) / HOUR : Math.max(50, 2000 - (1950 * (at - HOUR)) / (20 * MINUTE)),
    ),
    shape('spikes', '200/s, a minute of 3,000/s each quarter hour', (at) =>
      at % (15 * MINUTE) < MINUTE && at > MINUTE ? 3000 : 200,
    ),
    shape('burst beyond max', '60 times as much as usual for 5 min', (at) =>
      between(at, 30, 35) ? 6000 : 100,
    ),
    shape(
      'daily wave',
      'two days in two hours, 50 to 1,500/s',
      (at) => 775 - 725 * Math.cos((2 * Math.PI * at) / HOUR),
    ),
    shape('sawtooth', '100 to 1,300/s and back, every 4 min', (at) => 100 + 1200 * ((at % 240) / 240)),
    shape('silence, burst', 'nothing for 35 min, 1,000/s for 5 min', (at) =>
      at % (40 * MINUTE) < 35 * MINUTE ? 0 : 1000,
    ),
    shape('slow consumers', '600/s; pods get four times slower for 50 min', () => 600, {
      podRate: (at) => (between(at, 30, 80) ? 12.5 : 50),
    }),
    shape(
      'long jobs',
      'a job takes 45 s, four at once; 0.6 to 3/s',
      (at) => 1.8 + 1.2 * Math.sin((2 * Math.PI * at) / (40 * MINUTE)),
      {
        podRate: () => 4 / 45,
        concurrency: 4,
        prefetch: 1,
      },
    ),
    shape('poison partition', 'one of four partitions stuck, twice 25 min', () => 400, {
      lanes: [
        { share: 0.75, maxRate: NO_LIMIT },
        {
          share: 0.25,
          maxRate: (at) => (between(at, 15, 40) || between(at, 70, 95) ? 0 : Number.POSITIVE_INFINITY),
        },
      ],
    }),
    shape('flapping', '700/s for 90 s, nothing for 90 s', (at) => (at % 180 < 90 ? 700 : 0)),
    shape(
      'metric outages',
      'a daily wave; the backlog unknown 3 times 6 min',
      (at) => 600 - 500 * Math.cos((2 * Math.PI * at) / HOUR),
      {
        metricsDown: (at) => between(at, 20, 26) || between(at, 58, 64) || between(at, 90, 96),
      },
    ),
    shape(
      'cold starts',
      'pods need 150 s; steps of 300 and 900/s',
      (at) => (Math.floor(at / (20 * MINUTE)) % 2 ? 900 : 300),
      {
        startupSeconds: 150,
      },
    ),
    shape(
      'downstream limit',
      'a database that takes 500/s; 400, then 800/s for 30 min',
      (at) => (between(at, 30, 60) ? 800 : 400),
      {
        downstreamRate: () => 500,
      },
    ),
    shape('hot ordering key', '40 % of 500/s on one key that goes at 60/s', () => 500, {
      ordered: true,
      lanes: [
        { share: 0.6, maxRate: NO_LIMIT },
        { share: 0.4, maxRate: () => 60 },
      ],
    }),
    shape('bursty', '150/s, and at random, for 20 to 200 s, ten times that', bursts(150, 10)),
    shape('night shift', '5/s, 30 s of 100/s each 10 min', (at) => (at % (10 * MINUTE) < 30 ? 100 : 5)),
  ];
}

/**
 * The same shapes with other numbers: loads, pods, starts and times that nothing was tuned on. Each shape
 * draws from chance the same number of times.
 */
export function variedShapes(chance: Chance): Shape[] {
  return loadShapes().map((shape) => {
    const load = chance.random() + 0.5;
    const pods = chance.random() + 0.6;
    const start = chance.random() * 2 + 0.5;
    const pace = chance.random() * 0.7 + 0.7;
    const then = (at: number): number => Math.floor(at * pace);
    return {
      ...shape,
      startupSeconds: shape.startupSeconds * start,
      rate: (at, drawn) => load * shape.rate(then(at), drawn),
      podRate: (at) => pods * shape.podRate(then(at)),
      downstreamRate: (at) => load * shape.downstreamRate(then(at)),
      metricsDown: (at) => shape.metricsDown(then(at)),
      lanes: shape.lanes.map(({ share, maxRate }) => ({ share, maxRate: (at) => load * maxRate(then(at)) })),
    };
  });
}

function between(at: number, fromMinute: number, toMinute: number): boolean {
  return at >= fromMinute * MINUTE && at < toMinute * MINUTE;
}

function wander(mean: number, by: number): Shape['rate'] {
  let x = 0;
  return (_at, chance) => {
    x += 0.06 * (chance.random() - 0.5) - 0.002 * x;
    return mean * (1 + by * Math.max(-1, Math.min(1, x * 2)));
  };
}

function bursts(usual: number, factor: number): Shape['rate'] {
  let left = 0;
  return (_at, chance) => {
    const draw = chance.random();
    if (left > 0) left -= 1;
    else if (draw < 1 / 600) left = 20 + Math.floor((draw * 600 * 180) % 180);
    return left > 0 ? usual * factor : usual;
  };
}
