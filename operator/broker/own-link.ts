// The operator's own connection, for resources without a Fanfare. Its certificates are read from files, and
// again every FILES_MS, since they are replaced under us.
import { type Clock, sleep } from '../kube/clock.ts';
import type { Logger } from '../kube/logger.ts';
import { BrokerCallError } from './admin.ts';
import { type CredentialFiles, CredentialsError, readCredentials } from './credentials.ts';
import { type BrokerLinks, OWN } from './links.ts';

export interface OwnLinkOptions {
  readonly links: BrokerLinks;
  readonly address: string;
  readonly files: CredentialFiles;
  readonly clock: Clock;
  readonly logger: Logger;
}

const FILES_MS = 60_000;

/** Keeps the link current until aborted. */
export async function keepOwnLink(options: OwnLinkOptions, signal: AbortSignal): Promise<void> {
  const { links, address, files, clock, logger } = options;
  let said = '';
  while (!signal.aborted) {
    try {
      const credentials = await readCredentials(files);
      links.set(OWN, { address, serverName: undefined, project: undefined, credentials });
      said = '';
    } catch (error) {
      if (!(error instanceof CredentialsError) && !(error instanceof BrokerCallError)) throw error;
      links.fail(OWN, 'CertificateInvalid', `the operator's own certificate: ${error.message}`);
      if (said !== error.message)
        logger.error({ reason: error.message }, "the operator's certificate can't be used");
      said = error.message;
    }
    await sleep(clock, FILES_MS, signal);
  }
}
