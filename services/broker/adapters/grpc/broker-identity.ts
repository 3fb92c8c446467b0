// Who is a broker, by the certificate. Asked by peer.ts (may the caller open a link?) and peer-connector.ts (is it a broker
// that answers?). A broker can speak for everybody's subscriptions, so a client's certificate must never pass for one:
// main.ts says which principals are brokers, and only of them.
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { BrokerError } from '../../core/errors.ts';
import { principalOfCertificate } from './identity.ts';

/** Whether the principal (see identity.ts) is a broker of this cluster. */
export type BrokerPrincipals = (principal: string) => boolean;

/** Undefined if the certificate is for the host and names a broker, else why not. */
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
