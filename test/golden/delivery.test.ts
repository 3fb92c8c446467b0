// Delivery as dialogue: each file in delivery/ is what is said in one scenario. `vitest run --project golden
// -u` writes them anew; commit only a difference that you can explain.
import { expect, test } from 'vitest';
import type { DeliveryOptions } from '../../services/broker/core/delivery.ts';
import { Dialogue, type Said } from '../support/delivery-dialogue.ts';

/** Messages of 10 bytes with these keys, one letter each. */
function keyed(keys: string): Said[] {
  return [...keys].map((key) => [key, 10]);
}

function plain(...sizes: readonly number[]): Said[] {
  return sizes.map((bytes) => ['-', bytes]);
}

const ORDERING: Partial<DeliveryOptions> = { ordering: true };

function scenario(
  file: string,
  title: string,
  options: Partial<DeliveryOptions>,
  play: (dialogue: Dialogue) => void,
): void {
  test(title, async () => {
    const dialogue = new Dialogue(title, options);
    play(dialogue);
    await expect(dialogue.text).toMatchFileSnapshot(`delivery/${file}.txt`);
  });
}

scenario('share', 'Two consumers share the messages; acknowledgements move the cursor', {}, (d) => {
  d.join(1);
  d.join(2);
  d.append(...plain(10, 10, 10, 10));
  d.lease(1, 3);
  d.lease(2, 3);
  d.append(...plain(20, 20));
  d.lease(2, 2);
  d.ack(1, 0, 2);
  d.ack(2, 3, 5);
  d.lease(1);
});

scenario('partial-ack', 'Acknowledgements in any order leave holes, which close', {}, (d) => {
  d.join(1);
  d.append(...plain(10, 10, 10, 10, 10, 10));
  d.lease(1);
  d.ack(1, 1, 2);
  d.ack(1, 5);
  d.commit();
  d.note('Again and overlapping: only what is new counts.');
  d.ack(1, 2, 3);
  d.ack(1, 5);
  d.note('The gap closes.');
  d.ack(1, 0);
  d.ack(1, 4);
});

scenario('nack', 'What is given back goes out again once its attempt count is durable', {}, (d) => {
  d.join(1);
  d.join(2);
  d.append(...plain(10, 10, 10, 10));
  d.lease(1);
  d.nack(1, 1, 2);
  d.lease(2);
  d.commit();
  d.lease(2);
  d.persisted();
  d.lease(2);
  d.nack(2, 2);
  d.commit();
  d.persisted();
  d.lease(1);
  d.ack(1, 0, 3);
});

scenario(
  'stale-nack',
  'What is said of an earlier delivery touches no later one, at whichever consumer',
  {},
  (d) => {
    d.join(1);
    d.join(2);
    d.append(...plain(10, 10, 10, 10));
    d.lease(1);
    d.nack(1, 1, 2, 1);
    d.commit();
    d.persisted();
    d.lease(1);
    d.note('Of the first delivery only 0 and 3 are under way.');
    d.nack(1, 1, 2, 1);
    d.extend(1, 0, 3, 20_000, 1);
    d.nack(1, 0, 3, 2);
    d.commit();
    d.persisted();
    d.lease(2);
    d.note('A call without a stream means anybody, but not any delivery.');
    d.nack(0, 0, 3, 2);
    d.nack(0, 0, 3, 3);
    d.expire(10_000);
    d.note('An acknowledgement counts, whichever delivery it is of.');
    d.ack(1, 0, 3);
  },
);

scenario('expire', 'A lease that is not extended ends at its deadline', {}, (d) => {
  d.join(1);
  d.append(...plain(10, 10, 10));
  d.lease(1);
  d.extend(1, 1, 1, 15_000);
  d.expire(9_999);
  d.expire();
  d.commit();
  d.persisted();
  d.lease(1);
  d.expire();
  d.note('The extended one ended, those leased later have not.');
  d.expire(19_999);
  d.expire(20_000);
});

scenario('ordered-nack', 'A nack in the middle of a run takes the rest of the key with it', ORDERING, (d) => {
  d.join(1);
  d.append(...keyed('aabaab'));
  d.lease(1);
  d.note('1 goes back, and with it 3 and 4; 0 is still being processed, and so is key b.');
  d.nack(1, 1);
  d.commit();
  d.persisted();
  d.append(...keyed('ab'));
  d.lease(1);
  d.note('The run has ended: the key goes on, from 1.');
  d.ack(1, 0);
  d.lease(1);
  d.ack(1, 1, 7);
});

scenario(
  'ordered-expiry',
  'Keys of a consumer whose lease expired go to another until it is heard of',
  ORDERING,
  (d) => {
    d.join(1);
    d.append(...keyed('abc'));
    d.lease(1, 2);
    d.join(2);
    d.expire();
    d.commit();
    d.persisted();
    d.lease(1);
    d.lease(2);
    d.note('A late acknowledgement is a sign of life: keys return as they come to an end at 2.');
    d.ack(1, 0);
    d.append(...keyed('abc'));
    d.lease(1);
    d.ack(2, 0, 2);
    d.lease(1);
    d.lease(2);
  },
);

