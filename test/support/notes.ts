// Warnings of a component, as something that a test can wait for.

export interface Notes {
  /** Pass as onWarning. */
  readonly add: (message: string, fields: object) => void;
  /** Resolves with the fields of the first such message that nobody has waited for yet, now or later. */
  next(message: string): Promise<object>;
}

export function createNotes(): Notes {
  const heard: { message: string; fields: object }[] = [];
  const waiting: { message: string; resolve: (fields: object) => void }[] = [];
  return {
    add(message, fields) {
      const index = waiting.findIndex((one) => one.message === message);
      if (index < 0) heard.push({ message, fields });
      else waiting.splice(index, 1)[0]?.resolve(fields);
    },
    next(message) {
      const index = heard.findIndex((one) => one.message === message);
      if (index >= 0) return Promise.resolve(heard.splice(index, 1)[0]!.fields);
      return new Promise((resolve) => waiting.push({ message, resolve }));
    },
  };
}
