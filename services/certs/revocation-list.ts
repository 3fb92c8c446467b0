// Reads lists of revoked certificates, which Node takes and does not show. The library takes 100 ms to load,
// so this file is for import() when there is a list.
import './reflect-metadata.ts';
import type { X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

export interface RevocationList {
  readonly issuer: string;
  /** By then there is to be another one; undefined: it does not say. */
  readonly nextUpdate: Date | undefined;
  /** In hexadecimal digits. */
  readonly serialNumbers: readonly string[];
  isSignedBy(authority: X509Certificate): Promise<boolean>;
}

/** One list as PEM. Throws if it is none. */
export function parseRevocationList(pem: string): RevocationList {
  const list = new x509.X509Crl(pem);
  return {
    issuer: list.issuer,
    nextUpdate: list.nextUpdate,
    serialNumbers: list.entries.map(({ serialNumber }) => serialNumber),
    async isSignedBy(authority) {
      try {
        return await list.verify({ publicKey: new x509.X509Certificate(authority.toString()) });
      } catch {
        // Its key is of another kind.
        return false;
      }
    },
  };
}
