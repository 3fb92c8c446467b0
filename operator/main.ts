// The operator's process: `node operator/main.ts`, configured by environment variables (config.ts). One of
// several replicas works, the others stand by.
//
//   node operator/main.ts                    until SIGTERM or SIGINT; ends with 1 when the lease is lost
//   node operator/main.ts strip-finalizers   takes its finalizers off all resources, before it is removed
//   node operator/main.ts --help
import { pathToFileURL } from 'node:url';
import { type Config, ConfigError, parseConfig, VARIABLES } from './config.ts';
import { systemClock } from './kube/clock.ts';
import { KubeError } from './kube/errors.ts';
import { kubeTransport, loadKubeConfig } from './kube/transport.ts';
import { createLog } from './log.ts';
import { runOperator } from './run.ts';
import { stripFinalizers } from './strip-finalizers.ts';

const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

/** Returns the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const [command] = argv;
  if (command === '--help' || command === '-h') {
    process.stdout.write(help());
    return EXIT.ok;
  }
  if (argv.length > 1 || (command !== undefined && command !== 'strip-finalizers')) {
    process.stderr.write(`unknown arguments ${argv.join(' ')}\n\n${help()}`);
    return EXIT.usage;
  }
  let config: Config;
  try {
    config = parseConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return EXIT.usage;
  }
  const logger = createLog(config.logLevel, config.logFormat);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      logger.info({ signal }, 'stopping');
      stop.abort(new KubeError(0, 'Stopped', `stopped by ${signal}`));
    });
  }
  const common = { config, clock: systemClock, random: Math.random, logger };
  try {
    const transport = kubeTransport(loadKubeConfig(), systemClock);
    if (command === 'strip-finalizers') {
      const { stripped } = await stripFinalizers({ ...common, transport }, stop.signal);
      logger.info({ stripped }, 'no resource waits for the operator any more');
      return EXIT.ok;
    }
    const ending = await runOperator(
      { ...common, transport, onListening: (ports) => logger.info(ports, 'started') },
      stop.signal,
    );
    logger.info({ ending }, 'ended');
    // A process that lost the lease ends and begins again as a standby: nothing of its reign is left over.
    return ending === 'stopped' ? EXIT.ok : EXIT.failed;
  } catch (error) {
    if (error instanceof KubeError) logger.error({ reason: error.message }, 'the operator cannot go on');
    else logger.error({ error }, 'the operator has failed');
    return EXIT.failed;
  }
}

function help(): string {
  const variables = Object.entries(VARIABLES).map(
    ([name, what]) => `  FANFARE_OPERATOR_${name.padEnd(18)} ${what}`,
  );
  return [
    'Usage: node operator/main.ts [strip-finalizers]',
    '',
    'Makes Topics, Subscriptions and Fanfares of fanfare.dev true in brokers, and scales their consumers. The API server is',
    "that of the pod's service account, or of KUBECONFIG.",
    '',
    "strip-finalizers takes the operator's finalizers off all resources, and stops the operator for five minutes: for the",
    'time before it is removed for good.',
    '',
    ...variables,
    '',
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await main(process.argv.slice(2));
}
