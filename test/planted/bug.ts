// What the table of planted bugs says of each: where it is put in, and which check must notice it.

/** A test file, or the tests in it whose full name matches; or the first seeds of a simulation. */
export type Check =
  | { readonly test: string; readonly named?: string }
  | { readonly simulation: 'broker' | 'cluster'; readonly seeds: number };

export interface PlantedBug {
  /** What goes wrong, as a maintainer would say it; no other bug has the same name. */
  readonly name: string;
  /** From the root of the repository; its folder is the room. */
  readonly file: string;
  /** Occurs in the file exactly once. */
  readonly find: string;
  readonly replace: string;
  readonly noticed: Check;
}

/** A unit test's file, by its name alone, or the tests in it whose full name matches. */
export function unit(file: string, named?: string): Check {
  const test = `test/unit/${file}.test.ts`;
  return named === undefined ? { test } : { test, named };
}
