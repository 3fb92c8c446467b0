// What a broker does about one partition, as dialogues. `vitest -u` rewrites them: commit only a difference
// that you can explain.
import { expect, test } from 'vitest';
import type { ErrorCode } from '../../services/broker/core/errors.ts';
import { OwnershipDialogue } from '../support/ownership-dialogue.ts';

const down = { code: 'UNAVAILABLE', reason: 'the store does not answer' } as const;
const aborted = { code: 'ABORTED' satisfies ErrorCode, reason: 'another broker owns the partition' } as const;

function owned(title: string): OwnershipDialogue {
  return new OwnershipDialogue(title)
    .on({ kind: 'held', ownerEpoch: 3, by: undefined })
    .on({ kind: 'acquired', ownerEpoch: 4 })
    .on({ kind: 'opened' });
}

const dialogues = {
  claim: () => owned('A partition that nobody holds is assigned here: it is claimed and opened.'),

  'hand-over': () =>
    owned('It is assigned to another broker that lives: handed over in order.')
      .now({ mine: false, go: true, nowMs: 1_000 })
      .on({ kind: 'look' })
      .on({ kind: 'handed over', ownerEpoch: 4 })
      .on({ kind: 'released' }),

  'release-unknown': () =>
    owned('The store does not answer a release: it is tried again, until the next owner takes it by force.')
      .now({ mine: false, go: true })
      .on({ kind: 'look' })
      .on({ kind: 'handed over', ownerEpoch: 4 })
      .on({ kind: 'release failed', failure: down })
      .on({ kind: 'rested' })
      .on({ kind: 'release failed', failure: down })
      .now({ nowMs: 5_000 })
      .on({ kind: 'rested' })
      .on({ kind: 'release failed', failure: down }),

  'hand-over-fails': () =>
    owned('It can not be handed over in order: abandoned, and released without a note.')
      .now({ mine: false, go: true })
      .on({ kind: 'look' })
      .on({ kind: 'hand-over failed', failure: down })
      .on({ kind: 'claim found', ownerEpoch: 4 })
      .on({ kind: 'released' }),

  force: () =>
    new OwnershipDialogue('A living member holds it and does not hand it over: taken by force after a while.')
      .on({ kind: 'held', ownerEpoch: 3, by: 'broker-2' })
      .now({ nowMs: 5_000 })
      .on({ kind: 'held', ownerEpoch: 3, by: 'broker-2' })
      .on({ kind: 'acquired', ownerEpoch: 4 })
      .on({ kind: 'opened' }),

  quicker: () =>
    new OwnershipDialogue('Another broker claims it first.')
      .on({ kind: 'held', ownerEpoch: 3, by: undefined })
      .on({ kind: 'acquire failed', failure: aborted })
      .now({ mine: false })
      .on({ kind: 'look' }),

  'cut-off': () =>
    owned('The lease is lost and comes back: abandoned, and sought again.')
      .now({ mayAct: false })
      .on({ kind: 'fenced', reason: 'the lease has ended' })
      .now({ mayAct: true })
      .on({ kind: 'look' })
      .on({ kind: 'held', ownerEpoch: 4, by: undefined })
      .on({ kind: 'acquired', ownerEpoch: 5 })
      .on({ kind: 'opened' }),

  'cut-off-while-opening': () =>
    new OwnershipDialogue(
      'The lease is lost while it is being opened: what was opened is abandoned, and nothing else begins before.',
    )
      .on({ kind: 'held', ownerEpoch: 3, by: undefined })
      .on({ kind: 'acquired', ownerEpoch: 4 })
      .now({ mayAct: false })
      .on({ kind: 'fenced', reason: 'the lease has ended' })
      .now({ mayAct: true })
      .on({ kind: 'look' })
      .on({ kind: 'held', ownerEpoch: 4, by: undefined })
      .on({ kind: 'opened' })
      .on({ kind: 'held', ownerEpoch: 4, by: undefined }),

  'stale-epoch': () =>
    owned('A write is refused because another broker has claimed it: closed already, and sought again.')
      .on({ kind: 'closed' })
      .on({ kind: 'held', ownerEpoch: 5, by: 'broker-2' }),

  'store-went-back': () =>
    owned(
      'The store went back during a hand-over: it is claimed again by the host, and released under that claim.',
    )
      .now({ mine: false, go: true })
      .on({ kind: 'look' })
      .on({ kind: 'handed over', ownerEpoch: 6 })
      .on({
        kind: 'release failed',
        failure: { code: 'UNAVAILABLE', reason: 'the store went back once more' },
      })
      .on({ kind: 'rested' })
      .on({ kind: 'released' }),

  'open-fails': () =>
    new OwnershipDialogue(
      'It can not be opened at once: the claim is kept, as its note would be lost with it.',
    )
      .on({ kind: 'held', ownerEpoch: 3, by: undefined })
      .on({ kind: 'acquired', ownerEpoch: 4 })
      .on({ kind: 'open failed', failure: down })
      .on({ kind: 'rested' })
      .on({ kind: 'opened' }),

  'taken-while-opening': () =>
    new OwnershipDialogue('Somebody takes it by force while it can not be opened.')
      .on({ kind: 'held', ownerEpoch: 3, by: undefined })
      .on({ kind: 'acquired', ownerEpoch: 4 })
      .on({ kind: 'open failed', failure: down })
      .on({ kind: 'rested' })
      .on({ kind: 'taken' }),

  'moved-before-open': () =>
    new OwnershipDialogue(
      "It is assigned to another before it was open: the former owner's note goes on to the next.",
    )
      .on({ kind: 'held', ownerEpoch: 3, by: undefined })
      .now({ mine: false })
      .on({ kind: 'acquired', ownerEpoch: 4 })
      .on({ kind: 'released' }),
};

for (const [name, dialogue] of Object.entries(dialogues)) {
  test(name, async () => {
    await expect(dialogue().text).toMatchFileSnapshot(`ownership/${name}.txt`);
  });
}
