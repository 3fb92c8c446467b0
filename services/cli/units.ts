// Numbers with units, as people type and read them. What is typed is taken as it is, or refused with what it
// may be: no value is rounded, wrapped or replaced by a default.
import { InvalidArgumentError } from 'commander';

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
};

/** The smallest and the largest allowed value. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** "1500ms", "30s", "1.5h", "1h30m", "7d" → whole milliseconds. */
export function parseDuration({ min, max }: Bounds): (text: string) => number {
  return (text) => {
    if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) {
      throw new InvalidArgumentError('Give a number with ms, s, m, h or d, such as 30s, 1h30m or 7d.');
    }
    let ms = 0;
    for (const [, number, unit] of text.matchAll(/([\d.]+)(ms|s|m|h|d)/g)) ms += times(number!, MS[unit!]!);
    if (ms < min || ms > max) {
      throw new InvalidArgumentError(`It has to be from ${exactDuration(min)} to ${exactDuration(max)}.`);
    }
    if (!Number.isInteger(ms)) throw new InvalidArgumentError('Give whole milliseconds.');
    return ms;
  };
}

/** "65536", "64KiB", "1GiB", "1GB" → whole bytes, in upper or lower case. `orZero`: 0 is allowed, too. */
export function parseSize({ min, max, orZero = false }: Bounds & { readonly orZero?: boolean }) {
  return (text: string): number => {
    const [, number, unit] = /^(\d+(?:\.\d+)?)\s*(b|[kmgt]i?b)?$/i.exec(text) ?? [];
    if (number === undefined) {
      throw new InvalidArgumentError('Give bytes, or a number with KiB, MiB, GiB or TiB, such as 64KiB.');
    }
    const bytes = times(number, BYTES[(unit ?? '').toLowerCase()]!);
    if (orZero && bytes === 0) return 0;
    if (bytes < min || bytes > max) {
      const zero = orZero ? ', or 0' : '';
      throw new InvalidArgumentError(`It has to be from ${exactSize(min)} to ${exactSize(max)}${zero}.`);
    }
    if (!Number.isInteger(bytes)) {
      throw new InvalidArgumentError(`That is ${bytes} bytes: give a whole number of bytes.`);
    }
    return bytes;
  };
}

/** A whole number, in decimal digits. */
export function parseCount(min: number, max: number = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (/^\d+$/.test(text) && count >= min && count <= max) return count;
    const range =
      max === Number.MAX_SAFE_INTEGER
        ? `of at least ${formatCount(min)}`
        : `from ${formatCount(min)} to ${formatCount(max)}`;
    throw new InvalidArgumentError(`Give a whole number ${range}, in digits.`);
  };
}

/** "key=value", gathered over repeated options. */
export function parsePair(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('Give key=value.');
  const key = text.slice(0, at);
  if (Object.hasOwn(earlier, key)) throw new InvalidArgumentError(`${key} is given twice.`);
  return { ...earlier, [key]: text.slice(at + 1) };
}

/** "orders/2@1041300": a topic, a partition and an offset, as `doctor` prints them. */
export function parseDamagedPlace(text: string): { topic: string; partition: number; offset: number } {
  const [, topic, partition, offset] = /^(.+)\/(\d{1,5})@(\d{1,16})$/.exec(text) ?? [];
  if (topic === undefined || Number(offset) > Number.MAX_SAFE_INTEGER)
    throw new InvalidArgumentError('Give TOPIC/PARTITION@OFFSET as "fanfare doctor" prints it.');
  return { topic, partition: Number(partition), offset: Number(offset) };
}

/** A text that is not empty, of at most maxBytes in UTF-8. */
export function parseText(maxBytes: number): (text: string) => string {
  return (text) => {
    const bytes = Buffer.byteLength(text);
    if (bytes >= 1 && bytes <= maxBytes) return text;
    throw new InvalidArgumentError(`It has ${formatCount(bytes)} bytes: give 1 to ${formatCount(maxBytes)}.`);
  };
}

/** "150ms", "12s", "3m 5s", "2h 10m", "7d". */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)}ms`;
  const seconds = Math.floor(ms / 1_000);
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** "512 B", "1.5 KiB", "20 MiB". */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const exponent = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  const value = bytes / 1024 ** exponent;
  return `${value < 10 && exponent > 0 ? value.toFixed(1).replace(/\.0$/, '') : Math.round(value)} ${units[exponent]}`;
}

/** "1,234,567". */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** "1 message", "1,234 messages". */
export function formatMessages(count: number): string {
  return `${formatCount(count)} ${count === 1 ? 'message' : 'messages'}`;
}

/** 1.5 × 3,600,000, without the errors of binary fractions: "0.1" × 1,000 is 100. */
function times(decimal: string, factor: number): number {
  const [whole = '', fraction = ''] = decimal.split('.');
  return Number(whole) * factor + (Number(fraction || 0) * factor) / 10 ** fraction.length;
}

/** A limit in the largest unit in which it is a whole number. */
function exactDuration(ms: number): string {
  const unit = Object.keys(MS).findLast((each) => ms % MS[each]! === 0) ?? 'ms';
  return `${formatCount(ms / MS[unit]!)}${unit}`;
}

function exactSize(bytes: number): string {
  const unit = ['B', 'KiB', 'MiB', 'GiB', 'TiB'].findLast((each) => bytes % BYTES[each.toLowerCase()]! === 0);
  return `${formatCount(bytes / BYTES[(unit ?? 'B').toLowerCase()]!)} ${unit ?? 'B'}`;
}
