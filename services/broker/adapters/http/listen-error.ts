// Why a port could not be had, in a sentence that names the flag.
import { BrokerError } from '../../core/errors.ts';

export interface ListenAddress {
  /** An IPv6 address is without brackets. */
  readonly host: string;
  readonly port: number;
}

export function listenError(
  flag: string,
  { host, port }: ListenAddress,
  cause: { readonly code?: string | undefined; readonly message: string },
): BrokerError {
  const why =
    cause.code === 'EADDRINUSE'
      ? 'the port is in use: choose another one, or 0 for a free one'
      : cause.code === 'EACCES'
        ? 'this user may not listen on that port: choose one above 1023'
        : cause.message;
  return new BrokerError('FAILED_PRECONDITION', `${flag} ${host}:${port}: ${why}`, { cause });
}
