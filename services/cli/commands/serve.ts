// fanfare serve: the broker itself, with flags of its own (services/broker/config.ts).
import { standardOutput } from '../standard-output.ts';

/** `flags` is everything after "serve". Resolves to the exit code when the broker has stopped. */
export async function serve(flags: readonly string[]): Promise<number> {
  const broker = await import('../../broker/main.ts');
  return broker.serve(flags, (text) => standardOutput().write(text));
}
