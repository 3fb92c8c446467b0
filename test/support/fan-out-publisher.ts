// A publisher process: publishes every stanza of a file, in order, with the client's automatic batching, and
// notes what it was told (history-log.ts). It gets its options as JSON, tells its parent how many messages
// are acknowledged, and goes no further than the parent allows.
import { readFileSync } from 'node:fs';
import { connect } from '../../services/client/client.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';
import type { FanfareError } from '../../services/client/errors.ts';
import type { PublisherOptions } from '../../services/client/publisher.ts';
import { parseStanzas } from './debian-index.ts';
import { HistoryLog } from './history-log.ts';

export interface FanOutPublisherOptions {
  readonly connection: ConnectOptions;
  readonly topic: string;
  readonly inputFile: string;
  readonly historyFile: string;
  readonly batch: NonNullable<PublisherOptions['batch']>;
  readonly maxOutstandingMessages: number;
}

/** From the parent: publish no message from this index on, until told otherwise. */
export interface PublishLimit {
  readonly limit: number;
}

/** To the parent: how many messages are acknowledged. */
export interface PublishProgress {
  readonly told: number;
}

const PROGRESS_EVERY = 100;

const options: FanOutPublisherOptions = JSON.parse(process.argv[2]!);
const history = new HistoryLog(options.historyFile);
const stanzas = parseStanzas(readFileSync(options.inputFile));

let limit = 0;
let allowMore = (): void => {};
process.on('message', (message: PublishLimit) => {
  limit = message.limit;
  allowMore();
});
// The parent process is gone.
const onOrphaned = () => process.exit(1);
process.once('disconnect', onOrphaned);

let told = 0;
function onTold(index: number, messageId: string): void {
  history.add('K', index, messageId);
  told += 1;
  if (told % PROGRESS_EVERY === 0) process.send!({ told } satisfies PublishProgress);
}

const client = connect(options.connection);
const publisher = client.publisher(options.topic, {
  batch: options.batch,
  maxOutstandingMessages: options.maxOutstandingMessages,
  onRetry: () => history.add('R'),
});
for (const [index, { section, payload }] of stanzas.entries()) {
  while (index >= limit) {
    await new Promise<void>((resolve) => {
      allowMore = resolve;
    });
  }
  await publisher.ready();
  history.add('P', index);
  publisher.publish({ data: payload, orderingKey: section }).then(
    ({ messageId }) => onTold(index, messageId),
    (error: FanfareError) => history.add('E', index, error.code),
  );
}
await client.close();
history.close();
process.off('disconnect', onOrphaned);
process.disconnect();
