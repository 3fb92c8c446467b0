// Reads one resource of the Kubernetes cluster that the user's kubectl talks to.
//
// We run kubectl and have no client of our own: kubectl knows every kind of kubeconfig, login helper and
// proxy, and whoever scales on Kubernetes has it.
import { execFile } from 'node:child_process';
import { CliError, EXIT } from './failure.ts';

export interface KubeFlags {
  readonly namespace?: string;
  readonly kubeContext?: string;
  readonly kubeconfig?: string;
  /** Milliseconds. */
  readonly timeout: number;
}

/** The most that kubectl may print: one resource as JSON has a few MB at most. */
const MAX_BYTES = 16 * 1024 * 1024;
/** How long kubectl itself may take beyond the request. */
const GRACE_MS = 5_000;

/**
 * The resource as the API server has it. CliError if there is none, or if it can't be read, with the reason.
 */
export async function getResource(
  kind: string,
  name: string,
  flags: KubeFlags,
  signal: AbortSignal,
): Promise<unknown> {
  const args = [
    ...[
      'get',
      kind,
      name,
      '-o',
      'json',
      `--request-timeout=${Math.max(1, Math.ceil(flags.timeout / 1_000))}s`,
    ],
    ...(flags.namespace === undefined ? [] : ['--namespace', flags.namespace]),
    ...(flags.kubeContext === undefined ? [] : ['--context', flags.kubeContext]),
    ...(flags.kubeconfig === undefined ? [] : ['--kubeconfig', flags.kubeconfig]),
  ];
  const text = await run(args, flags.timeout + GRACE_MS, signal);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CliError(`kubectl printed something that is not JSON: ${text.slice(0, 200)}`, EXIT.failed, {
      cause,
    });
  }
}

function run(args: readonly string[], timeoutMs: number, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, maxBuffer: MAX_BYTES, signal };
    execFile('kubectl', [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (signal.aborted) reject(new CliError('', EXIT.interrupted));
      else reject(failureOf(error, stderr, timeoutMs));
    });
  });
}

/** What kubectl says, and what to do about it. */
function failureOf(
  error: Error & { code?: string | number | null | undefined; killed?: boolean | undefined },
  stderr: string,
  timeoutMs: number,
): CliError {
  if (error.code === 'ENOENT') {
    return new CliError(
      'kubectl is not in PATH, and it is what reads the cluster: install it (https://kubernetes.io/docs/tasks/tools/)',
    );
  }
  if (error.killed) {
    return new CliError(`kubectl did not answer in ${Math.round(timeoutMs / 1_000)} s`, EXIT.timeout);
  }
  const said = lastLine(stderr) || error.message;
  const known = KNOWN.find(({ pattern }) => pattern.test(stderr));
  return known === undefined
    ? new CliError(`kubectl: ${said}`)
    : new CliError(`${said}; ${known.hint}`, known.exitCode);
}

const KNOWN: readonly { readonly pattern: RegExp; readonly hint: string; readonly exitCode: number }[] = [
  {
    pattern: /doesn't have a resource type|could not find the requested resource/,
    hint: 'this cluster has no Fanfare operator: install the chart, or choose another cluster with --kube-context',
    exitCode: EXIT.notFound,
  },
  {
    pattern: /\(NotFound\)/,
    hint: 'is it in another namespace? see them all with "kubectl get subscriptions.fanfare.dev --all-namespaces"',
    exitCode: EXIT.notFound,
  },
  {
    pattern: /\(Forbidden\)|must be logged in|\(Unauthorized\)/,
    hint: 'you need "get" on subscriptions.fanfare.dev in that namespace',
    exitCode: EXIT.denied,
  },
  {
    pattern: /no configuration has been provided|error loading config file|localhost:8080/,
    hint: 'there is no kubeconfig: set KUBECONFIG, or give one with --kubeconfig',
    exitCode: EXIT.usage,
  },
  {
    pattern: /context .* does not exist/,
    hint: 'see those that there are with "kubectl config get-contexts"',
    exitCode: EXIT.usage,
  },
  {
    pattern: /refused|no such host|Unable to connect|timeout|deadline exceeded/i,
    hint: 'the API server is not there: is this the right cluster? --kube-context chooses another',
    exitCode: EXIT.unavailable,
  },
];

/** The last line is the error: warnings and logs come before it. */
function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}
