// Kinds of options: the values at their limits, those beyond, and what is said of them. Whole tables are made
// of them.

/** What an option may be, and which values are refused with which words after "{name} is ". */
export interface Case {
  readonly taken: readonly unknown[];
  readonly refused: readonly (readonly [value: unknown, says: string])[];
}

export type Cases<Options> = { readonly [Name in keyof Required<Options>]: Case };

export const DAY = 24 * 3_600_000;
const TIMER = '2,147,483,647';

export function whole(min: number, max: number, says: string, ...alsoTaken: number[]): Case {
  const number = says.replace(/^give /, 'give a whole number, ');
  return {
    taken: [min, max, undefined, ...alsoTaken],
    refused: [
      ...(alsoTaken.includes(0) ? [] : [[0, `0: ${says}`] as const]),
      [-1, `-1: ${says}`],
      ...(min > 1 ? [[min - 1, `${min - 1}: ${says}`] as const] : []),
      ...(max < Number.MAX_SAFE_INTEGER ? [[max + 1, `${max + 1}: ${says}`] as const] : []),
      [Number.NaN, `NaN: ${says}`],
      [Number.POSITIVE_INFINITY, `Infinity: ${says}`],
      [Number.NEGATIVE_INFINITY, `-Infinity: ${says}`],
      ...(alsoTaken.includes(0)
        ? []
        : ([
            [1.5, `1.5: ${number}`],
            ['5', `"5": ${number}`],
            [5n, `5: ${number}`],
            [null, `null: ${number}`],
          ] as const)),
    ],
  };
}

export function ms(min: number, max: number, says: string, ...alsoTaken: number[]): Case {
  return {
    taken: [min, max, undefined, ...(min + 0.5 < max ? [min + 0.5] : []), ...alsoTaken],
    refused: [
      [-1, `-1: ${says}`],
      ...(min > 0 && !alsoTaken.includes(0) ? [[0, `0: ${says}`] as const] : []),
      ...(min > 0 ? [[min - 0.5, `${min - 0.5}: ${says}`] as const] : []),
      [max + 1, `${max + 1}: ${says}`],
      [Number.NaN, `NaN: ${says}`],
      [Number.POSITIVE_INFINITY, `Infinity: ${says}`],
      ['5', `"5": ${says}`],
      ['5s', `"5s": ${says}`],
      [null, `null: ${says}`],
    ],
  };
}

export function text(says: string, taken: readonly unknown[] = ['abc', undefined]): Case {
  return {
    taken,
    refused: [
      ['', `"": ${says}`],
      [5, `5: ${says}`],
      [null, `null: ${says}`],
      [{}, `an object: ${says}`],
    ],
  };
}

export function oneOf(values: readonly string[], says: string): Case {
  return {
    taken: [...values, undefined],
    refused: [
      ['', `"": ${says}`],
      [values[0]!.toUpperCase(), `"${values[0]!.toUpperCase()}": ${says}`],
      [0, `0: ${says}`],
      [null, `null: ${says}`],
    ],
  };
}

export const timerMs = ms(1, 2 ** 31 - 1, `give 1 to ${TIMER} ms`);
export const timerOrZeroMs = ms(0, 2 ** 31 - 1, `give 0 to ${TIMER} ms`);
export const flag: Case = {
  taken: [true, false, undefined],
  refused: [
    ['true', '"true": give true or false'],
    [1, '1: give true or false'],
    [null, 'null: give true or false'],
  ],
};
export const func: Case = {
  taken: [() => 0.5, undefined],
  refused: [
    ['log', '"log": give a function'],
    [{}, 'an object: give a function'],
    [null, 'null: give a function'],
  ],
};
export const signal: Case = {
  // What counts is what it can do, not its class: there are several realms and libraries.
  taken: [
    new AbortController().signal,
    AbortSignal.abort(),
    undefined,
    { aborted: false, addEventListener() {}, removeEventListener() {} },
  ],
  refused: [
    [new AbortController(), 'an object: give an AbortSignal'],
    [true, 'true: give an AbortSignal'],
    [null, 'null: give an AbortSignal'],
  ],
};
export const name = text('give a text that is not empty');
export const pem: Case = {
  taken: [],
  refused: [
    ['', '"": give the path of a PEM file, or PEM as text or bytes'],
    [Buffer.alloc(0), 'an object: give the path of a PEM file, or PEM as text or bytes'],
    [{}, 'an object: give the path of a PEM file, or PEM as text or bytes'],
    [undefined, 'missing: give the path of a PEM file, or PEM as text or bytes'],
  ],
};
export const many = (count: number) => Array.from({ length: count }, (_, at) => `name-${at}`);
export const labelsOf = (count: number) => Object.fromEntries(many(count).map((key) => [key, 'x']));
export const labels: Case = {
  taken: [{}, labelsOf(64), { ['k'.repeat(63)]: 'v'.repeat(255) }, { empty: '' }, undefined],
  refused: [
    [null, 'null: give an object of texts'],
    [['a'], 'an array: give an object of texts'],
    ['a=b', '"a=b": give an object of texts'],
  ],
};
/** Labels that are refused with words other than "{name} is …". */
export const labelTexts: readonly (readonly [value: unknown, says: string])[] = [
  [labelsOf(65), 'labels has 65 entries: at most 64 are allowed'],
  [{ '': 'x' }, 'the name of labels."" is "": give a text of 1 to 63 bytes'],
  [{ ['k'.repeat(64)]: 'x' }, 'give a text of 1 to 63 bytes'],
  [{ team: 5 }, 'labels.team is 5: give a text of at most 255 bytes'],
  [{ team: 'ä'.repeat(128) }, 'give a text of at most 255 bytes'],
];
export const group: Case = {
  taken: [{}, undefined],
  refused: [
    [5, '5: give an object'],
    [null, 'null: give an object'],
    [[], 'an array: give an object'],
  ],
};
export const deadline = whole(1, 600, 'give 1 to 600 s');
