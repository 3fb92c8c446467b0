// Tasks of one key come one after the other, whether they fail or not, and those of others beside them.
import { expect, test } from 'vitest';
import { SerialByKey } from '../../services/broker/engine/definitions/serial-by-key.ts';

test('a task begins when the one before it of the same key has ended', async () => {
  const serial = new SerialByKey();
  const said: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = serial.run('a', async () => {
    said.push('first begins');
    await gate.promise;
    said.push('first fails');
    throw new Error('as planned');
  });
  const failed = expect(first).rejects.toThrow('as planned');
  const second = serial.run('a', async () => said.push('second'));
  await serial.run('b', async () => said.push('another key'));
  expect(said).toEqual(['first begins', 'another key']);
  gate.resolve();
  await failed;
  await second;
  expect(said).toEqual(['first begins', 'another key', 'first fails', 'second']);
});
