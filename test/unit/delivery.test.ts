// core/delivery.ts under random events, held against a model that keeps every message by itself
// (support/delivery-model.ts has the rules). At the end the consumers acknowledge everything they are given,
// and everything must have come to an end.
import fc from 'fast-check';
import { describe, test } from 'vitest';
import type { DeliveryOptions } from '../../services/broker/core/delivery.ts';
import { SLOTS } from '../../services/broker/core/key-slots.ts';
import { DeliveryRig } from '../support/delivery-rig.ts';
import { cases, TIMEOUT_MS } from '../support/property.ts';

/** Some keys share a slot, one is busy; 0 is no key. */
const key = fc.constantFrom(0, 1, 1, 1, 1 + SLOTS, 1 + 2 * SLOTS, 2, 77, 77 + SLOTS);
const clientHash = fc.constantFrom(11, 222, 3_333, 44_444, 555_555);

/** One random thing that happens; it reads as a sentence in a counterexample. */
interface Step {
  readonly run: (rig: DeliveryRig) => void;
}

function step<T>(
  weight: number,
  name: string,
  input: fc.Arbitrary<T>,
  run: (rig: DeliveryRig, input: T) => void,
): fc.WeightedArbitrary<Step> {
  const arbitrary = input.map((value) => ({
    run: (rig: DeliveryRig) => run(rig, value),
    [fc.toStringMethod]: () => `${name} ${fc.stringify(value)}`,
  }));
  return { weight, arbitrary };
}

/** A consumer that is there, or one that is not. */
function consumerAt(rig: DeliveryRig, index: number): number {
  return index < 8 && rig.consumers.length > 0 ? rig.consumers[index % rig.consumers.length]! : 0;
}

/** A range near something: an outstanding message, the floor, or anywhere, beyond the end too. */
function rangeAt(rig: DeliveryRig, how: number, at: number, length: number): [number, number] {
  const leased = rig.model.messages.filter(({ state }) => state === 'leased');
  if (how < 6 && leased.length > 0) {
    const { offset } = leased[at % leased.length]!;
    return [offset, offset + length];
  }
  if (how === 6) return [rig.model.floor, rig.model.floor + length];
  if (how === 7) return [at % (rig.end + 3), Number.POSITIVE_INFINITY];
  const first = at % (rig.end + 3);
  return [first, first + length];
}

const range = fc.tuple(fc.nat(8), fc.nat(500), fc.oneof(fc.constant(0), fc.nat(12)));
const someConsumer = fc.nat(8);

const size = fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(400));
const credit = fc.record({
  index: fc.nat(7),
  messages: fc.integer({ min: 1, max: 8 }),
  bytes: fc.constantFrom(5, 50, 100, 10_000, 10_000, 10_000),
  leaseMs: fc.constantFrom(5, 10, 60),
});
const nothing = fc.constant(undefined);

const steps = fc.oneof(
  step(5, 'append', fc.array(fc.tuple(key, size), { minLength: 1, maxLength: 8 }), (rig, list) => {
    const keys = list.map(([hash]) => hash);
    const sizes = list.map(([, bytes]) => bytes);
    rig.append(keys, sizes);
  }),
  step(2, 'join', clientHash, (rig, hash) => rig.join(hash)),
  step(10, 'lease', credit, (rig, { index, messages, bytes, leaseMs }) => {
    if (rig.consumers.length > 0) rig.lease(consumerAt(rig, index), messages, bytes, leaseMs);
  }),
  step(7, 'ack', fc.tuple(someConsumer, range), (rig, [index, where]) =>
    rig.ack(consumerAt(rig, index), ...rangeAt(rig, ...where)),
  ),
  step(4, 'nack', fc.tuple(someConsumer, range), (rig, [index, where]) =>
    rig.nack(consumerAt(rig, index), ...rangeAt(rig, ...where)),
  ),
  step(2, 'extend', fc.tuple(someConsumer, range, fc.constantFrom(0, 5, 40)), (rig, [index, where, ms]) =>
    rig.extend(consumerAt(rig, index), ...rangeAt(rig, ...where), ms),
  ),
  step(3, 'pass', fc.constantFrom(0, 3, 7, 30), (rig, ms) => rig.pass(ms)),
  step(1, 'leave', fc.nat(5), (rig, index) => rig.leave(index % Math.max(1, rig.consumers.length))),
  step(1, 'drain', fc.tuple(someConsumer, fc.boolean()), (rig, [index, draining]) =>
    rig.setDraining(consumerAt(rig, index), draining),
  ),
  step(1, 'trim', fc.integer({ min: -2, max: 5 }), (rig, by) =>
    rig.trim(Math.min(rig.end, Math.max(0, rig.model.floor + by))),
  ),
  step(4, 'commit', nothing, (rig) => rig.commit()),
  step(4, 'commit at once', nothing, (rig) => {
    rig.commit();
    rig.committed();
  }),
  step(4, 'committed', nothing, (rig) => rig.committed()),
  step(1, 'commit failed', nothing, (rig) => rig.commitFailed()),
  step(1, 'restart', fc.boolean(), (rig, written) => rig.restart(written)),
);

const bounds = fc.record({
  maxHoles: fc.constantFrom(1, 2, 4, 1_000),
  maxQueued: fc.constantFrom(1, 3, 10, 1_000),
  maxUnsettled: fc.constantFrom(1, 2, 5, 1_000, 1_000),
  maxRun: fc.constantFrom(1, 2, 5, 1_000, 1_000),
});

describe.each([
  ['without ordering', false, 700],
  ['with ordering', true, 1_500],
])('a subscription %s', (_, ordering, usual) => {
  test('keeps every promise under any events, and settles everything in the end', {
    timeout: TIMEOUT_MS,
  }, () => {
    fc.assert(
      fc.property(bounds, fc.array(steps, { maxLength: 90, size: 'max' }), (limits, list) => {
        const options: DeliveryOptions = { ordering, ...limits };
        const rig = new DeliveryRig(options);
        for (const { run } of list) run(rig);
        rig.drain();
      }),
      cases(usual),
    );
  });
});
