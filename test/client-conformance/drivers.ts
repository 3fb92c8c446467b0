// The clients that are held to the suite. FANFARE_CLIENT_DRIVERS names others, separated by semicolons:
//
//   FANFARE_CLIENT_DRIVERS='Rust=target/debug/driver;Kotlin=java -jar driver.jar' \
//     npx vitest run --project client-conformance
import { join } from 'node:path';

export interface DriverCommand {
  readonly client: string;
  readonly command: string;
  readonly args: readonly string[];
}

const typescript: DriverCommand = {
  client: 'TypeScript',
  command: process.execPath,
  args: [join(import.meta.dirname, 'drivers/typescript.ts')],
};

export function driversToTest(): readonly DriverCommand[] {
  const named = process.env.FANFARE_CLIENT_DRIVERS;
  return named === undefined ? [typescript] : named.split(';').map(parse);
}

/** The TypeScript client with a fault that the suite has to notice. */
export function careless(fault: string): DriverCommand {
  return { ...typescript, args: [join(import.meta.dirname, 'drivers/careless.ts'), fault] };
}

function parse(text: string): DriverCommand {
  const [, client, line] = /^\s*([^=]+)=(.+)$/.exec(text) ?? [];
  if (client === undefined || line === undefined) {
    throw new Error(`FANFARE_CLIENT_DRIVERS has "${text}": give NAME=COMMAND ARGUMENT...`);
  }
  const [command = '', ...args] = line.trim().split(/\s+/);
  return { client, command, args };
}
