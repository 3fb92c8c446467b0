// Why a certificate, a key or a context could not be made or read, in words for people.

export class CertificateError extends Error {
  override readonly name = 'CertificateError';
}
