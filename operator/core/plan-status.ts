// Whether a status is worth a request. What people act upon (conditions, replicas, reasons, whether there is
// a backlog at all) is written at once; numbers that always change are written when they have changed enough,
// and not often. Pure.

export type Worth = 'now' | 'later' | 'nothing';

/** Fields that change by themselves, anywhere in a status. */
const NUMBERS: ReadonlySet<string> = new Set([
  'backlog',
  'arrivalRate',
  'oldestUnackedTime',
  'measureTime',
  'inputs',
  'opinions',
  'learned',
  'message',
  'need',
]);
const MATERIAL_CHANGE = 0.1;
const MATERIAL_AGE_MS = 10_000;

interface Numbers {
  readonly backlog?: number | undefined;
  readonly arrivalRate?: number | undefined;
  readonly oldestUnackedTime?: string | undefined;
}

export function worthWriting(before: object | undefined, after: object): Worth {
  if (before === undefined) return 'now';
  if (JSON.stringify(essence(before)) !== JSON.stringify(essence(after))) return 'now';
  const old = before as Numbers;
  const now = after as Numbers;
  // From nothing to something and back is news.
  if (((old.backlog ?? 0) === 0) !== ((now.backlog ?? 0) === 0)) return 'now';
  const differs =
    (old.backlog === undefined) !== (now.backlog === undefined) ||
    isMaterial(old.backlog, now.backlog) ||
    isMaterial(old.arrivalRate, now.arrivalRate) ||
    isOlder(old.oldestUnackedTime, now.oldestUnackedTime);
  return differs ? 'later' : 'nothing';
}

/** The value without its numbers and without the order of its fields; what is undefined is absent. */
function essence(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(essence);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, field]) => field !== undefined && !isNumberField(name, value))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, field]) => [name, essence(field)]),
  );
}

/** A condition's message counts, save that of Scaling, which is full of numbers. */
function isNumberField(name: string, of: object): boolean {
  if (name !== 'message') return NUMBERS.has(name);
  const { type } = of as { type?: string };
  return type === undefined || type === 'Scaling';
}

function isMaterial(before = 0, after = 0): boolean {
  return Math.abs(after - before) > MATERIAL_CHANGE * Math.max(before, after);
}

function isOlder(before: string | undefined, after: string | undefined): boolean {
  if (before === undefined || after === undefined) return before !== after;
  return Math.abs(Date.parse(after) - Date.parse(before)) > MATERIAL_AGE_MS;
}
