// Calls to an API server: plain HTTPS, server-side apply, kubectl.
import { execFile } from 'node:child_process';
import { request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';

export interface KubeResponse {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the API server answers; tests read few fields
  readonly body: any;
}

export interface KubeRequest {
  readonly token?: string;
  readonly contentType?: string;
}

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

const ESTABLISHED_TIMEOUT_MS = 120_000;
const POLL_MS = 50;
const MAX_KUBECTL_BYTES = 16 * 1024 * 1024;

/** The part of Kube that makes requests. */
export interface Caller {
  request(method: string, path: string, body?: unknown, options?: KubeRequest): Promise<KubeResponse>;
}

export interface Sending {
  readonly token: string;
  readonly ca?: string;
  readonly body?: unknown;
  readonly contentType?: string | undefined;
}

export function send(
  method: string,
  url: string,
  { token, ca, body, contentType }: Sending,
): Promise<KubeResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<KubeResponse>();
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    authorization: `Bearer ${token}`,
    accept: 'application/json',
    ...(text !== undefined && {
      'content-type': contentType ?? 'application/json',
      'content-length': Buffer.byteLength(text),
    }),
  };
  // There is no agent: a connection that is kept open would keep the test process alive.
  const tls = ca === undefined ? { rejectUnauthorized: false } : { ca };
  const call = request(url, { method, headers, agent: false, ...tls }, (response) => {
    let answer = '';
    response.setEncoding('utf8').on('data', (part: string) => {
      answer += part;
    });
    response.once('error', reject);
    response.once('end', () => {
      const isJson = response.headers['content-type']?.startsWith('application/json');
      resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(answer) : answer });
    });
  });
  call.once('error', reject);
  call.end(text);
  return promise;
}

/** Applies an object; waits for a CRD until it is served. Fails with the server's words. */
export async function applyObject(kube: Caller, object: KubeObject): Promise<void> {
  const path = `${await collectionPath(kube, object)}/${object.metadata.name}`;
  const query = '?fieldManager=test&force=true&fieldValidation=Strict';
  const contentType = 'application/apply-patch+yaml';
  await expectOk(kube.request('PATCH', path + query, object, { contentType }));
  if (object.kind !== 'CustomResourceDefinition') return;
  const deadlineMs = performance.now() + ESTABLISHED_TIMEOUT_MS;
  for (;;) {
    const { body } = await expectOk(kube.request('GET', path));
    const conditions: { type: string; status: string }[] = body.status?.conditions ?? [];
    if (conditions.some(({ type, status }) => type === 'Established' && status === 'True')) return;
    if (performance.now() > deadlineMs)
      throw new Error(`${path} is not served: ${JSON.stringify(conditions)}`);
    await delay(POLL_MS);
  }
}

/** The path of an object's collection, found by discovery, so that a test need not know the plural. */
async function collectionPath(kube: Caller, { apiVersion, kind, metadata }: KubeObject): Promise<string> {
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const { body } = await expectOk(kube.request('GET', root));
  const resources: { name: string; kind: string; namespaced: boolean }[] = body.resources;
  const found = resources.find((each) => each.kind === kind && !each.name.includes('/'));
  if (found === undefined) throw new Error(`the API server has no ${kind} in ${apiVersion}`);
  return `${root}${found.namespaced ? `/namespaces/${metadata.namespace ?? 'default'}` : ''}/${found.name}`;
}

export async function expectOk(answer: Promise<KubeResponse>): Promise<KubeResponse> {
  const { status, body } = await answer;
  if (status >= 400) throw new Error(`the API server answered ${status}: ${body?.message ?? body}`);
  return { status, body };
}

export function kubeconfigText(server: string, ca: string, token: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'test',
        cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') },
      },
    ],
    users: [{ name: 'test', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  });
}

export function kubectl(
  binary: string,
  args: readonly string[],
  folder: string,
  input: string | undefined,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  // A HOME of its own: discovery is cached there, and another server's must not be taken.
  const env = { ...process.env, HOME: folder };
  const child = execFile(binary, args, { env, maxBuffer: MAX_KUBECTL_BYTES }, (error, stdout, stderr) => {
    if (error === null) resolve(stdout);
    else
      reject(new Error(`kubectl ${args.slice(2).join(' ')}: ${stderr || error.message}`, { cause: error }));
  });
  child.stdin?.end(input ?? '');
  return promise;
}
