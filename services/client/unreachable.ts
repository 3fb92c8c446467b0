// Why a broker can't be reached, in words that say what to do. Pure.
//
// grpc-js keeps only a text of a connection that failed, and no call knows more. So what is known where a
// connection fails goes into that text with its reason in front (markedFailure), explainConnectFailure()
// makes a call's status of it, and unreachableOf() reads it back.
import type { HttpProxy, UnusableProxy } from './proxy.ts';

/** What kind of reason it is, for programs. */
export type UnreachableReason =
  /** Nobody listens there. */
  | 'refused'
  /** No such host, or no answer of DNS. */
  | 'no-host'
  /** No way to the host from here. */
  | 'no-route'
  /** Neither a connection nor a refusal in time. */
  | 'no-answer'
  /** One side does not take the other's certificate: expired, of an unknown CA, for another name. */
  | 'certificate'
  /** TLS against plaintext, or no broker at all. */
  | 'protocol'
  /** The HTTP proxy, not the broker. */
  | 'proxy'
  | 'other';

export interface Unreachable {
  readonly reason: UnreachableReason;
  readonly text: string;
}

/** What is known where a connection is tried. */
export interface ConnectAttempt {
  /** host:port of the broker. */
  readonly address: string;
  readonly proxy: HttpProxy | UnusableProxy | undefined;
  /** This client's certificate; undefined: plaintext. */
  readonly own: OwnCertificate | undefined;
  /** We have ended the connection: after the handshake nothing came for so long. */
  readonly silentMs: number | undefined;
  readonly nowMs: number;
}

export interface OwnCertificate {
  /** "CN=developer" */
  readonly subject: string;
  readonly issuer: string;
  readonly validFromMs: number;
  readonly validToMs: number;
  /** Why newer files are not used. */
  readonly problem: string | undefined;
}

/** What is needed of a peer's certificate, as node gives it. */
export interface PeerCertificateInfo {
  readonly subject?: { readonly CN?: string | string[] };
  readonly issuer?: { readonly CN?: string | string[] };
  readonly valid_from?: string;
  readonly valid_to?: string;
  readonly subjectaltname?: string;
  readonly fingerprint256?: string;
  readonly issuerCertificate?: PeerCertificateInfo;
}

/** A failure whose reason is known where it happened, as an Error whose text grpc-js keeps. */
export function markedFailure({ reason, text }: Unreachable): Error {
  return new Error(`[${reason}] ${text}`);
}

const NOT_CONNECTED = 'No connection established';
const UNRESOLVED = /^Name resolution failed for target/;

/** The details of a call's status, for people if they tell of a connection that failed; else as they are. */
export function explainConnectFailure(details: string, attempt: ConnectAttempt): string {
  const failure = UNRESOLVED.test(details) ? unresolved(attempt) : failureOf(details, attempt);
  if (failure === undefined) return details;
  const { address, proxy } = attempt;
  // With an unusable proxy nothing else that was found counts.
  const isUnusable = proxy?.kind === 'unusable';
  return notConnected(address, isUnusable ? { reason: 'proxy', text: proxy.problem } : failure);
}

/** The text as the details of a status. */
export function notConnected(address: string, { reason, text }: Unreachable): string {
  return `${NOT_CONNECTED} [${reason}]: the broker at ${address} can't be reached: ${text}`;
}

/** Reads back what notConnected() made the details of a status; undefined: the status has another cause. */
export function unreachableOf(details: string): Unreachable | undefined {
  const [, reason, text] = /^No connection established \[([a-z-]+)\]: (.*)$/s.exec(details) ?? [];
  return reason === undefined ? undefined : { reason: reason as UnreachableReason, text: text! };
}

function failureOf(details: string, attempt: ConnectAttempt): Unreachable | undefined {
  const [, lastError] =
    /^No connection established\. Last error: (.*?)\.? ?(?:Resolution note: .*)?$/s.exec(details) ?? [];
  if (lastError === undefined) return undefined;
  const [, reason, text] = /^(?:Error: )?\[([a-z-]+)\] (.*)$/s.exec(lastError) ?? [];
  if (reason !== undefined) return { reason: reason as UnreachableReason, text: text! };
  // grpc-js writes the time behind what failed after TLS and before HTTP/2 was agreed on.
  const [, afterHandshake] = /^(.*) \(\d{4}-[^()]*Z\)$/s.exec(lastError) ?? [];
  if (afterHandshake !== undefined) return endedAfterHandshake(afterHandshake, attempt);
  return connectError(lastError.replace(/^(?:[A-Za-z]*Error(?: \[[A-Z_]+\])?: )/, ''), attempt);
}

/** A failure of TCP: on the way to the proxy, where there is one. */
function connectError(message: string, { proxy }: ConnectAttempt): Unreachable {
  const failure = tcpFailure(message);
  return proxy?.kind === 'proxy' ? throughProxy(proxy, failure.text) : failure;
}

export function throughProxy({ variable, host, port }: HttpProxy, why: string): Unreachable {
  return {
    reason: 'proxy',
    text: `the proxy ${host}:${port} (${variable}) fails: ${why}; name the broker in no_proxy if it needs no proxy`,
  };
}

export function tcpFailure(message: string): Unreachable {
  switch (/\bE[A-Z]{3,}\b/.exec(message)?.[0]) {
    case 'ECONNREFUSED':
      return { reason: 'refused', text: `nobody listens there (${message})` };
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return { reason: 'no-host', text: `there is no such host, or DNS does not answer (${message})` };
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return { reason: 'no-route', text: `there is no way to it from here (${message})` };
    case 'ECONNRESET':
      return { reason: 'other', text: `the connection was closed at once (${message})` };
    case 'ETIMEDOUT':
      return { reason: 'no-answer', text: `no answer from there (${message})` };
    default:
      return { reason: 'other', text: message || 'no reason was given' };
  }
}

