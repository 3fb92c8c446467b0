// One command's time with a broker: finds it, connects, closes.
import { type Client, connect } from '../client/client.ts';
import { type CommonFlags, resolveContext } from './config.ts';
import { notice } from './notice.ts';

/** Runs a command with a client, which is closed afterwards, whatever happens. */
export async function withClient<Result>(
  flags: CommonFlags,
  run: (client: Client) => Promise<Result>,
): Promise<Result> {
  const { address, project, tls } = await resolveContext(flags);
  const client = connect({
    address,
    project,
    ...(tls === undefined ? { insecure: true } : { tls }),
    callTimeoutMs: flags.timeout,
  });
  try {
    return await run(client);
  } finally {
    await client.close();
  }
}

/** Tells on stderr, once per outage, that a stream is being opened again. */
export function outageReporter(): { onRetry: (error: Error) => void; onAlive: () => void } {
  let isDown = false;
  return {
    onRetry(error) {
      if (!isDown) notice(`fanfare: trying again: ${error.message}`);
      isDown = true;
    },
    onAlive() {
      isDown = false;
    },
  };
}
