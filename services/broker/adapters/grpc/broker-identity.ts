// Whether a certificate is a broker's. A broker can speak for everybody's subscriptions, so a client's
// certificate must never pass for one: the configuration says which principals are brokers.
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { BrokerError } from '../../core/errors.ts';
import { principalOfCertificate } from './identity.ts';

/** Whether the principal (see identity.ts) is a broker of this cluster. */
export type BrokerPrincipals = (principal: string) => boolean;

/** Why the certificate is not one for the host that names a broker; undefined if it is. */
export function checkBrokerIdentity(
  host: string,
  certificate: PeerCertificate,
  isBroker: BrokerPrincipals,
): Error | undefined {
  const problem = checkServerIdentity(host, certificate);
  if (problem !== undefined) return problem;
  try {
    const principal = principalOfCertificate(certificate);
    return isBroker(principal) ? undefined : new Error(`${principal} is no broker`);
  } catch (error) {
    if (error instanceof BrokerError) return error;
    throw error;
  }
}
