// How much memory a broker may use, and how much of it is the JavaScript heap's. In a container that is half
// of what the container may use (services/decisions/0003). Node takes the half by itself, but no more than
// 2 GiB, or 4 GiB of a limit of 15 GiB or more. A flag that is set while it runs only looks as if it counted:
// told to stay below 300 MiB, a heap grew to 4 GiB. So the flag has to stand on the command line.
import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';

const MIB = 1024 ** 2;
const HEAP_PART = 0.5;
/** Node's limit has the young generation in it: this is near enough to the half. */
const NEAR = 0.9;

export interface HeapSituation {
  /** What the container may use; undefined: there is no limit. */
  readonly memoryBytes: number | undefined;
  /** What the heap may become as it is. */
  readonly heapLimitBytes: number;
  /** What node was told, on its command line and by NODE_OPTIONS. */
  readonly options: readonly string[];
}

/** The memory that the container may use. Undefined: as much as the machine has. */
export function containerMemoryBytes(): number | undefined {
  const bytes = process.constrainedMemory();
  return bytes > 0 && bytes < totalmem() ? bytes : undefined;
}

/** The flag that gives the heap its part. Undefined: it has that, or somebody has decided otherwise. */
export function heapFlag(situation: HeapSituation = presentSituation()): string | undefined {
  const { memoryBytes, heapLimitBytes, options } = situation;
  if (
    memoryBytes === undefined ||
    options.some((option) => /max[-_](old[-_]space|heap)[-_]size/.test(option))
  )
    return undefined;
  const bytes = memoryBytes * HEAP_PART;
  return heapLimitBytes >= bytes * NEAR ? undefined : `--max-old-space-size=${Math.floor(bytes / MIB)}`;
}

function presentSituation(): HeapSituation {
  return {
    memoryBytes: containerMemoryBytes(),
    heapLimitBytes: getHeapStatistics().heap_size_limit,
    options: [...process.execArgv, process.env.NODE_OPTIONS ?? ''],
  };
}
