// The simulation of whole clusters: each seed is another cluster, with other faults.
import { testSeeds } from './seeds.ts';

testSeeds('the cluster', { file: 'test/sim/cluster.test.ts', alone: false, usual: 400, twice: 15 });
