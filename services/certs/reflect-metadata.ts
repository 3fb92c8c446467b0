// The corner of the Reflect metadata API that @peculiar/x509's injection container needs when it is imported,
// and so to be imported before it. The certificates we make need no constructor injection: a map of what was
// defined is enough. Does nothing where a complete polyfill is loaded already.

type Metadata = Map<unknown, unknown>;

interface MetadataReflect {
  defineMetadata?(key: unknown, value: unknown, target: object): void;
  getOwnMetadata?(key: unknown, target: object): unknown;
  getMetadata?(key: unknown, target: object): unknown;
}

const reflect = Reflect as MetadataReflect;

if (reflect.getMetadata === undefined) {
  const byTarget = new WeakMap<object, Metadata>();
  reflect.defineMetadata = (key, value, target) => {
    const metadata = byTarget.get(target) ?? new Map();
    byTarget.set(target, metadata.set(key, value));
  };
  reflect.getOwnMetadata = (key, target) => byTarget.get(target)?.get(key);
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
      const value = byTarget.get(at)?.get(key);
      if (value !== undefined) return value;
    }
    return undefined;
  };
}