scenario(
  'drain',
  'The keys of a consumer that drains go to others when it has settled them',
  ORDERING,
  (d) => {
    d.join(1);
    d.append(...keyed('abc'));
    d.lease(1);
    d.join(2);
    d.append(...keyed('abc'));
    d.drain(1);
    d.note('Everything is with 1 still: 2 gets nothing.');
    d.lease(2);
    d.ack(1, 0);
    d.lease(2);
    d.note('A message that is given back goes to 2 as well, before what follows it.');
    d.nack(1, 1);
    d.commit();
    d.persisted();
    d.lease(2);
    d.note('It works again: from now on it has its share of the keys.');
    d.drain(1, false);
    d.ack(1, 2);
    d.ack(2, 1);
    d.ack(2, 3, 4);
    d.append(...keyed('abcdefgh'));
    d.lease(1);
    d.lease(2);
  },
);

scenario('leave', 'The keys of a consumer that leaves go to those that stay, in order', ORDERING, (d) => {
  d.join(1);
  d.join(2);
  d.append(...keyed('abcdabcd-'));
  d.lease(1);
  d.lease(2);
  d.leave(1);
  d.commit();
  d.persisted();
  d.lease(2);
  d.ack(2, 0, 8);
});

scenario(
  'slot-move',
  'A slot moves to a consumer that joins when nothing of it is outstanding',
  ORDERING,
  (d) => {
    d.join(1);
    d.append(...keyed('aAb'));
    d.lease(1, 2);
    d.join(2, 77);
    d.join(3, 99);
    d.append(...keyed('aAb'));
    d.note('a and A share a slot that now belongs to another consumer, but both are outstanding at 1.');
    for (const consumer of [1, 2, 3]) d.lease(consumer);
    d.ack(1, 0);
    for (const consumer of [1, 2, 3]) d.lease(consumer);
    d.note('The last of the slot is settled: it has moved.');
    d.ack(1, 1);
    for (const consumer of [1, 2, 3]) d.lease(consumer);
  },
);

scenario(
  'max-run',
  'A key has at most so many messages outstanding; others overtake it',
  { ...ORDERING, maxRun: 2 },
  (d) => {
    d.join(1);
    d.append(...keyed('aaaab'));
    d.lease(1);
    d.ack(1, 0);
    d.lease(1);
  },
);

scenario('late-ack', 'An acknowledgement after the lease settles the message wherever it is', {}, (d) => {
  d.join(1);
  d.join(2);
  d.append(...plain(10, 10, 10, 10));
  d.lease(1);
  d.nack(1, 0, 3);
  d.note('Held, then available, then leased to another, then not at all.');
  d.ack(1, 0);
  d.commit();
  d.persisted();
  d.ack(1, 1);
  d.lease(2);
  d.ack(1, 2);
  d.ack(1, 2);
  d.ack(1, 3, 99);
});

scenario('restart', 'After a restart what the last cursor does not settle is delivered again', {}, (d) => {
  d.join(1);
  d.append(...plain(10, 10, 10, 10, 10, 10));
  d.lease(1);
  d.ack(1, 0);
  d.ack(1, 3);
  d.nack(1, 4);
  d.commit();
  d.note('Acknowledged, but not in the cursor.');
  d.ack(1, 1);
  d.restart();
  d.join(1);
  d.lease(1);
  d.note('An acknowledgement of a delivery before the restart would have been as good.');
  d.ack(1, 1, 5);
});

scenario(
  'restart-with-holes',
  'After a restart at the bound on holes the holes are filled first',
  { maxHoles: 2 },
  (d) => {
    d.join(1);
    d.append(...plain(10, 10, 10, 10));
    d.append(...plain(10, 10));
    d.lease(1, 4);
    d.ack(1, 1);
    d.ack(1, 3);
    d.commit();
    d.lease(1);
    d.restart();
    d.join(1);
    d.lease(1);
    d.ack(1, 0);
    d.lease(1);
  },
);

scenario('trim', 'What retention deletes is settled, whoever has it', ORDERING, (d) => {
  d.join(1);
  d.append(...keyed('aab-'));
  d.append(...keyed('ab'));
  d.lease(1, 2);
  d.nack(1, 1);
  d.trim(1);
  d.trim(4);
  d.commit();
  d.persisted();
  d.lease(1);
});

scenario(
  'credit',
  'Leases end with the credit, and a message that does not fit is not overtaken',
  {},
  (d) => {
    d.join(1);
    d.append(...plain(30, 30, 50, 10));
    d.lease(1, 2);
    d.ack(1, 0);
    d.lease(1, 100, 40);
    d.ack(1, 1);
    d.lease(1, 100, 70);
    d.lease(1, 100, 0);
  },
);

scenario('oversized', 'A message larger than all credit goes alone to a consumer that is idle', {}, (d) => {
  d.join(1);
  d.append(...plain(10, 5_000, 10));
  d.lease(1, 100, 1_000);
  d.ack(1, 0);
  d.lease(1, 100, 1_000);
  d.ack(1, 1);
  d.lease(1, 100, 1_000);
});

scenario('commit-fails', 'What is given back waits for a commit that succeeds', ORDERING, (d) => {
  d.join(1);
  d.append(...keyed('a-b-'));
  d.lease(1);
  d.nack(1, 0, 1);
  d.commit();
  d.note('The commit failed. What is given back meanwhile is in the next one.');
  d.nack(1, 2, 3);
  d.lease(1);
  d.commit();
  d.nack(1, 0, 3);
  d.persisted();
  d.lease(1);
});
