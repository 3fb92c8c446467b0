// The operator's own broker as configuration names it, by the client's rules.
import { parseAddresses } from '../../services/client/address.ts';
import { FanfareError } from '../../services/client/errors.ts';

/** The addresses in `text`, host:port with commas between. Undefined: it is no such list. */
export function brokerAddresses(text: string): string | undefined {
  try {
    return parseAddresses(text).join(',');
  } catch (error) {
    if (error instanceof FanfareError) return undefined;
    throw error;
  }
}
