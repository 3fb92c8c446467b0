// The driver's end of the protocol for drivers that run on Node: requests from standard input, answers and
// events to standard output. The process ends when its standard input does.
import { createInterface } from 'node:readline';
import { toFanfareError } from '../../../services/client/errors.ts';
import type { DriverEvent, Operation, Operations, Request } from '../protocol.ts';

/** The answer to each operation, or a promise of it; undefined is answered as {}. */
export type Handlers = { readonly [Op in Operation]: (request: Operations[Op]['request']) => unknown };

export function serve(handlers: Handlers): void {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => void answer(handlers, JSON.parse(line) as Request));
  lines.on('close', () => process.exit(0));
}

export function emit(event: DriverEvent): void {
  write(event);
}

async function answer(handlers: Handlers, request: Request): Promise<void> {
  const { id } = request;
  try {
    const handler = handlers[request.op] as (request: Request) => unknown;
    write({ id, ok: (await handler(request)) ?? {} });
  } catch (error) {
    const { code, message } = toFanfareError(error);
    write({ id, error: { code, message } });
  }
}

function write(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
