// Why a certificate could not be made or read, for people. Thrown by everything in this folder.

export class CertificateError extends Error {
  override readonly name = 'CertificateError';
}
