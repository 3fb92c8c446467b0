// Which deliveries of a key may be handled: the table of key-gate.ts, line by line.
import { expect, test } from 'vitest';
import { type GatedDelivery, KeyGate } from '../../services/client/key-gate.ts';

const first = { number: 1, gone: false, incarnation: 0 };
const second = { number: 2, gone: false, incarnation: 0 };

/** "4" is the first delivery of offset 4, "4#3" the third. */
function delivery(text: string, leases = first, orderingKey = 'k', partition = 0): GatedDelivery {
  const [offset, attempt = 1] = text.split('#').map(Number);
  return { offset: offset!, deliveryAttempt: attempt, leases, orderingKey, partition };
}

function gate(...thrownAway: string[]): KeyGate {
  const made = new KeyGate();
  for (const each of thrownAway) made.threwAway(delivery(each));
  return made;
}

/** The deliveries that are let through, of those that come in this order. The others are thrown away. */
function letThrough(by: KeyGate, ...deliveries: string[]): string[] {
  return deliveries.filter((text) => {
    const admitted = by.admits(delivery(text));
    if (!admitted) by.threwAway(delivery(text));
    return admitted;
  });
}

test('nothing later of the key passes before the failed message has come again', () => {
  expect(letThrough(gate('4'), '5', '6', '4#2', '5#2', '6#2')).toEqual(['4#2', '5#2', '6#2']);
});

test('it fails again, however often: what came behind it meanwhile does not pass, whichever attempt it is', () => {
  const failing = gate('4');
  expect(letThrough(failing, '5', '6', '4#2')).toEqual(['4#2']);
  failing.threwAway(delivery('4#2'));
  expect(letThrough(failing, '5#2', '6#2', '4#3')).toEqual(['4#3']);
  failing.threwAway(delivery('4#3'));
  expect(letThrough(failing, '5#3', '6#3', '4#4', '5#4', '6#4')).toEqual(['4#4', '5#4', '6#4']);
  expect(failing.isEmpty).toBe(true);
});

test('what is before the failed message passes, and other keys and partitions do', () => {
  const failing = gate('4');
  expect(letThrough(failing, '3', '2#7')).toEqual(['3', '2#7']);
  expect(failing.admits(delivery('5', first, 'other'))).toBe(true);
  expect(failing.admits(delivery('5', first, 'k', 1))).toBe(true);
  expect(failing.admits(delivery('5'))).toBe(false);
});

test('a message that another consumer has settled is not waited for: what was refused comes again, and passes', () => {
  expect(letThrough(gate('4'), '9', '9#2', '10')).toEqual(['9#2', '10']);
});

test('what was given back behind another failure still holds back what was under way then', () => {
  // 4's lease had run out before it failed: it comes again although 7, still live, is given back behind it.
  expect(letThrough(gate('4', '7'), '4#2', '8', '7#2', '8#2')).toEqual(['4#2', '7#2', '8#2']);
});

test('a broker that has forgotten how often it was gets it back once', () => {
  expect(letThrough(gate('4#3'), '4#3', '4#4')).toEqual(['4#4']);
  expect(letThrough(gate('4#3'), '4', '4#2')).toEqual(['4#2']);
});

test('what is late on another stream changes nothing', () => {
  const moved = new KeyGate();
  moved.threwAway(delivery('4#2', second));
  expect(moved.admits(delivery('4', first))).toBe(false);
  moved.threwAway(delivery('4', first));
  expect(moved.admits(delivery('4#2', second))).toBe(false);
  expect(moved.admits(delivery('4#3', second))).toBe(true);
});

test('with the leases goes all that was thrown away of them: everything comes again, from the first on', () => {
  const interrupted = gate('4');
  interrupted.threwAway(delivery('9', second, 'other'));
  interrupted.forget(first);
  expect(interrupted.admits(delivery('5'))).toBe(true);
  expect(interrupted.admits(delivery('10', second, 'other'))).toBe(false);
  interrupted.threwAway({ ...delivery('5'), leases: { ...first, gone: true } });
  expect(interrupted.admits(delivery('6'))).toBe(true);
});

test('what never comes again is bounded: the keys that have waited for longest are forgotten', () => {
  const waiting = new KeyGate();
  for (let n = 0; n <= 100_000; n++) waiting.threwAway(delivery(String(n), first, `key ${n}`));
  expect(waiting.admits(delivery('5', first, 'key 0'))).toBe(true);
  expect(waiting.admits(delivery('5', first, 'key 1'))).toBe(false);
});
