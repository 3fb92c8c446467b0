// `npx node test/first-contact/main.ts [MACHINE…]`: does what the README says on other nodes and npms than
// ours, two machines at a time. Prints a line for each command, for a failure what was printed then, and in
// the end how many machines passed.
import { debianMachine } from './debian-machine.ts';
import type { Machine } from './machine.ts';
import { Newcomer } from './newcomer.ts';
import { npmMachine } from './npm-machine.ts';

const MACHINES: Readonly<Record<string, (name: string) => Promise<Machine>>> = {
  // Node 20 with npm 9.2, which still copies dependencies of the kind `file:`.
  'debian-13': (name) => debianMachine(name, 'trixie'),
  'node-18-npm-9': (name) => npmMachine(name, { node: '18.20.8', npm: '9.9.4' }),
  'node-20-npm-10': (name) => npmMachine(name, { node: '20.20.2', npm: '10.9.9' }),
  'node-22-npm-10': (name) => npmMachine(name, { node: '22.23.5', npm: '10.9.9' }),
  'node-24-npm-11': (name) => npmMachine(name, { node: '24.22.3', npm: '11.21.2' }),
};
const AT_A_TIME = 2;

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(MACHINES);
const unknown = wanted.filter((name) => MACHINES[name] === undefined);
if (unknown.length > 0) {
  console.error(`there is no ${unknown.join(', ')}; there are ${Object.keys(MACHINES).join(', ')}`);
  process.exit(2);
}

let failed = 0;
const queue = wanted.values();
await Promise.all(Array.from({ length: AT_A_TIME }, work));
console.log(`${wanted.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function work(): Promise<void> {
  for (const name of queue) {
    try {
      await using machine = await MACHINES[name]!(name);
      const report = (line: string, seconds: number) =>
        console.log(`ok     ${name}: ${line}${seconds > 0 ? ` (${seconds.toFixed(1)} s)` : ''}`);
      await new Newcomer(machine, report).everything();
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
    }
  }
}
