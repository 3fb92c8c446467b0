// The options and help of `fanfare explain`.
import { type Command, Option } from 'commander';
import { examples, WAITING, withOutput } from './program-options.ts';
import { parseDuration } from './units.ts';

export function addExplain(program: Command, signal: AbortSignal): void {
  const explain = program.command('explain').description('Say why something is as it is.');
  examples(
    withOutput(
      explain
        .command('scale')
        .summary("why a subscription's consumers on Kubernetes are as many as they are")
        .description(
          'Show what the operator knows of a Subscription resource, what each scaling rule makes of it, and what came of it and\nsince when. Reads the resource with kubectl, which must be in PATH.',
        )
        .argument('<subscription>', "the resource's name"),
    )
      .option('-n, --namespace <name>', "default: the kubeconfig's")
      .option('--kube-context <name>', "default: the kubeconfig's current one")
      .option('--kubeconfig <file>', 'default: KUBECONFIG, or ~/.kube/config')
      .addOption(
        new Option('--timeout <duration>', 'how long the API server may take')
          .argParser(parseDuration(WAITING))
          .default(10_000, '10s'),
      )
      .action(async (name, flags) =>
        (await import('./commands/explain.ts')).explainScale(name, flags, signal),
      ),
    `$ fanfare explain scale invoices
$ fanfare explain scale invoices -n shop
$ fanfare explain scale invoices -o json | jq '.opinions[] | select(.replicas)'`,
  );
}
