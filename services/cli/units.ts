// Numbers with units as people type and read them. Used by program.ts (options) and the commands (tables).
import { InvalidArgumentError } from 'commander';

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** "1500ms", "30s", "5m", "2h", "7d" → milliseconds. */
export function parseDuration(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (number === undefined)
    throw new InvalidArgumentError('give a number with ms, s, m, h or d, such as 30s or 7d.');
  return Number(number) * MS[unit!]!;
}

/** "65536", "64KiB", "1GiB", "1GB" → bytes. */
export function parseSize(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(B|[KMGT]i?B)?$/.exec(text) ?? [];
  if (number === undefined)
    throw new InvalidArgumentError('give bytes, or a number with KiB, MiB, GiB, TiB.');
  return Math.round(Number(number) * BYTES[unit ?? '']!);
}

/** A whole number of at least min. */
export function parseCount(min: number): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (!/^\d+$/.test(text) || count < min || !Number.isSafeInteger(count)) {
      throw new InvalidArgumentError(`give a whole number, at least ${min}.`);
    }
    return count;
  };
}

/** "key=value", gathered over repeated options. */
export function parsePair(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('give key=value.');
  return { ...earlier, [text.slice(0, at)]: text.slice(at + 1) };
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
