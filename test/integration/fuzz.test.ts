import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromBinary } from '@bufbuild/protobuf';
import { type BrokerProcess, startBroker } from '../support/broker.ts';
import { type Beside, startBeside } from '../support/fuzz-beside.ts';
import { FuzzPool, inFlight } from '../support/fuzz-connection.ts';
import { fuzzedFrames, fuzzedRpcs } from '../support/fuzz-requests.ts';
import { attack, fixedAttacks, randomAttack } from '../support/fuzz-raw.ts';
import { seededRandom } from '../support/random.ts';
import { memoryMb } from '../bench/process-stats.ts';
const seed = Number(process.env.SEED ?? 1);
let broker: BrokerProcess;
let beside: Beside;
beforeAll(async () => {
  broker = await startBroker({ args: ['--cache', '16MiB'] });
  beside = await startBeside(broker);
  const c = broker.connect({ project: 'fuzz' });
  await c.admin.createTopic('work');
  await c.admin.createSubscription('work', { topic: 'work' });
  await c.close();
});
test('a', { timeout: 200_000 }, async () => {
  await using pool = new FuzzPool(broker.address, broker.tls);
  for (const rpc of fuzzedRpcs()) {
    const random = seededRandom(seed);
    const ends = new Map<string, number>();
    const t = performance.now();
    const details = new Map<string, string>();
    await inFlight(1000, 100, async (at) => {
      const f = fuzzedFrames(rpc, random);
      const o = await pool.call(rpc.path, f, { dropAfter: rpc.kind === 'server_streaming' ? 1 : Infinity });
      ends.set(o.end, (ends.get(o.end) ?? 0) + 1);
      if (!/OK|INVALID|NOT_FOUND/.test(o.end)) details.set(o.end, o.details + f.toString('hex').slice(0, 100));
      if (o.end === 'OK') for (const m of o.messages) fromBinary(rpc.output, m);
    });
    console.log(rpc.path, Math.round(performance.now() - t), Object.fromEntries(ends), Object.fromEntries(details), memoryMb(broker.pid));
  }
});
test('b', { timeout: 200_000 }, async () => {
  const verdicts = new Map<string, string[]>();
  const random = seededRandom(seed);
  const all = [...fixedAttacks(), ...Array.from({ length: 300 }, () => randomAttack(random))];
  const t = performance.now();
  await inFlight(all.length, 8, async (at) => {
    const v = await attack(broker.address, broker.tls, all[at]!);
    verdicts.set(v, [...(verdicts.get(v) ?? []), all[at]!.name]);
  });
  console.log(performance.now() - t, memoryMb(broker.pid));
  for (const [v, n] of verdicts) console.log(v, n.length, n.filter((n) => !n.startsWith('random fr')).join(' | '));
});
test('end', { timeout: 60_000 }, async () => {
  console.log(await beside.stop());
  console.log(broker.logLines.filter((l) => !l.audit).slice(-20).map(l=>JSON.stringify(l).slice(0,600)));
});
afterAll(async () => { beside[Symbol.dispose](); await broker[Symbol.asyncDispose](); });
