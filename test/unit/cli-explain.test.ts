// `fanfare explain scale` with a kubectl that says what it is told: how it is asked, and what its failures
// become.
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type CliResult, runCli } from '../support/cli.ts';

// A test runs several commands, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fanfare-explain-'));
});

afterEach(() => rm(dir, { recursive: true }));

interface Answer {
  readonly stdout?: string;
  readonly stderr?: string;
  readonly code?: number;
}

/** Runs the command with a kubectl that answers so, and also returns what kubectl was asked. */
async function explain(args: string, answer: Answer | undefined): Promise<CliResult & { asked: string }> {
  if (answer !== undefined) {
    const path = join(dir, 'kubectl');
    const { stdout = '', stderr = '', code = 0 } = answer;
    await writeFile(join(dir, 'stdout'), stdout);
    await writeFile(join(dir, 'stderr'), stderr);
    const script = `#!/bin/sh\necho "$@" > ${dir}/asked\ncat ${dir}/stdout\ncat ${dir}/stderr >&2\nexit ${code}\n`;
    await writeFile(path, script);
    await chmod(path, 0o755);
  }
  // PATH has nothing but what the script needs: the machine's own kubectl must not be found.
  const bin = answer === undefined ? dir : `${dir}:/bin`;
  const result = await runCli(['explain', 'scale', ...args.split(' ')], { cwd: dir, env: { PATH: bin } });
  const asked = answer === undefined ? '' : await readFile(join(dir, 'asked'), 'utf8');
  return { ...result, asked: asked.trim() };
}

const DECIDED = JSON.stringify({
  metadata: { name: 'invoices', namespace: 'shop' },
  spec: { consumers: {} },
  status: { conditions: [], autoscaling: { desired: 3, current: 3, reason: 'Steady', opinions: [] } },
});

test('asks kubectl for the resource where the flags say, and prints it as a table or JSON', async () => {
  const table = await explain('invoices', { stdout: DECIDED });
  expect(table).toMatchObject({ code: 0, stderr: '' });
  expect(table.asked).toBe('get subscriptions.fanfare.dev invoices -o json --request-timeout=10s');
  expect(table.stdout.toString()).toContain('shop/invoices: 3 replicas desired');
  const flags = '-n shop --kube-context prod --kubeconfig /tmp/some --timeout 1500ms -o json';
  const json = await explain(`invoices ${flags}`, { stdout: DECIDED });
  expect(json.asked).toBe(
    'get subscriptions.fanfare.dev invoices -o json --request-timeout=2s --namespace shop --context prod --kubeconfig /tmp/some',
  );
  expect(JSON.parse(json.stdout.toString())).toMatchObject({
    name: 'invoices',
    desired: 3,
    reason: 'Steady',
  });
});

test.each<[string, Answer | undefined, number, string]>([
  ['without kubectl', undefined, 1, 'kubectl is not in PATH, and it is what reads the cluster: install it'],
  [
    'without such a resource',
    { code: 1, stderr: 'Error from server (NotFound): subscriptions.fanfare.dev "invoices" not found\n' },
    3,
    'not found; is it in another namespace?',
  ],
  [
    'without the CRDs',
    { code: 1, stderr: 'error: the server doesn\'t have a resource type "subscriptions"\n' },
    3,
    'this cluster has no Fanfare operator: install the chart',
  ],
  [
    'without the right to',
    { code: 1, stderr: 'Error from server (Forbidden): subscriptions.fanfare.dev is forbidden: User "x"\n' },
    4,
    'you need "get" on subscriptions.fanfare.dev',
  ],
  [
    'without a kubeconfig',
    {
      code: 1,
      stderr:
        'E1121 memcache.go:265] "Unhandled Error"\nThe connection to the server localhost:8080 was refused - did you specify the right host or port?\n',
    },
    2,
    'there is no kubeconfig: set KUBECONFIG, or give one with --kubeconfig',
  ],
  [
    'without that context',
    { code: 1, stderr: 'error: context "prod" does not exist\n' },
    2,
    'see those that there are with "kubectl config get-contexts"',
  ],
  [
    'without an API server',
    {
      code: 1,
      stderr: 'Unable to connect to the server: dial tcp 10.0.0.1:6443: connect: connection refused\n',
    },
    5,
    'the API server is not there',
  ],
  [
    'with something else',
    { code: 1, stderr: 'warning\nerror: the moon is full\n' },
    1,
    'kubectl: error: the moon is full',
  ],
  ['with no JSON', { stdout: 'hello' }, 1, 'kubectl printed something that is not JSON: hello'],
  [
    'before the operator',
    { stdout: '{"metadata":{"name":"invoices"},"spec":{"consumers":{}}}' },
    1,
    'no operator has looked at invoices yet',
  ],
])('%s it says so in a line', async (_, answer, code, says) => {
  const result = await explain('invoices', answer);
  expect(result.stderr).toContain(says);
  expect(result.stderr.trim().split('\n')).toHaveLength(1);
  expect(result).toMatchObject({ code, stdout: Buffer.alloc(0) });
});
