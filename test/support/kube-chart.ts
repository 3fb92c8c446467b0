// Renders charts/fanfare with a real helm, which kube-tools.ts finds or builds.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import type { KubeObject } from './kube-calls.ts';
import { findKubeTool } from './kube-tools.ts';

export const CHART = join(import.meta.dirname, '../../charts/fanfare');
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export type Values = Readonly<Record<string, unknown>>;

/** The objects of `helm template`, in the order of its output. Fails with helm's words. */
export async function renderChart(values: Values, more: readonly string[] = []): Promise<KubeObject[]> {
  const text = await helm(['template', 'demo', CHART, '--namespace', 'fanfare', ...more], values);
  const objects: unknown[] = parseAllDocuments(text).map((document) => document.toJS());
  return objects.filter((object): object is KubeObject => object !== null);
}

/** Runs helm. Fails with helm's words. */
export async function helm(args: readonly string[], values: Values = {}): Promise<string> {
  const binary = await findKubeTool('helm');
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-helm-'));
  try {
    const file = join(folder, 'values.json');
    await writeFile(file, JSON.stringify(values));
    // Nothing of the user's is seen: no repositories, plugins or cluster.
    const env = { ...process.env, HOME: folder, KUBECONFIG: join(folder, 'none') };
    const options = { env, maxBuffer: MAX_OUTPUT_BYTES };
    const { stdout } = await promisify(execFile)(binary, [...args, '--values', file], options);
    return stdout;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
