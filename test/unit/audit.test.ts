// The audit: every change that was made has its line; refusals, which anybody can cause, have few; and no
// line is long.
import { expect, test } from 'vitest';
import { Audit, type AuditEntry } from '../../services/broker/audit.ts';
import { auditText, unquoted } from '../../services/broker/core/audit-text.ts';
import { BrokerError } from '../../services/broker/core/errors.ts';
import { parseTopicName } from '../../services/broker/core/names.ts';
import {
  MAX_AUDIT_TEXT_BYTES,
  MAX_REFUSED_PRINCIPALS,
  REFUSAL_BURST,
  REFUSAL_INTERVAL_MS,
  REFUSAL_SUM_MS,
} from '../../services/broker/limits.ts';
import { createAuditLog } from '../../services/broker/log.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

interface Written {
  readonly principal: string;
  readonly resource?: string;
  readonly result: string;
  readonly message?: string;
  readonly refusals?: number;
}

function rig() {
  const clock = new VirtualClock();
  const written: Written[] = [];
  const kept: Written[] = [];
  const audit = new Audit(clock, (fields, isKept) => {
    written.push(fields as Written);
    if (isKept) kept.push(fields as Written);
  });
  const refuse = (principal: string, times = 1): void => {
    for (let i = 0; i < times; i += 1) audit.record({ ...REFUSED, principal });
  };
  return { clock, written, kept, audit, refuse };
}

const REFUSED: AuditEntry = {
  principal: 'mallory',
  verb: 'create',
  resource: 'x',
  result: 'INVALID_ARGUMENT',
  message: 'no',
};

test('10,000 refused changes of one principal are a few lines and a sum; others have theirs', async () => {
  const { clock, written, audit, refuse } = rig();
  refuse('mallory', 10_000);
  refuse('alice');
  expect(written).toHaveLength(REFUSAL_BURST + 1);
  expect(audit.summed).toBe(10_000 - REFUSAL_BURST);
  await clock.advance(REFUSAL_SUM_MS - 1);
  expect(written).toHaveLength(REFUSAL_BURST + 1);
  await clock.advance(1);
  expect(written.slice(REFUSAL_BURST + 1)).toEqual([
    {
      principal: 'mallory',
      result: 'REFUSED',
      refusals: 10_000 - REFUSAL_BURST,
      message: '… and 9,980 more of mallory in the last 10 s',
    },
  ]);
});

test('one more line is written in each interval', async () => {
  const { clock, written, refuse } = rig();
  refuse('mallory', REFUSAL_BURST + 1);
  expect(written).toHaveLength(REFUSAL_BURST);
  await clock.advance(REFUSAL_INTERVAL_MS - 1);
  refuse('mallory');
  expect(written).toHaveLength(REFUSAL_BURST);
  await clock.advance(1);
  refuse('mallory', 2);
  expect(written).toHaveLength(REFUSAL_BURST + 1);
});

test('whoever is refused no longer is forgotten, and then no timer runs', async () => {
  const { clock, written, refuse } = rig();
  refuse('mallory', REFUSAL_BURST + 1);
  await clock.advance(10 * REFUSAL_SUM_MS);
  expect(written).toHaveLength(REFUSAL_BURST + 1);
  expect(clock.timerCount).toBe(0);
  refuse('mallory');
  expect(written).toHaveLength(REFUSAL_BURST + 2);
});

test('no more principals are remembered than that; the others share one sum', async () => {
  const { clock, written, refuse } = rig();
  for (let i = 0; i < MAX_REFUSED_PRINCIPALS; i += 1) refuse(`p-${i}`);
  refuse('late-1', REFUSAL_BURST);
  refuse('late-2', 3);
  refuse('p-0');
  expect(written).toHaveLength(MAX_REFUSED_PRINCIPALS + REFUSAL_BURST + 1);
  await clock.advance(REFUSAL_SUM_MS);
  expect(written.at(-1)).toMatchObject({ principal: 'other principals', refusals: 3 });
});

test('a change that was made is always told, and kept', () => {
  const { written, kept, audit, refuse } = rig();
  refuse('alice', 1_000);
  for (let i = 0; i < 1_000; i += 1)
    audit.record({ principal: 'alice', verb: 'create', resource: `t-${i}`, result: 'OK' });
  expect(kept).toHaveLength(1_000);
  expect(kept[999]).toEqual({ principal: 'alice', verb: 'create', resource: 't-999', result: 'OK' });
  expect(written).toHaveLength(1_000 + REFUSAL_BURST);
});

test('the sum that is left at the end is told', () => {
  const { clock, written, audit, refuse } = rig();
  refuse('mallory', REFUSAL_BURST + 5);
  audit.close();
  expect(written.at(-1)).toMatchObject({ refusals: 5 });
  expect(clock.timerCount).toBe(0);
  audit.close();
  expect(written).toHaveLength(REFUSAL_BURST + 1);
});

test('whatever a caller sends, a line is short, and its texts are escaped once', () => {
  const lines: string[] = [];
  const sink = { write: (line: string) => void lines.push(line) };
  const audit = new Audit(new VirtualClock(), createAuditLog({ level: 'info', format: 'json', sink }));
  for (const character of ['\u0001', '"', '\\', '\ud800', '😀', 'ä', 'a']) {
    const resource = character.repeat(5_000);
    audit.record({ ...REFUSED, principal: resource, resource, message: refusalOf(resource) });
    const line = lines.at(-1)!;
    const bytes = (text: unknown): number => Buffer.byteLength(JSON.stringify(text)) - 2;
    const { audit: entry } = JSON.parse(line);
    for (const text of [entry.principal, entry.resource, entry.message]) {
      expect(bytes(text)).toBeLessThanOrEqual(MAX_AUDIT_TEXT_BYTES);
    }
    expect(bytes(entry.resource)).toBeGreaterThan(MAX_AUDIT_TEXT_BYTES - 12);
    expect(line.length).toBeLessThan(1_200);
    // An escape of the escape would be \\u0001.
    expect(line).not.toContain('\\\\u');
  }
});

test('a text that fits is left as it is, and one byte more is cut', () => {
  const fits = `${'ä'.repeat(149)}xx`;
  expect(auditText(fits, MAX_AUDIT_TEXT_BYTES)).toBe(fits);
  expect(auditText(`${fits}x`, MAX_AUDIT_TEXT_BYTES)).toBe(`${'ä'.repeat(148)}…`);
  expect(unquoted('topic: "a\\u0001b" must be "x"; not " alone')).toBe(
    'topic: “a\u0001b” must be “x”; not " alone',
  );
});

function refusalOf(name: string): string {
  try {
    parseTopicName(name, 'name');
  } catch (error) {
    if (error instanceof BrokerError) return error.message;
  }
  throw new Error('it was taken');
}
