// fanfare doctor: reads everything that is stored and says what is damaged, or gives up what
// is damaged in one place.
import type { PartitionCheck, StorageDamage } from '../../client/admin-types.ts';
import type { Client } from '../../client/client.ts';
import type { CommonFlags } from '../config.ts';
import { CliError, EXIT } from '../failure.ts';
import { type Columns, formatTable, printText } from '../output.ts';
import { withClient } from '../session.ts';
import { formatCount } from '../units.ts';

export interface DoctorFlags extends CommonFlags {
  readonly skip?: DamagedPlace;
}

/** What `doctor` prints and takes as TOPIC/PARTITION@OFFSET. */
export interface DamagedPlace {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

interface Finding extends StorageDamage {
  readonly topic: string;
  readonly partition: number;
  readonly messages: number;
  /** What --skip takes. */
  readonly place: string;
}

const FINDINGS: Columns<Finding> = {
  place: ({ place }) => place,
  messages: ({ messages }) => messages,
  state: ({ skipped }) => (skipped ? 'given up' : 'stops delivery'),
  reason: ({ reason }) => reason,
};

export async function doctor(
  topics: readonly string[],
  flags: DoctorFlags,
  signal: AbortSignal,
): Promise<void> {
  await withClient(flags, async (client) => {
    if (flags.skip !== undefined) await giveUp(client, flags.skip, flags);
    else await examine(client, topics, flags, signal);
  });
}

async function giveUp(
  client: Client,
  { topic, partition, offset }: DamagedPlace,
  flags: DoctorFlags,
): Promise<void> {
  const { firstOffset, endOffset } = await client.admin.skipDamage(topic, partition, offset);
  const lost = { topic, partition, firstOffset, endOffset, messages: endOffset - firstOffset };
  if (flags.output === 'json') return printText(JSON.stringify(lost, null, 2));
  await printText(
    `gave up ${lost.messages} messages of partition ${partition} of ${topic}, offsets ${firstOffset} to ${endOffset - 1}: they are lost.\n` +
      'Subscriptions go on behind them within some seconds.',
  );
}

async function examine(
  client: Client,
  topics: readonly string[],
  { output }: DoctorFlags,
  signal: AbortSignal,
): Promise<void> {
  const conditions: string[] = [];
  const findings: Finding[] = [];
  let partitions = 0;
  let messages = 0;
  for await (const report of client.admin.checkStorage({ topics, signal })) {
    conditions.push(...report.conditions);
    if (report.partition === undefined) continue;
    partitions += 1;
    messages += report.partition.endOffset - report.partition.headOffset;
    findings.push(...findingsOf(report.partition));
  }
  const open = findings.filter(({ skipped }) => !skipped);
  if (output === 'json') {
    await printText(JSON.stringify({ conditions, partitions, messages, damages: findings }, null, 2));
  } else {
    for (const condition of conditions) await printText(`store: ${condition}`);
    if (findings.length > 0) await printText(formatTable(findings, FINDINGS));
    await printText(summary(partitions, messages, open));
  }
  if (conditions.length === 0 && open.length === 0) return;
  throw new CliError('not all is well: see above', EXIT.failed);
}

function findingsOf({ topic, partition, damages }: PartitionCheck): Finding[] {
  const name = topic.slice(topic.lastIndexOf('/') + 1);
  return damages.map((damage) => ({
    ...damage,
    topic,
    partition,
    messages: damage.endOffset - damage.firstOffset,
    place: `${name}/${partition}@${damage.firstOffset}`,
  }));
}

function summary(partitions: number, messages: number, open: readonly Finding[]): string {
  const read = `${formatCount(messages)} messages in ${formatCount(partitions)} partitions were read`;
  if (open.length === 0) return `${read}: nothing that stops a delivery is damaged.`;
  const lost = open.reduce((sum, each) => sum + each.messages, 0);
  return `${read}; ${formatCount(lost)} in ${open.length} places are not as they were written.

Subscriptions that have not come further stop there; publishing, other partitions and other topics go on.
 1. A backup of the store, or a replica that has not taken the damage over, brings them back.
 2. Else publish them again, if their source still has them, and give up what is stored:
      fanfare doctor --skip ${open[0]!.place}
    Those ${open[0]!.messages} messages are lost then, for every subscription that has not had them.
 3. Retention deletes them in its time.
Look at the disk, too: what has damaged these may damage more.`;
}
