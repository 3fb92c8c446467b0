// The simulation of a broker that is alone, a cluster of one on a store of its own.
import { testSeeds } from './seeds.ts';

testSeeds('a lone broker', { file: 'test/sim/lone.test.ts', alone: true, usual: 1_600, twice: 25 });
