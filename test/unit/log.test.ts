// The broker's log: JSON and pretty lines, trace ids, errors.
import { expect, test } from 'vitest';
import { createAuditLog, createLog, type LogFormat } from '../../services/broker/log.ts';

function lines(format: LogFormat, traceIds?: () => { traceId: string; spanId: string } | undefined) {
  const written: string[] = [];
  const log = createLog({
    level: 'info',
    format,
    sink: { write: (line) => written.push(line) },
    ...(traceIds && { traceIds }),
  });
  return { written, log };
}

test('a JSON line has time, level, message, fields, and the ids of the active span', () => {
  const { written, log } = lines('json', () => ({ traceId: 't1', spanId: 's1' }));
  log.info({ port: 7443 }, 'listening');
  log.debug('not shown');
  expect(written).toHaveLength(1);
  expect(JSON.parse(written[0]!)).toEqual({
    time: expect.stringMatching(/^\d{4}-.*Z$/),
    level: 'info',
    msg: 'listening',
    port: 7443,
    trace_id: 't1',
    span_id: 's1',
  });
});

test('why the process ends, and changes in the audit, are kept; nothing else is', () => {
  const sorts: string[] = [];
  const options = {
    level: 'info',
    format: 'json',
    sink: { write: (line: string, sort: string) => void sorts.push(`${JSON.parse(line).msg} ${sort}`) },
  } as const;
  const log = createLog(options);
  log.fatal('the end');
  log.error('bad');
  const audit = createAuditLog(options);
  audit({}, true);
  audit({}, false);
  log.info('more');
  expect(sorts).toEqual(['the end kept', 'bad other', 'audit kept', 'audit other', 'more other']);
});

test('a pretty line is one line, whatever its fields hold', () => {
  const { written, log } = lines('pretty', () => undefined);
  log.warn({ name: 'a b', evil: 'x\n12:00 error forged', n: 1, esc: '\u001b[31m' }, 'careful');
  expect(written[0]).toMatch(
    /^\d\d:\d\d:\d\d\.\d{3} warn {2}careful name="a b" evil="x\\n12:00 error forged" n=1 esc="\\u001b\[31m"\n$/,
  );
});

test.each(['json', 'pretty'] as const)('no line of %s can move a cursor or turn the text', (format) => {
  const { written, log } = lines(format);
  const evil = 'a\u001b[2J\u007f\u0085\u009b2J\u2028\u202e';
  log.error({ evil, group: { evil }, error: new Error(evil) }, evil);
  expect(written.join('').replaceAll('\n', '')).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
  expect(written.join('')).toContain('a\\u001b[2J\\u007f\\u0085\\u009b2J\\u2028\\u202e');
  if (format === 'json') expect(JSON.parse(written[0]!)).toMatchObject({ msg: evil, evil });
});

test('an error comes with its stack and cause', () => {
  const { written, log } = lines('pretty');
  log.error({ error: new Error('outer', { cause: new Error('inner') }) }, 'it failed');
  expect(written[0]).toMatch(/error it failed\n {4}Error: outer\n {8}at /);
  expect(written[0]).toContain('inner');
  const json = lines('json');
  json.log.error({ error: new Error('outer', { cause: new Error('inner') }) }, 'it failed');
  expect(JSON.parse(json.written[0]!).error.stack).toContain('inner');
});
