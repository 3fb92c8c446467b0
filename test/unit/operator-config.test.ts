// The operator's configuration: what the chart sets is understood, and all mistakes are reported together.
import { expect, test } from 'vitest';
import { type Config, parseConfig } from '../../operator/config.ts';
import { prettyLine } from '../../operator/log.ts';
import { renderChart } from '../support/kube-chart.ts';

const TLS = {
  FANFARE_OPERATOR_TLS_CERT: '/tls.crt',
  FANFARE_OPERATOR_TLS_KEY: '/tls.key',
  FANFARE_OPERATOR_TLS_CA: '/ca.crt',
};

test('defaults', () => {
  expect(
    parseConfig({
      PATH: '/bin',
      FANFARE_OPERATOR_SERVICE_HOST: '10.0.0.1',
      FANFARE_OPERATOR_PORT: 'tcp://x',
    }),
  ).toMatchObject({
    namespace: 'default',
    address: undefined,
    tls: undefined,
    probesListen: { host: '127.0.0.1', port: 8081 },
    finalizers: true,
    finalizerTimeoutMs: 600_000,
    podDeletionCost: true,
    watchNamespaces: [],
    kedaListen: undefined,
    logLevel: 'info',
    logFormat: 'json',
  } satisfies Partial<Config>);
});

test('all of it', () => {
  const config = parseConfig({
    ...TLS,
    FANFARE_OPERATOR_NAME: 'operator-1',
    FANFARE_OPERATOR_NAMESPACE: 'fanfare',
    FANFARE_OPERATOR_ADDRESS: 'a.svc:7443, [::1]:7443',
    FANFARE_OPERATOR_PROBES_LISTEN: '[::]:8081',
    FANFARE_OPERATOR_LOG_LEVEL: 'debug',
    FANFARE_OPERATOR_LOG_FORMAT: 'pretty',
    FANFARE_OPERATOR_FINALIZERS: 'false',
    FANFARE_OPERATOR_FINALIZER_TIMEOUT: '90s',
    FANFARE_OPERATOR_POD_DELETION_COST: 'false',
    FANFARE_OPERATOR_WATCH_NAMESPACES: 'shop, billing,shop',
    FANFARE_OPERATOR_KEDA_LISTEN: '0.0.0.0:7444',
  });
  expect(config).toEqual({
    name: 'operator-1',
    namespace: 'fanfare',
    address: 'a.svc:7443,[::1]:7443',
    tls: { cert: '/tls.crt', key: '/tls.key', ca: '/ca.crt' },
    probesListen: { host: '::', port: 8081 },
    logLevel: 'debug',
    logFormat: 'pretty',
    finalizers: false,
    finalizerTimeoutMs: 90_000,
    podDeletionCost: false,
    watchNamespaces: ['shop', 'billing'],
    kedaListen: { host: '0.0.0.0', port: 7444 },
  });
  expect(Object.isFrozen(config)).toBe(true);
});

test('all problems together', () => {
  const wrong = () =>
    parseConfig({
      FANFARE_OPERATOR_ADDRESS: 'broker:74430',
      FANFARE_OPERATOR_TLS_CERT: '/tls.crt',
      FANFARE_OPERATOR_FINALIZERS: 'yes',
      FANFARE_OPERATOR_FINALIZER_TIMEOUT: '0s',
      FANFARE_OPERATOR_PROBES_LISTEN: 'x:99999',
      FANFARE_OPERATOR_WATCH_NAMESPACES: 'Shop',
      FANFARE_OPERATOR_ADRESS: 'x:1',
    });
  for (const part of [
    'FANFARE_OPERATOR_ADDRESS is "broker:74430": must be host:port',
    'FANFARE_OPERATOR_TLS_KEY, FANFARE_OPERATOR_TLS_CA missing',
    'FANFARE_OPERATOR_FINALIZERS is "yes": must be true or false',
    'FANFARE_OPERATOR_FINALIZER_TIMEOUT is "0s": must be 1s to 168h',
    'FANFARE_OPERATOR_PROBES_LISTEN is "x:99999"',
    'FANFARE_OPERATOR_WATCH_NAMESPACES is "Shop"',
    'FANFARE_OPERATOR_ADRESS is not known',
  ]) {
    expect(wrong).toThrow(part);
  }
});

test('what the chart sets is understood', { timeout: 120_000 }, async () => {
  const objects = await renderChart({
    operator: { watchNamespaces: ['shop'], keda: { enabled: true }, finalizerTimeoutSeconds: 30 },
  });
  // biome-ignore lint/suspicious/noExplicitAny: a rendered object; the API server checks its shape.
  const spec = (kind: string, name: string): any =>
    objects.find((each) => each.kind === kind && each.metadata.name === name)?.spec;
  const environment = (container: { env: { name: string; value?: string }[] }) =>
    Object.fromEntries(container.env.map(({ name, value = 'from-the-pod' }) => [name, value]));
  const env = environment(spec('Deployment', 'demo-fanfare-operator').template.spec.containers[0]);
  expect(parseConfig(env)).toMatchObject({
    name: 'from-the-pod',
    address: 'demo-fanfare.fanfare.svc:7443',
    finalizerTimeoutMs: 30_000,
    watchNamespaces: ['shop'],
    kedaListen: { port: 7444 },
  });
  const job = spec('Job', 'demo-fanfare-operator-uninstall').template.spec.containers[0];
  expect(job.command.at(-1)).toBe('strip-finalizers');
  expect(parseConfig(environment(job))).toMatchObject({
    namespace: 'from-the-pod',
    watchNamespaces: ['shop'],
  });
});

test('a line for people', () => {
  const line = prettyLine(
    '{"level":"info","time":"2026-01-01T12:03:04.567Z","target":"a b","n":1,"msg":"scaled"}',
  );
  expect(line).toBe('12:03:04.567 info  scaled target="a b" n=1\n');
});