function unresolved({ address, proxy }: ConnectAttempt): Unreachable {
  if (proxy?.kind === 'proxy') return throughProxy(proxy, 'there is no such host, or DNS does not answer');
  const host = address.replace(/:\d+$/, '');
  return { reason: 'no-host', text: `there is no host ${host}, or DNS does not answer: is the name right?` };
}

/** The connection ended before the broker said anything: so does node's TLS when it refuses a certificate. */
function endedAfterHandshake(message: string, attempt: ConnectAttempt): Unreachable {
  const { own, silentMs } = attempt;
  if (silentMs !== undefined) return silent(silentMs);
  // grpc-js says only this when there was no error.
  const detail = message === 'Failed to connect' ? '' : ` (${message})`;
  if (own === undefined) {
    return {
      reason: 'protocol',
      text: `what listens there speaks no plaintext gRPC${detail}: a broker with TLS wants certificates, not insecure`,
    };
  }
  return refusedCertificate(
    alertOf(message) ?? `it ended the connection after the TLS handshake${detail}`,
    attempt,
  );
}

export function silent(ms: number): Unreachable {
  return {
    reason: 'no-answer',
    text: `the connection was made, but nothing came on it for ${ms} ms: does a broker listen there?`,
  };
}

/** OpenSSL's words for what the other side has against our certificate. Undefined: it said something else. */
export function alertOf(message: string): string | undefined {
  const [, alert] =
    /alert (unknown ca|bad certificate|unsupported certificate|certificate (?:revoked|expired|unknown|required)|access denied)/.exec(
      message,
    ) ?? [];
  return alert === undefined ? undefined : `it says "${alert}"`;
}

/** The broker does not take this client's certificate. */
export function refusedCertificate(how: string, { own, nowMs }: ConnectAttempt): Unreachable {
  if (own === undefined) return { reason: 'certificate', text: how };
  const newer = own.problem === undefined ? '' : `; the files as they are now are not used: ${own.problem}`;
  const validity = validityProblem(own.validFromMs, own.validToMs, nowMs);
  const text =
    validity === undefined
      ? `it seems not to accept this client's certificate (${own.subject}, issued by ${own.issuer}, valid until ${timeOf(own.validToMs)}): ${how}; use one from a CA that the broker trusts`
      : `this client's certificate (${own.subject}) ${validity}: renew it (${how})`;
  return { reason: 'certificate', text: text + newer };
}

/** What was found wrong with the broker's certificate: `code` is OpenSSL's or node's. */
export function refusedBroker(
  code: string,
  certificate: PeerCertificateInfo,
  expected: { readonly name: string; readonly caSource: string; readonly nowMs: number },
): Unreachable {
  return { reason: 'certificate', text: brokerCertificateProblem(code, certificate, expected) };
}

function brokerCertificateProblem(
  code: string,
  certificate: PeerCertificateInfo,
  { name, caSource, nowMs }: { readonly name: string; readonly caSource: string; readonly nowMs: number },
): string {
  const subject = commonName(certificate.subject);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    for (const [at, each] of chainOf(certificate).entries()) {
      const problem = validityProblem(
        Date.parse(each.valid_from ?? ''),
        Date.parse(each.valid_to ?? ''),
        nowMs,
      );
      const whose =
        at === 0
          ? `the broker's certificate (${subject})`
          : `the CA of the broker's certificate (${commonName(each.subject)})`;
      if (problem !== undefined)
        return `${whose} ${problem}: it must be renewed, or this machine's clock is wrong`;
    }
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `the broker's certificate is not for ${name} but for ${hostNames(certificate)}: connect by such a name, or set tls.serverName to it`;
  }
  if (UNKNOWN_CA.has(code)) {
    return `the broker's certificate (${subject}, issued by ${commonName(certificate.issuer)}) is from no CA in ${caSource}: give the CA that signs this broker`;
  }
  return `the broker's certificate (${subject}) can't be accepted: ${code}`;
}

const UNKNOWN_CA = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'INVALID_CA',
]);
const MAX_CHAIN = 10;
const MAX_NAMES = 10;

/** The certificate, the one that issued it, and so on; a root is its own issuer. */
function chainOf(certificate: PeerCertificateInfo): readonly PeerCertificateInfo[] {
  const chain = [certificate];
  let issuer = certificate.issuerCertificate;
  while (
    issuer !== undefined &&
    issuer.fingerprint256 !== chain.at(-1)!.fingerprint256 &&
    chain.length < MAX_CHAIN
  ) {
    chain.push(issuer);
    issuer = issuer.issuerCertificate;
  }
  return chain;
}

/** The names in a certificate that a host can have, for people. */
function hostNames({ subjectaltname = '' }: PeerCertificateInfo): string {
  const names = [...subjectaltname.matchAll(/(?:^|, )(?:DNS|IP Address):([^,]+)/g)].map(([, name]) => name!);
  if (names.length === 0) return 'no host at all';
  const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : '';
  return names.slice(0, MAX_NAMES).join(', ') + more;
}

function validityProblem(fromMs: number, toMs: number, nowMs: number): string | undefined {
  if (toMs <= nowMs) return `expired on ${timeOf(toMs)}`;
  if (fromMs > nowMs) return `is not valid before ${timeOf(fromMs)}`;
  return undefined;
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}

function commonName(name: { readonly CN?: string | string[] } | undefined): string {
  return name?.CN === undefined ? 'without a name' : `CN=${[name.CN].flat().join(', ')}`;
}
