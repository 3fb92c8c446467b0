// Who is calling: the principal, from the certificate with which the connection was made. And what a
// principal may do: for now, everything.
//
// A principal says what kind of name it is, so that a certificate whose CN looks like someone's URI is not
// taken for it: "spiffe://fanfare/audit" (or another URI), "dns:worker-1.example", "cn:alice", and
// "plaintext" without TLS.
import type { AuthContext } from '@grpc/grpc-js/build/src/auth-context.js';
import { BrokerError } from '../../core/errors.ts';
import { quote } from '../../core/names.ts';
import { printable } from '../../core/printable.ts';

export type Verb = 'create' | 'read' | 'update' | 'delete' | 'publish' | 'consume';

/**
 * Throws PERMISSION_DENIED unless `principal` may do this to `resource`: a full name, projects/{project} for
 * lists, or "cluster".
 */
export type Authorize = (principal: string, verb: Verb, resource: string) => void;

/** Every certificate that the CA signed may do everything, until there are access rules. */
export const authorizeAll: Authorize = () => {};

/** The part of a grpc-js call that identification needs. */
export interface IdentifiableCall {
  getAuthContext(): AuthContext;
}

export const PLAINTEXT_PRINCIPAL = 'plaintext';

/**
 * The principals of calls. Reading the certificate takes 34 µs, so it is done once per connection. The HTTP/2
 * session of a call is not in grpc-js' public types; without it the certificate is just read each time.
 */
export class Identity {
  readonly #plaintext: boolean;
  readonly #bySession = new WeakMap<object, string>();

  /** `plaintext`: the server has no TLS, callers have no certificate. */
  constructor(options: { readonly plaintext: boolean }) {
    this.#plaintext = options.plaintext;
  }

  /** UNAUTHENTICATED if the certificate names nobody. */
  principalOf(call: IdentifiableCall): string {
    if (this.#plaintext) return PLAINTEXT_PRINCIPAL;
    const session = sessionOf(call);
    const known = session && this.#bySession.get(session);
    if (known !== undefined) return known;
    const principal = principalOfCertificate(call.getAuthContext().sslPeerCertificate);
    if (session) this.#bySession.set(session, principal);
    return principal;
  }
}

/**
 * The leaf's URI SAN (SPIFFE first), or else its DNS SAN, or else its CN. UNAUTHENTICATED if there is none,
 * if there are several of SPIFFE, which says that there is one, or if the name has control characters.
 */
export function principalOfCertificate(
  certificate:
    | { readonly subject?: { readonly CN?: unknown }; readonly subjectaltname?: string | undefined }
    | undefined,
): string {
  if (certificate === undefined) {
    throw new BrokerError('UNAUTHENTICATED', 'no client certificate that a trusted CA has signed');
  }
  const principal = nameOf(certificate);
  if (printable(principal) === principal) return principal;
  throw new BrokerError(
    'UNAUTHENTICATED',
    `the client certificate's name has control characters: ${quote(principal)}`,
  );
}

function nameOf(certificate: {
  readonly subject?: { readonly CN?: unknown };
  readonly subjectaltname?: string | undefined;
}): string {
  const names = alternativeNames(certificate.subjectaltname ?? '');
  const uris = names.filter(({ type }) => type === 'URI').map(({ value }) => value);
  const spiffe = uris.filter((each) => /^spiffe:/i.test(each));
  if (spiffe.length > 1) {
    throw new BrokerError(
      'UNAUTHENTICATED',
      `the client certificate has ${spiffe.length} SPIFFE URIs: it must have one`,
    );
  }
  const uri = spiffe[0] ?? uris[0];
  if (uri) return uri;
  const dns = names.find(({ type }) => type === 'DNS')?.value;
  if (dns) return `dns:${dns}`;
  // Several CNs come as an array.
  const [commonName] = [certificate.subject?.CN].flat();
  if (typeof commonName === 'string' && commonName !== '') return `cn:${commonName}`;
  throw new BrokerError(
    'UNAUTHENTICATED',
    'the client certificate names nobody: it needs a URI or DNS subject alternative name, or a common name',
  );
}

/**
 * "URI:spiffe://a/b, DNS:c" → its names. Node writes a value that holds a comma or a quote as a JSON string,
 * so that a certificate can't smuggle in a second name (CVE-2021-44532).
 */
function alternativeNames(text: string): { type: string; value: string }[] {
  const names = text.matchAll(/([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g);
  return [...names].map(([, type = '', value = '']) => ({ type, value: unquoted(value) }));
}

function unquoted(value: string): string {
  if (!value.startsWith('"')) return value;
  try {
    return String(JSON.parse(value));
  } catch (cause) {
    throw new BrokerError('UNAUTHENTICATED', "the client certificate's names can't be read", { cause });
  }
}

/** The HTTP/2 session behind a call that a handler gets, or behind the one that an interceptor sees. */
function sessionOf(call: unknown): object | undefined {
  const { call: inner, stream } = call as { call?: unknown; stream?: { session?: object } };
  return stream?.session ?? (inner as { stream?: { session?: object } } | undefined)?.stream?.session;
}
