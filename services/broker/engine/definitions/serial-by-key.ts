// Runs tasks one after another for each key, and those of different keys at the same time.
//
// A key takes memory only while something runs or waits for it.

export class SerialByKey {
  readonly #tails = new Map<string, Promise<void>>();

  /**
   * Runs the task after all earlier ones of the key, whether those failed or not. Rejects as the task does.
   */
  async run<T>(key: string, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#tails.set(key, done);
    try {
      await before;
      return await task();
    } finally {
      resolve();
      if (this.#tails.get(key) === done) this.#tails.delete(key);
    }
  }
}
