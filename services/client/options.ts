// Checks what callers give as options: small rules, combined to tables, one for each object of options
// (option-rules.ts). What is wrong is refused where it is given, with INVALID_ARGUMENT: which option,
// what it is, what it may be.
//
//   export const RULES: Rules<MyOptions> = { name: text(), retryMs: optional(durationMs(1)), ... };
//   checkOptions('subscribe()', options, RULES);
//
// `Rules<T>` has a rule for every option of T, or it does not compile: whoever adds an option adds its rule,
// and its line in test/unit/client-options.test.ts. A single argument is checked by calling a rule:
// `integer(1, 600)('seconds', seconds)`.
//
// Undefined is the same as absent. Options that don't exist are refused: a misspelt one would
// silently be the default.
//
// These rules are our own. The broker uses zod, but loading that takes longer than loading grpc-js (50 ms and
// 13 MB against 40 ms and 12 MB), in programs that otherwise load nothing else. Options are checked when
// something is made or administered, never for each message.
import { FanfareError } from './errors.ts';

/** Throws INVALID_ARGUMENT unless the value is right. `name` is what the caller calls the value. */
export type Rule = (name: string, value: unknown) => void;

/** A rule for every option of an object, optional or not. */
export type Rules<Options> = { readonly [Name in keyof Required<Options>]: Rule };

/** The longest that a timer of Node can wait, in milliseconds: 24 days. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** `of` is for people, what the options belong to: "connect()". */
export function checkOptions<Options>(of: string, options: unknown, rules: Rules<Options>): void {
  if (!isRecord(options)) throw invalid(`${of} takes its options as an object, not as ${shown(options)}`);
  checkFields('', `${of} has`, options, rules);
}

export function optional(rule: Rule): Rule {
  return (name, value) => {
    if (value !== undefined) rule(name, value);
  };
}

/** A whole number from min to max. */
export function integer(min: number, max: number, unit = ''): Rule {
  return (name, value) => {
    if (!Number.isSafeInteger(value) || !isBetween(value, min, max)) {
      throw refused(name, value, `give ${isWhole(value) ? '' : 'a whole number, '}${range(min, max, unit)}`);
    }
  };
}

export function integerOrZero(min: number, max: number, unit = ''): Rule {
  return (name, value) => {
    if (value !== 0 && !(Number.isSafeInteger(value) && isBetween(value, min, max))) {
      throw refused(name, value, `give ${range(min, max, unit)}, or 0`);
    }
  };
}

/** A number of milliseconds; it need not be whole. */
export function durationMs(minMs: number, maxMs = MAX_TIMER_MS): Rule {
  return (name, value) => {
    if (!isBetween(value, minMs, maxMs)) throw refused(name, value, `give ${range(minMs, maxMs, 'ms')}`);
  };
}

export function durationMsOrZero(minMs: number, maxMs: number): Rule {
  return (name, value) => {
    if (value !== 0 && !isBetween(value, minMs, maxMs)) {
      throw refused(name, value, `give ${range(minMs, maxMs, 'ms')}, or 0`);
    }
  };
}

/** A text that is not empty. */
export function text(maxBytes = Number.POSITIVE_INFINITY): Rule {
  return (name, value) => {
    const bytes = typeof value === 'string' ? Buffer.byteLength(value) : 0;
    if (bytes >= 1 && bytes <= maxBytes) return;
    const limit = maxBytes === Number.POSITIVE_INFINITY ? '' : ` of 1 to ${grouped(maxBytes)} bytes`;
    throw refused(name, value, `give a text${limit || ' that is not empty'}`);
  };
}

export const flag: Rule = (name, value) => {
  if (typeof value !== 'boolean') throw refused(name, value, 'give true or false');
};

export function oneOf(...values: readonly string[]): Rule {
  return (name, value) => {
    if (!values.includes(value as string)) throw refused(name, value, `give ${alternatives(values)}`);
  };
}

export const func: Rule = (name, value) => {
  if (typeof value !== 'function') throw refused(name, value, 'give a function');
};

