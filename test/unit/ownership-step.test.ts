// core/ownership.ts whatever happens in whatever order: what is opened is closed before anything else, and
// the store is told of no claim that was not let go. The usual courses are in test/golden/ownership.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  newOwnership,
  type OwnershipEvent,
  type OwnershipWork,
  stepOwnership,
  type WorkResult,
} from '../../services/broker/core/ownership.ts';
import { cases } from '../support/property.ts';

const failure = fc.record({
  code: fc.constantFrom('ABORTED', 'UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'NOT_FOUND'),
  reason: fc.constant('a reason'),
});
const ownerEpoch = fc.integer({ min: 1, max: 9 });

/** What the world may answer to a piece of work. */
const RESULTS: Record<OwnershipWork['kind'], fc.Arbitrary<WorkResult>> = {
  acquire: fc.oneof(
    fc.record({ kind: fc.constant('acquired' as const), ownerEpoch }),
    fc.record({ kind: fc.constant('acquire failed' as const), failure }),
  ),
  open: fc.oneof(
    fc.record({ kind: fc.constant('opened' as const) }),
    fc.record({ kind: fc.constant('taken' as const) }),
    fc.record({ kind: fc.constant('open failed' as const), failure }),
  ),
  'hand over': fc.oneof(
    fc.record({ kind: fc.constant('handed over' as const), ownerEpoch }),
    fc.record({ kind: fc.constant('hand-over failed' as const), failure }),
  ),
  'find claim': fc.oneof(
    fc.record({
      kind: fc.constant('claim found' as const),
      ownerEpoch: fc.option(ownerEpoch, { nil: undefined }),
    }),
    fc.record({ kind: fc.constant('claim not found out' as const), failure }),
  ),
  release: fc.oneof(
    fc.record({ kind: fc.constant('released' as const) }),
    fc.record({ kind: fc.constant('release failed' as const), failure }),
  ),
};
const OTHERS: fc.Arbitrary<OwnershipEvent> = fc.oneof(
  fc.record({ kind: fc.constant('look' as const) }),
  fc.record({
    kind: fc.constant('held' as const),
    ownerEpoch,
    by: fc.option(fc.constant('broker-2'), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('fenced' as const), reason: fc.constant('a reason') }),
  fc.record({ kind: fc.constant('closed' as const) }),
);
const MOMENTS = fc.array(
  fc.record({
    /** Of three moments, so many bring the end of what is under way, if anything is. */
    ends: fc.integer({ min: 0, max: 2 }),
    other: OTHERS,
    results: fc.record(RESULTS),
    passedMs: fc.integer({ min: 0, max: 6_000 }),
    mayAct: fc.boolean(),
    mine: fc.boolean(),
  }),
  { maxLength: 60 },
);

test('whatever happens, a partition is never open twice, forgotten or released open, or taken without a lease', () => {
  fc.assert(
    fc.property(MOMENTS, (moments) => {
      let ownership = newOwnership(0);
      let underWay: OwnershipWork | undefined;
      let isResting = false;
      /** The host has it open, or may have half of it. */
      let isOpen = false;
      /** What is under way began under a claim that counts no more. */
      let isVoid = false;
      let nowMs = 0;
      for (const { ends, other, results, passedMs, mayAct, mine } of moments) {
        nowMs += passedMs;
        let event = other;
        if (ends > 0 && isResting) event = { kind: 'rested' };
        else if (ends > 0 && underWay !== undefined) event = results[underWay.kind];
        if (event.kind === 'rested') isResting = false;
        if (event.kind === 'closed') isOpen = false;
        if (event.kind === 'opened') isOpen = true;
        if (event.kind === 'handed over') isOpen = false;
        const isResult = event !== other && event.kind !== 'rested';
        const endsVoid = isResult && isVoid;
        if (isResult) underWay = undefined;
        isVoid = underWay !== undefined && (isVoid || event.kind === 'fenced' || event.kind === 'closed');
        const facts = { nowMs, mayAct, mine, go: !mine, handOverMs: 5_000 };
        const { after, effects } = stepOwnership(ownership, event, facts);
        ownership = after;
        for (const effect of effects) {
          if (effect.kind === 'acquire' || effect.kind === 'hand over') expect(mayAct).toBe(true);
          switch (effect.kind) {
            case 'abandon':
              isOpen = false;
              break;
            case 'rest':
              expect(isResting).toBe(false);
              isResting = true;
              break;
            case 'forget':
              expect({ isOpen, underWay }).toEqual({ isOpen: false, underWay: undefined });
              break;
            case 'acquire':
            case 'open':
            case 'release':
              expect(isOpen).toBe(false);
              expect(underWay).toBeUndefined();
              underWay = effect;
              break;
            case 'hand over':
            case 'find claim':
              expect(underWay).toBeUndefined();
              underWay = effect;
              break;
          }
        }
        expect(ownership.work).toBe(
          isResting
            ? 'resting'
            : underWay === undefined
              ? 'none'
              : ownership.work === 'void'
                ? 'void'
                : 'under way',
        );
        if (endsVoid) expect(ownership.state.kind).toBe('seeking');
        if (ownership.state.kind === 'owned') expect(isOpen).toBe(true);
        if (isOpen) expect(ownership.state.kind).toBe('owned');
      }
    }),
    cases(2_000),
  );
});
