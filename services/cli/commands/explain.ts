// fanfare explain scale: why a Subscription has as many consumers on Kubernetes as it has, and since when.
import { CliError } from '../failure.ts';
import { getResource, type KubeFlags } from '../kubectl.ts';
import { type OutputFormat, printText } from '../output.ts';
import { type ScaledSubscription, explainScale as textOf, whyUndecided } from '../scale-text.ts';

export interface ExplainFlags extends KubeFlags {
  readonly output: OutputFormat;
}

const RESOURCE = 'subscriptions.fanfare.dev';

export async function explainScale(name: string, flags: ExplainFlags, signal: AbortSignal): Promise<void> {
  const resource = (await getResource(RESOURCE, name, flags, signal)) as ScaledSubscription;
  const undecided = whyUndecided(resource);
  if (undecided !== undefined) throw new CliError(undecided);
  if (flags.output === 'json') {
    const { metadata, status } = resource;
    const { autoscaling, conditions } = status ?? {};
    const { namespace } = metadata;
    await printText(JSON.stringify({ name: metadata.name, namespace, conditions, ...autoscaling }, null, 2));
  } else await printText(textOf(resource, Date.now()));
}
