// A store each of whose calls is brought to it by somebody: who may wait, fail, or look at what comes back.

/** Makes the call, or not; `name` is the method's. */
export type Carry = <T>(call: () => Promise<T>, name: PropertyKey) => Promise<T>;

/** The same store, each of its calls carried. */
export function through<S extends object>(store: S, carry: Carry): S {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => carry(() => member.apply(target, args) as Promise<unknown>, name);
    },
  });
}
