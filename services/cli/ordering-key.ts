// Where the ordering key of a record comes from: the same key for all, a field of the record, or
// what a pattern finds in it.
import { CliError, EXIT } from './failure.ts';

export interface KeyFlags {
  readonly key?: string;
  /** Counted from 1. */
  readonly keyField?: number;
  /** What separates fields: text, or a /pattern/. Default: white space. */
  readonly delimiter?: string;
  /** A pattern; its first group, or all of what it finds, is the key. ^ and $ match at line ends. */
  readonly keyMatch?: string;
}

export interface ExtractedKey {
  readonly value?: string;
  readonly error?: string;
}

export function keyExtractor(flags: KeyFlags): (record: Buffer) => ExtractedKey {
  const ways = [flags.key, flags.keyField, flags.keyMatch].filter((way) => way !== undefined);
  if (ways.length > 1) throw new CliError('give only one of --key, --key-field and --key-match', EXIT.usage);
  if (flags.delimiter !== undefined && flags.keyField === undefined) {
    throw new CliError('--delimiter goes with --key-field', EXIT.usage);
  }
  if (flags.keyField !== undefined) return fieldOf(flags.keyField, flags.delimiter);
  if (flags.keyMatch !== undefined) return matchOf(flags.keyMatch);
  const constant = flags.key === undefined ? {} : { value: flags.key };
  return () => constant;
}

function fieldOf(field: number, delimiter: string | undefined): (record: Buffer) => ExtractedKey {
  const separator = separatorOf(delimiter);
  return (record) => {
    const text = record.toString('utf8');
    // Without a delimiter, leading white space does not make an empty first field.
    const value = (delimiter === undefined ? text.trimStart() : text).split(separator, field)[field - 1];
    return value ? { value } : { error: `it has no field ${field} to be its ordering key` };
  };
}

function matchOf(source: string): (record: Buffer) => ExtractedKey {
  const pattern = patternOf('--key-match', source, 'm');
  return (record) => {
    const match = pattern.exec(record.toString('utf8'));
    const value = match?.[1] ?? match?.[0];
    return value ? { value } : { error: `nothing in it matches ${source}, which gives its ordering key` };
  };
}

function separatorOf(delimiter: string | undefined): RegExp | string {
  if (delimiter === undefined) return /\s+/;
  if (delimiter.length > 2 && delimiter.startsWith('/') && delimiter.endsWith('/')) {
    return patternOf('--delimiter', delimiter.slice(1, -1), '');
  }
  return delimiter.replaceAll('\\t', '\t');
}

function patternOf(flag: string, source: string, flags: string): RegExp {
  try {
    return new RegExp(source, flags);
  } catch (error) {
    throw new CliError(`${flag}: ${(error as Error).message}`, EXIT.usage);
  }
}