/** An AbortSignal, known by what it can do: it may come from another realm or library. */
export const signal: Rule = (name, value) => {
  const { aborted, addEventListener } = (value ?? {}) as Partial<AbortSignal>;
  if (typeof aborted !== 'boolean' || typeof addEventListener !== 'function') {
    throw refused(name, value, 'give an AbortSignal');
  }
};

/** A path, or PEM. The error does not repeat the value: it may be a private key. */
export const pem: Rule = (name, value) => {
  if ((typeof value === 'string' || value instanceof Uint8Array) && value.length > 0) return;
  throw refused(name, value, 'give the path of a PEM file, or PEM as text or bytes');
};

/** An object of texts by name, such as labels. */
export function textsByName(maxCount: number, maxNameBytes: number, maxValueBytes: number): Rule {
  return (name, value) => {
    if (!isRecord(value)) throw refused(name, value, 'give an object of texts');
    const entries = Object.entries(value);
    if (entries.length > maxCount) {
      throw invalid(
        `${name} has ${grouped(entries.length)} entries: at most ${grouped(maxCount)} are allowed`,
      );
    }
    for (const [key, each] of entries) {
      text(maxNameBytes)(`the name of ${name}.${shown(key)}`, key);
      const bytes = typeof each === 'string' ? Buffer.byteLength(each) : Number.POSITIVE_INFINITY;
      if (bytes > maxValueBytes) {
        throw refused(`${name}.${key}`, each, `give a text of at most ${grouped(maxValueBytes)} bytes`);
      }
    }
  };
}

export function listOf(rule: Rule, maxCount: number): Rule {
  return (name, value) => {
    if (!Array.isArray(value)) throw refused(name, value, 'give an array');
    if (value.length > maxCount) {
      throw invalid(`${name} has ${grouped(value.length)} entries: at most ${grouped(maxCount)} are allowed`);
    }
    value.forEach((each, at) => {
      rule(`${name}[${at}]`, each);
    });
  };
}

/** An object of options within options. */
export function group<Options>(rules: Rules<Options>): Rule {
  return (name, value) => {
    if (!isRecord(value)) throw refused(name, value, 'give an object');
    checkFields(`${name}.`, `${name} has`, value, rules);
  };
}

/**
 * A field of brokers' answers that they ignore when it is given, so that an answer
 * can be given back, changed.
 */
export const outputOnly: Rule = () => {};

function checkFields<Options>(
  prefix: string,
  whatHas: string,
  options: Readonly<Record<string, unknown>>,
  rules: Rules<Options>,
): void {
  const byName = rules as Readonly<Record<string, Rule>>;
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(byName, name)) {
      throw invalid(`${whatHas} no option ${shown(name)}, only ${Object.keys(byName).join(', ')}`);
    }
  }
  for (const name of Object.keys(byName)) byName[name]!(prefix + name, options[name]);
}

function refused(name: string, value: unknown, advice: string): FanfareError {
  return invalid(
    value === undefined ? `${name} is missing: ${advice}` : `${name} is ${shown(value)}: ${advice}`,
  );
}

function invalid(message: string): FanfareError {
  return new FanfareError('INVALID_ARGUMENT', message);
}

function isBetween(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && value >= min && value <= max;
}

/** Whether its type and form are right, so that only its size is not. */
function isWhole(value: unknown): boolean {
  return typeof value === 'number' && (Number.isInteger(value) || !Number.isFinite(value));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function range(min: number, max: number, unit: string): string {
  return `${grouped(min)} to ${grouped(max)}${unit && ` ${unit}`}`;
}

/** 1000000 → "1,000,000". */
function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

/** ['a', 'b', 'c'] → '"a", "b" or "c"'. */
function alternatives(values: readonly string[]): string {
  const quoted = values.map((value) => `"${value}"`);
  return `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
}

const MAX_SHOWN_CHARS = 60;

/** A value for people: short and on one line. */
function shown(value: unknown): string {
  if (typeof value === 'string') {
    return JSON.stringify(value.length > MAX_SHOWN_CHARS ? `${value.slice(0, MAX_SHOWN_CHARS)}…` : value);
  }
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return 'an object';
  return String(value);
}
