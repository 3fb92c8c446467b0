// A subscriber process: notes every message it is handed (history-log.ts), then acknowledges it. It gets its
// options as JSON; SIGTERM ends it in order.
//
// The note is in the file before the acknowledgement is given to the client: whatever the broker may know,
// the history knows too, even if this process is killed.
import { connect } from '../../services/client/client.ts';
import type { ConnectOptions } from '../../services/client/connection.ts';
import type { ReceivedMessage } from '../../services/client/received-message.ts';
import { fingerprintOf, HistoryLog } from './history-log.ts';

export interface FanOutSubscriberOptions {
  readonly connection: ConnectOptions;
  readonly subscription: string;
  readonly historyFile: string;
  /**
   * How it reads. `prompt`: an iterator, acknowledging what came in one turn; `backwards`: the same, the last
   * one first; `late`: the same after a while, so that much is outstanding; `handler`: one handler for each
   * message, several at once.
   */
  readonly mode: 'prompt' | 'backwards' | 'late' | 'handler';
}

const MAX_BATCH = 100;
/**
 * How long the work on a batch seems to take in the mode `late`. Longer than from an ack to the commit of its
 * cursor.
 */
const LATE_MS = 200;

const options: FanOutSubscriberOptions = JSON.parse(process.argv[2]!);
const history = new HistoryLog(options.historyFile);
const client = connect(options.connection);

let brokenStreams = 0;
const onRetry = (): void => {
  brokenStreams += 1;
  history.add('X', brokenStreams);
  history.write();
};
// The parent process is gone.
const onOrphaned = () => process.exit(1);
process.once('disconnect', onOrphaned);

if (options.mode === 'handler') await runHandler();
else await runIterator();
history.close();
process.off('disconnect', onOrphaned);
process.disconnect();

function noteHanded(message: ReceivedMessage): void {
  const { generation, messageId, deliveryAttempt, data, orderingKey } = message;
  history.add('D', generation, messageId, deliveryAttempt, fingerprintOf(data), orderingKey);
}

async function runHandler(): Promise<void> {
  const handle = (message: ReceivedMessage): void => {
    noteHanded(message);
    // The client acknowledges it as soon as the handler returns.
    history.add('A', message.messageId);
    history.write();
  };
  const subscriber = client.subscriber(options.subscription, handle, { onRetry });
  process.once('SIGTERM', () => void client.close());
  await subscriber.closed;
  await client.close();
}

async function runIterator(): Promise<void> {
  const subscription = client.subscribe(options.subscription, { onRetry });
  const unacknowledged = new Set<ReceivedMessage[]>();
  let batch: ReceivedMessage[] = [];
  const acknowledge = (handed: ReceivedMessage[]): void => {
    if (!unacknowledged.delete(handed)) return;
    // What is left undone at the end of its stream must come again.
    const messages = options.mode === 'late' ? handed.filter(({ isStale }) => !isStale) : handed;
    if (options.mode === 'backwards') messages.reverse();
    for (const { messageId } of messages) history.add('A', messageId);
    history.write();
    for (const message of messages) message.ack();
  };
  process.once('SIGTERM', () => {
    for (const messages of unacknowledged) acknowledge(messages);
    void subscription.close();
  });
  for await (const message of subscription) {
    noteHanded(message);
    if (batch.length === 0 || batch.length >= MAX_BATCH) batch = beginBatch();
    batch.push(message);
  }
  await client.close();

  /** Takes what comes in this turn. */
  function beginBatch(): ReceivedMessage[] {
    const begun: ReceivedMessage[] = [];
    unacknowledged.add(begun);
    setImmediate(() => {
      history.write();
      if (batch === begun) batch = [];
      if (options.mode === 'late') setTimeout(() => acknowledge(begun), LATE_MS);
      else acknowledge(begun);
    });
    return begun;
  }
}
