// The Fanfare controller: reads the Secret that a Fanfare names, keeps the link to its broker, and says
// whether it works. Secrets may only be got, not watched, so they are looked at every SECRET_MS (every
// BROKEN_MS while something is wrong), and at once when the broker takes the certificate no more.
import type { Fanfare, FanfareStatus } from '../api/v1alpha1/fanfare.ts';
import type { Reason } from '../api/v1alpha1/reasons.ts';
import { BrokerCallError } from '../broker/admin.ts';
import { CredentialsError, credentialsOf } from '../broker/credentials.ts';
import { kubeTime, type NewCondition } from '../core/conditions.ts';
import { gone, type Result, requeueAfter } from '../kube/controller.ts';
import { KubeError } from '../kube/errors.ts';
import { type KubeObject, SECRETS } from '../kube/objects.ts';
import { type ControllerContext, FANFARE_RESOURCE } from './context.ts';
import type { Latest } from './latest.ts';
import { mergedConditions } from './status-writer.ts';

interface Secret extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

const SECRET_MS = 300_000;
const BROKEN_MS = 30_000;

interface Problem {
  readonly reason: Reason;
  readonly message: string;
}

export function createFanfareReconciler(
  ctx: ControllerContext,
  latest: Latest<Fanfare>,
  isUsed: (key: string) => boolean,
): (key: string, signal: AbortSignal) => Promise<Result> {
  const client = ctx.client('fanfare');

  /**
   * When the client's certificate expires, in milliseconds since 1970; a Problem if the Secret can't be used.
   */
  const connect = async (key: string, fanfare: Fanfare, signal: AbortSignal): Promise<Problem | number> => {
    const { namespace } = fanfare.metadata;
    const { address, tls, project } = fanfare.spec;
    try {
      const secret = await client.get<Secret>(SECRETS, { namespace, name: tls.secretName }, signal);
      if (secret === undefined) throw new CredentialsError('it does not exist');
      const credentials = credentialsOf(secret.data);
      return ctx.links.set(key, { address, serverName: tls.serverName, project, credentials });
    } catch (error) {
      const problem = problemOf(error, tls.secretName);
      if (problem === undefined) throw error;
      ctx.links.fail(key, problem.reason, problem.message);
      return problem;
    }
  };

  return async (key, signal) => {
    const fanfare = latest.get(key);
    if (fanfare === undefined) {
      ctx.links.part(key);
      ctx.links.dropParted(isUsed);
      return gone;
    }
    const connected = await connect(key, fanfare, signal);
    const problem = typeof connected === 'number' ? await reach(ctx, key, signal) : connected;
    const status: FanfareStatus = {
      observedGeneration: fanfare.metadata.generation,
      conditions: mergedConditions(fanfare, conditionsOf(problem), false, ctx.clock.nowMs()),
      project: fanfare.spec.project ?? fanfare.metadata.namespace,
      certificateExpiryTime:
        typeof connected === 'number' ? kubeTime(connected) : fanfare.status?.certificateExpiryTime,
    };
    latest.note(await ctx.status.write(client, FANFARE_RESOURCE, fanfare, status, signal));
    return requeueAfter(problem === undefined ? SECRET_MS : BROKEN_MS, 'low');
  };
}

function conditionsOf(problem: Problem | undefined): NewCondition[] {
  const what =
    problem === undefined
      ? ({ status: 'True', reason: 'Reconciled', message: '' } as const)
      : ({ status: 'False', ...problem } as const);
  return [
    { type: 'Ready', ...what },
    { type: 'Synced', ...what },
  ];
}

async function reach(
  { links }: ControllerContext,
  key: string,
  signal: AbortSignal,
): Promise<Problem | undefined> {
  const link = links.get(key);
  if (link === undefined) return undefined;
  if (link.health.kind === 'up') {
    try {
      await link.admin.reach(signal);
    } catch (error) {
      if (!(error instanceof BrokerCallError) || signal.aborted) throw error;
      link.reportAway(error);
    }
  }
  const { health } = link;
  return health.kind === 'up' ? undefined : { reason: health.reason, message: health.message };
}

/** Undefined: it is nothing that a status could explain. */
function problemOf(error: unknown, secretName: string): Problem | undefined {
  if (error instanceof CredentialsError) {
    return { reason: 'CertificateInvalid', message: `Secret ${secretName}: ${error.message}` };
  }
  if (error instanceof BrokerCallError) return { reason: 'CertificateInvalid', message: error.message };
  if (error instanceof KubeError && error.status === 403) {
    return { reason: 'PermissionDenied', message: `the operator may not read the Secret ${secretName}` };
  }
  return undefined;
}
