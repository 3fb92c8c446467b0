// The operator's own broker as configuration names it, by the client's rules.
import { parseAddresses } from '../../services/client/address.ts';
import { FanfareError } from '../../services/client/errors.ts';

/** host:port, several with commas between. Undefined: it is none. */
export function brokerAddresses(text: string): string | undefined {
  try {
    return parseAddresses(text).join(',');
  } catch (error) {
    if (error instanceof FanfareError) return undefined;
    throw error;
  }
}
